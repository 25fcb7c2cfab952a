"""The methods that change attention, whole runs of every family against a slow and obvious one.

There each text is a row of its own: prompt, regions' texts and negatives go through the unchanged
pipeline as prompts of a batch with the same noise, in double precision. At every attention the
rows' maps are written out over all tokens, with the published mask, and what the picture's cells
get is joined by the published formula and given to all rows. Nothing of the library is in it but
the layout's masks.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from adhere import Guidance
from adhere.layout.layout import Layout, Region
from adhere.plugins import PLUGINS
from tests import tiny
from tests.families.cases import CASES, CELLS, T5
from tests.families.test_extra_texts import NEW, ONE, OTHER

LAYOUT = Layout(
    (
        Region(text=OTHER, box=(0, 0, 0.6, 1), feather=0.2, strength=0.8),
        Region(text="a green car", box=(0.4, 0.3, 1, 1), negative=NEW, strength=1.5, stop=0.6),
    ),
    overlap="share",
    base=0.2,
)
STEPS = 2


# ---- The methods, as their papers have them ----------------------------------


@dataclass
class Seen:
    """A layer's attention of all rows, `Float[rows heads queries keys]`, before the softmax.

    Attributes:
        logits: of the picture's cells; columns that a row may not see are -inf.
        value: of all keys.
        text: where a row's text is among the keys; `picture`: where the cells are, if they are.
        grid: height and width.
    """

    logits: Tensor
    value: Tensor
    text: slice
    picture: slice | None
    grid: tuple[int, int]

    def own(self, row: int, kept: Tensor | None = None) -> Tensor:
        """What the cells get of a row's own text, and of the cells that are kept, if not all."""
        logits = self.logits[row].clone()
        if kept is not None and self.picture is not None:
            logits[:, :, self.picture][:, :, ~kept] = -torch.inf
        return logits.softmax(-1) @ self.value[row]


@dataclass(frozen=True)
class Method:
    """A method, and what it makes of a layer at a step.

    Attributes:
        texts: of the rows behind the prompt's.
        sees: the cells that a row's text sees, on a grid; None for all.
        headless: whether CLIP's first token of a row's text is left out on U-Nets.
    """

    plugin: Any
    texts: tuple[str, ...]
    picture: Callable[[Seen, int], Tensor]
    sees: Callable[[int, tuple[int, int]], Tensor | None] = lambda row, grid: None
    headless: bool = False


def pushed(good: Tensor, bad: Tensor, scale: float, tau: float, alpha: float) -> Tensor:
    """NAG, equations 7 to 10, `Float[heads cells channels]`."""
    away = good + (scale - 1) * (good - bad)
    ratio = away.abs().sum((0, 2)) / good.abs().sum((0, 2))
    shortened = away * torch.where(ratio > tau, tau / ratio, torch.ones_like(ratio))[None, :, None]
    return alpha * shortened + (1 - alpha) * good


def nag(seen: Seen, step: int) -> Tensor:
    return pushed(seen.own(0), seen.own(1), 6.0, 1.2, 0.5)


def vsf(seen: Seen, step: int) -> Tensor:
    """One softmax over [prompt, negative, picture]; in cross attention over the texts alone."""
    bad = seen.logits[1, :, :, seen.text] - 0.3
    logits = torch.cat([seen.logits[0], bad], -1)
    value = torch.cat([seen.value[0], -2.5 * seen.value[1, :, seen.text]], 1)
    return logits.softmax(-1) @ value


def taca(seen: Seen, step: int) -> Tensor:
    if step / STEPS >= 0.5:
        return seen.own(0)
    logits = seen.logits[0].clone()
    logits[:, :, seen.text] *= 3
    return logits.softmax(-1) @ seen.value[0]


def covered(region: int, grid: tuple[int, int]) -> Tensor:
    return LAYOUT.masks(grid)[region].flatten().double()


