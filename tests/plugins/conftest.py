"""What drives a guide by hand: a run with tokenised prompts and maps made of plain tensors."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from adhere.guides.guide import Prediction, Step
from adhere.guides.maps import Layer, Maps, Read, Site
from adhere.guides.run import Prompt, Run
from adhere.layout.layout import Layout
from adhere.prompt.tokens import Track, tokenise

COLUMNS = 20
WORDS = ["a", "the", "and", "on", "of", "is", "photo", "red", "blue", "green"]
WORDS += ["cat", "dog", "frog", "car", "bird"]


@functools.cache
def tokenizer() -> Any:
    """Like CLIP's: start, end, padding with the end token. Unknown words fall into letters."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = ["<start>", "<end>", "<unknown>", ",", *WORDS]
    tokens += [*letters[1:], *(f"##{letter}" for letter in letters)]
    made = Tokenizer(models.WordPiece({t: i for i, t in enumerate(tokens)}, unk_token="<unknown>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 0), ("<end>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<start>", eos_token="<end>", pad_token="<end>"
    )


@pytest.fixture
def make_run() -> Callable[..., Run]:
    """A run of the given prompts. `cat` is one token; `axe` is three."""

    def make(
        *prompts: str,
        layout: Layout | None = None,
        subjects: tuple[str, ...] | None = None,
        grid: tuple[int, int] = (16, 16),
        tracks: int = 1,
        seeds: Sequence[int] = (),
    ) -> Run:
        given = tuple(Prompt(text, subjects, layout) for text in prompts)
        images = tuple(
            tokenise(
                tokenizer(),
                prompt.plain,
                encoder="tiny",
                length=COLUMNS,
                width=COLUMNS,
                drop_padding=False,
            )
            for prompt in given
        )
        own = tuple(seeds) or tuple(range(len(given)))
        return Run(given, (Track(images),) * tracks, grid, steps=50, family="tiny", seeds=own)

    return make


@pytest.fixture
def make_step() -> Callable[..., Step]:
    """Step `index` of 50, in the middle of the noise."""

    def make(index: int = 0, **changes: Any) -> Step:
        given = {"count": 50, "timestep": 981.0 - 20 * index, "sigma": 1.5, "noise": 0.8} | changes
        return Step(index=index, **given)

    return make


def keep_of(run: Run, images: Sequence[int], track: int = 0) -> Tensor:
    keep = torch.zeros(len(images), COLUMNS, dtype=torch.bool)
    for row, image in enumerate(images):
        keep[row, list(run.tracks[track].images[image].keep)] = True
    return keep


@pytest.fixture
def make_maps() -> Callable[..., Maps]:
    """Maps of one layer with one head for each kind; `cross` is `batch h w tokens`."""

    def make(
        run: Run,
        cross: Tensor,
        own: Tensor | None = None,
        images: Sequence[int] | None = None,
        track: int = 0,
    ) -> Maps:
        grid = (cross.shape[1], cross.shape[2])
        chosen = tuple(range(run.batch)) if images is None else tuple(images)

        def layers(read: Read) -> list[Layer]:
            if read.kind == "cross":
                return [Layer(Site("cross", "cross", grid, 1), cross.flatten(1, 2)[:, None])]
            assert own is not None
            return [Layer(Site("self", "self", grid, 1), own.flatten(3).flatten(1, 2)[:, None])]

        return Maps(chosen, layers, keep_of(run, chosen, track), run, track)

    return make


@dataclass
class FakeLogits:
    """A layer about to attend; it counts how often its logits are asked for."""

    site: Site
    images: tuple[int, ...]
    given: Tensor
    asked: int = 0

    def values(self) -> Tensor:
        self.asked += 1
        return self.given


@pytest.fixture
def make_logits() -> Callable[..., FakeLogits]:
    def make(
        images: Sequence[int], grid: tuple[int, int] = (4, 3), kind: Any = "cross"
    ) -> FakeLogits:
        cells = grid[0] * grid[1]
        generator = torch.Generator().manual_seed(0)
        shape = (len(images), 2, cells, COLUMNS if kind == "cross" else cells)
        values = torch.randn(shape, generator=generator, dtype=torch.float64)
        return FakeLogits(Site("layer", kind, grid, 2), tuple(images), values)

    return make


def random_cross(batch: int, h: int, w: int, seed: int = 0, dtype: Any = torch.float64) -> Tensor:
    """Attention with some contrast: rows over tokens sum to one."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(batch, h, w, COLUMNS, generator=generator, dtype=dtype)
    return logits.softmax(-1)


def random_self(batch: int, h: int, w: int, seed: int = 0, dtype: Any = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(batch, h, w, h * w, generator=generator, dtype=dtype)
    return logits.softmax(-1).unflatten(-1, (h, w))


@pytest.fixture
def cross() -> Callable[..., Tensor]:
    return random_cross


@pytest.fixture
def own() -> Callable[..., Tensor]:
    return random_self


def differences(function: Callable[[Tensor], Tensor], x: Tensor, places: int = 12) -> None:
    """Compare the gradient of a scalar function with central differences at some places."""
    leaf = x.clone().requires_grad_(True)
    (found,) = torch.autograd.grad(function(leaf), [leaf])
    generator = torch.Generator().manual_seed(7)
    order = torch.randperm(x.numel(), generator=generator)[: places // 2]
    steepest = found.abs().flatten().topk(places // 2).indices
    for place in torch.cat([order, steepest]).tolist():
        up, down = x.clone().flatten(), x.clone().flatten()
        up[place] += 1e-6
        down[place] -= 1e-6
        slope = (function(up.view_as(x)) - function(down.view_as(x))) / 2e-6
        assert found.flatten()[place].item() == pytest.approx(slope.item(), rel=1e-4, abs=1e-7)


@pytest.fixture
def check_gradient() -> Callable[..., None]:
    return differences


def random_predictions(count: int, extra: int = 0, batch: int = 2, seed: int = 0) -> list[Any]:
    """What a model might say in some steps, with a guidance scale of 7.5."""
    generator = torch.Generator().manual_seed(seed)

    def one() -> Tensor:
        return torch.randn(batch, 3, 4, 5, generator=generator, dtype=torch.float64)

    return [
        Prediction(one(), one(), tuple(one() for _ in range(extra)), 7.5, one())
        for _ in range(count)
    ]


@pytest.fixture
def make_predictions() -> Callable[..., list[Any]]:
    return random_predictions


def one_image(eps: Any, image: int) -> Any:
    """The predictions of one image of a batch."""
    row = slice(image, image + 1)
    extra = tuple(part[row] for part in eps.extra)
    return Prediction(eps.uncond[row], eps.cond[row], extra, eps.scale, eps.latents[row])


@pytest.fixture
def image_of() -> Callable[..., Any]:
    return one_image


class FakeLook:
    """A first pass that is a smooth function of the noise, other for every image."""

    def __init__(self, run: Run, make_maps: Callable[..., Maps], step: Step) -> None:
        self.run, self.make_maps, self.step = run, make_maps, step
        self.grid, self.seen, self.at = (4, 5), [], set[float]()
        generator = torch.Generator().manual_seed(3)
        size = 2 * 4 * 5
        self.to_cross = 0.5 * torch.randn(size, 20 * COLUMNS, generator=generator).double()
        self.to_self = 0.5 * torch.randn(size, 20 * 20, generator=generator).double()

    def __call__(self, noise: Tensor, images: Sequence[int] | None = None, at: float = 0.0) -> Maps:
        self.at.add(at)
        chosen = tuple(range(self.run.batch)) if images is None else tuple(images)
        assert len(chosen) == len(noise)
        self.seen.append(chosen)
        flat = noise.flatten(1) * (1 + 0.1 * torch.tensor(chosen)[:, None])
        cross = (flat @ self.to_cross).view(-1, *self.grid, COLUMNS).softmax(-1)
        own = (flat @ self.to_self).view(-1, *self.grid, 20).softmax(-1)
        return self.make_maps(self.run, cross, own.unflatten(-1, self.grid), chosen)

    def fresh(self, images: Sequence[int], draw: int) -> Tensor:
        seeds = [torch.Generator().manual_seed(100 * image + draw) for image in images]
        return torch.stack([torch.randn(2, *self.grid, generator=s).double() for s in seeds])


@pytest.fixture
def make_look(make_maps: Callable[..., Maps], make_step: Callable[..., Step]) -> Callable[..., Any]:
    """A look and the given noise of a run."""

    def make(run: Run) -> tuple[FakeLook, Tensor]:
        look = FakeLook(run, make_maps, make_step(0))
        return look, look.fresh(range(run.batch), 0)

    return make


Plane = list[list[float]]


def smoothed(plane: Plane) -> Plane:
    """The published 3x3 kernel with reflected edges, on a list of rows."""
    line = [math.exp(-(d * d)) for d in (-1, 0, 1)]
    total = sum(line) ** 2
    h, w = len(plane), len(plane[0])

    def inside(place: int, size: int) -> int:
        return -place if place < 0 else 2 * (size - 1) - place if place >= size else place

    return [
        [
            sum(
                line[i + 1] * line[j + 1] * plane[inside(y + i, h)][inside(x + j, w)]
                for i in (-1, 0, 1)
                for j in (-1, 0, 1)
            )
            / total
            for x in range(w)
        ]
        for y in range(h)
    ]


def spots_of(
    attention: Tensor, words: Sequence[Sequence[int]], kept: Sequence[int] | None = None
) -> list[Plane]:
    """Smoothed token shares: h w tokens in, a plane for each subject (its strongest piece) out.

    `kept`: the columns of the softmax; all but the first and the last if left out.
    """
    h, w, n = attention.shape
    values = attention.tolist()
    shares = [[[0.0] * n for _ in range(w)] for _ in range(h)]
    for y, x in itertools.product(range(h), range(w)):
        raised = {k: math.exp(100 * values[y][x][k]) for k in kept or range(1, n - 1)}
        for k, value in raised.items():
            shares[y][x][k] = value / sum(raised.values())
    found = []
    for pieces in words:
        maps = [smoothed([[shares[y][x][k] for x in range(w)] for y in range(h)]) for k in pieces]
        found.append(max(maps, key=lambda plane: max(map(max, plane))))
    return found


@pytest.fixture
def slow_smooth() -> Callable[[Plane], Plane]:
    return smoothed


@pytest.fixture
def slow_spots() -> Callable[..., list[Plane]]:
    return spots_of