def regional(seen: Seen, step: int, apart: bool) -> Tensor:
    """Rows: prompt, both regions' texts, the second's negative."""
    loud = [covered(k, seen.grid) * region.strength for k, region in enumerate(LAYOUT.regions)]
    if step / STEPS >= 0.6:  # the second's time is over
        loud[1] = torch.zeros_like(loud[1])
    total = sum(loud).clamp(min=1)
    shares = [0.8 * one / total for one in loud]
    given = []
    for k in range(2):
        kept = covered(k, seen.grid) > 0 if apart else None
        text = seen.own(1 + k, kept)
        given.append(text if k == 0 else pushed(text, seen.own(3, kept), 5.0, 2.5, 0.25))
    parts = [share[None, :, None] * one for share, one in zip(shares, given, strict=True)]
    return (1 - sum(shares))[None, :, None] * seen.own(0) + sum(parts)


def regional_method(apart: bool) -> Method:
    def sees(row: int, grid: tuple[int, int]) -> Tensor | None:
        return covered((0, 1, 1)[row - 1], grid) > 0 if apart else None

    return Method(
        PLUGINS["regional-prompting"](LAYOUT, apart=apart),
        (OTHER, "a green car", NEW),
        functools.partial(regional, apart=apart),
        sees,
    )


METHODS = {
    "regional-prompting": regional_method(apart=True),
    "regional-prompting, not apart": regional_method(apart=False),
    "nag": Method(PLUGINS["nag"](NEW, scale=6.0, tau=1.2, alpha=0.5), (NEW,), nag),
    "vsf": Method(PLUGINS["vsf"](NEW, scale=2.5, offset=0.3), (NEW,), vsf, headless=True),
    "taca": Method(PLUGINS["taca"](gamma=3.0, stop=0.5), (), taca),
}


# ---- A run of rows -----------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Where text and picture are in one call of attention, `(h, w)` its grid.

    `picture` is None in cross attention, `cells` None where text attends to text alone.
    """

    text: slice
    cells: slice | None
    picture: slice | None
    grid: tuple[int, int] = (0, 0)


@dataclass
class Rows:
    """Attention written out, for rows of which the first is the prompt's."""

    method: Method
    place: Callable[[Tensor, Tensor], Place | None]
    shown: Tensor
    """Which of its text columns each row may see, for want of a mask of the model's own."""
    step: int = -1

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        found = self.place(query, key)
        if found is None:
            return kernel(query, key, value, attn_mask=mask)
        logits = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        if mask is not None:
            hidden = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask.bool(), -torch.inf)
            logits = logits + (hidden if mask.dtype == torch.bool else mask)
        words = logits[..., found.text]
        words.masked_fill_(~self.shown[:, None, None, : words.shape[-1]], -torch.inf)
        plain = logits.clone()
        for row in range(1, len(query)):
            sees = None if found.picture is None else self.method.sees(row, found.grid)
            if sees is not None:
                plain[row, :, found.text, found.picture][..., ~sees] = -torch.inf
        output = plain.softmax(-1).nan_to_num() @ value
        if found.cells is None:
            return output
        seen = Seen(logits[:, :, found.cells], value, found.text, found.picture, found.grid)
        output[:, :, found.cells] = self.method.picture(seen, self.step)
        if found.picture is not None:
            # What is neither text nor cell is the picture's filling, which follows the prompt.
            rest = torch.ones(query.shape[2], dtype=torch.bool)
            rest[found.text] = rest[found.cells] = False
            output[:, :, rest] = output[:1, :, rest]
        return output


kernel = F.scaled_dot_product_attention


@contextmanager
def written_out(denoiser: Any, rows: Rows) -> Iterator[None]:
    inside = [False]

    def enter(*_: Any) -> None:
        rows.step += 1
        inside[0] = True

    def leave(*_: Any) -> None:
        inside[0] = False

    def attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if not inside[0]:
            return kernel(query, key, value, *args, **kwargs)
        mask = args[0] if args else kwargs.get("attn_mask")
        return rows.attend(query, key, value, mask)

    hooks = (denoiser.register_forward_pre_hook(enter), denoiser.register_forward_hook(leave))
    F.scaled_dot_product_attention = attention
    try:
        yield
    finally:
        F.scaled_dot_product_attention = kernel
        for hook in hooks:
            hook.remove()


# ---- Families: where text and cells are, written here by hand --------------------

UNETS = ("sd1", "sd2", "sdxl")


@functools.cache
def double(name: str) -> Any:
    pipe = getattr(tiny, name)() if name in UNETS else copy.deepcopy(CASES[name].pipe)
    return pipe.to(torch.float64)


def place(name: str) -> Callable[[Tensor, Tensor], Place | None]:
    case = CASES.get(name)

    def found(query: Tensor, key: Tensor) -> Place | None:
        queries, keys = query.shape[2], key.shape[2]
        if name in UNETS:
            side = math.isqrt(queries)
            return Place(slice(None), slice(None), None, (side, side)) if keys == 77 else None
        if name in ("pixart", "sana"):
            width = 6 if name == "pixart" else math.isqrt(queries // 2)
            grid = (queries // width, width)
            return Place(slice(None), slice(None), None, grid) if keys == T5 else None
        if name == "z-image" and keys == 32:
            return Place(slice(None), None, None)
        if keys == {"sd3": CELLS, "z-image": 64}.get(name):  # of the picture alone
            return None
        assert case is not None
        cells = slice(*case.image.indices(keys))
        return Place(slice(*case.text.indices(keys)), cells, cells, (8, 6))

    return found


def own_tokens(name: str, texts: Sequence[str]) -> list[int] | None:
    """How many columns of each text are no filling; None where the model has a mask for it."""
    pipe = double(name)
    if name in ("flux", "sd3"):
        tokenizer, before = (pipe.tokenizer_2, 0) if name == "flux" else (pipe.tokenizer_3, 77)
        return [before + len(tokenizer(text)["input_ids"]) for text in texts]
    if name in ("flux2", "z-image"):
        chats = [
            pipe.tokenizer.apply_chat_template(
                [{"role": "user", "content": text}],
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=name == "z-image",
            )
            for text in texts
        ]
        return [len(pipe.tokenizer(c, add_special_tokens=False)["input_ids"]) for c in chats]
    if name == "chroma":
        return pipe.encode_prompt(list(texts), max_sequence_length=T5)[2].sum(1).int().tolist()
    return None


def shown(name: str, texts: Sequence[str], headless: bool) -> Tensor:
    """All columns of the prompt, of the other rows those that are no filling."""
    counts = own_tokens(name, texts)
    seen = torch.ones(len(texts), 1000, dtype=torch.bool)
    for row, count in enumerate(counts or ()):
        if row:
            seen[row, count:] = False
    if headless and name in UNETS:
        seen[1:, 0] = False
    return seen


def spoken(name: str, texts: Sequence[str]) -> dict[str, Any]:
    """The texts as prompts of a batch; a pooled vector, where there is one, is the first's."""
    pipe, length = double(name), {"max_sequence_length": T5}
    if name == "flux":
        embeds, pooled, _ = pipe.encode_prompt(list(texts), None, **length)
    elif name == "sd3":
        embeds, _, pooled, _ = pipe.encode_prompt(list(texts), None, None, **length)
    elif name == "sdxl":
        embeds, _, pooled, _ = pipe.encode_prompt(list(texts))
    else:
        return {"prompt": list(texts)}
    return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled[:1].expand(len(texts), -1)}


def options(name: str) -> dict[str, Any]:
    few = {"num_inference_steps": STEPS, "output_type": "latent"}
    if name in UNETS:
        return {**few, "height": 32, "width": 32, "guidance_scale": 1.0}
    return {**few, **CASES[name].options, **CASES[name].off}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("name", [*CASES, *UNETS])
def test_a_run_is_what_the_papers_say(name: str, method: Method) -> None:
    pipe, texts = double(name), (ONE, *method.texts)
    rows = Rows(method, place(name), shown(name, texts, method.headless))
    noise = tiny.generators(*[0] * len(texts))
    denoiser = pipe.unet if name in UNETS else pipe.transformer
    with written_out(denoiser, rows):
        wanted = pipe(**spoken(name, texts), generator=noise, **options(name)).images[:1]
    # Z-Image writes its chat into the list that it is given.
    plain = pipe(prompt=[ONE], generator=tiny.generators(0), **options(name)).images
    with Guidance(method.plugin).attach(pipe):
        found = pipe(prompt=[ONE], generator=tiny.generators(0), **options(name)).images
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(plain, wanted, rtol=1e-2, atol=1e-2)
