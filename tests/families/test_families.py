"""Mechanics on small random models of every transformer family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from adhere import Guidance
from adhere.guides.guide import Guide, Prediction, Step
from adhere.guides.maps import Read
from adhere.guides.run import Run
from adhere.pipelines.families import family_of
from adhere.plugins import PLUGINS
from tests.families.cases import (
    CASES,
    CELLS,
    PROMPTS,
    SIZE,
    Case,
    attention_calls,
    full_softmax,
    shown_calls,
    unconditional_texts,
)
from tests.probes import Energetic, Probe

AttendAndExcite: Any = PLUGINS["attend-and-excite"]

every = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


class Seeing(Guide):
    """Keeps the first maps of every track, cross and self."""

    def __init__(self, reads: Sequence[Read]) -> None:
        self.reads = frozenset(reads)
        self.cross: list[Tensor] = []
        self.own: list[Tensor] = []

    def guides(self, step: Step) -> bool:
        return step.index == 0

    def energy(self, step: Step, maps: Any) -> None:
        self.cross.append(maps.cross().detach())
        if Read("self") in self.reads:
            self.own.append(maps.self().detach())


def seen(case: Case, **call: Any) -> tuple[Seeing, Run, Tensor]:
    reads = [Read("cross"), *([Read("self")] if case.read_self else [])]
    guide = Seeing(reads)
    runs: list[Run] = []

    def start(run: Run) -> Guide:
        runs.append(run)
        return guide

    with Guidance(Probe(start)).attach(case.pipe, record=True) as attached:
        case(**call)
    return guide, runs[0], attached.attention


@every
def test_maps_equal_the_full_softmax(case: Case) -> None:
    """Of the prompts' own rows, on a grid that is not square, in the guided and the own pass."""
    with attention_calls(case.pipe) as calls:
        case(steps=1)
    guide, run, recorded = seen(case, steps=1)
    rows = case.rows(len(PROMPTS))
    grid = run.grid[0] // case_patch(case), run.grid[1] // case_patch(case)

    def expected(which: tuple[int, ...], columns: slice) -> Tensor:
        found = [full_softmax(calls[0][k])[rows][:, case.image][..., columns] for k in which]
        return torch.stack(found).mean(dim=0).unflatten(1, grid)

    cross = expected(case.read, case.text)
    assert guide.cross[0].shape[-1] == cross.shape[-1]
    torch.testing.assert_close(guide.cross[0].double(), cross, rtol=0, atol=1e-5)
    torch.testing.assert_close(recorded[:, 0].double(), cross, rtol=0, atol=1e-5)
    assert float(cross.std()) > 1e-4  # maps that are flat could not be told apart
    if case.read_self:
        own = expected(case.read_self, case.image).unflatten(3, grid)
        torch.testing.assert_close(guide.own[0].double(), own, rtol=0, atol=1e-5)
    # The prompts differ, so their maps do.
    assert not torch.allclose(guide.cross[0][0], guide.cross[0][1], atol=1e-3)


def case_patch(case: Case) -> int:
    return 1 if case.name == "sana" else 2


@every
def test_words_are_found_in_every_track(case: Case) -> None:
    _, run, _ = seen(case, steps=1)
    cat, frog = run.phrase(0, "cat"), run.phrase(1, "red frog")
    assert len(run.tracks) == (2 if case.name == "sd3" else 1)
    if case.cat:
        assert cat.columns == case.cat
    assert all(len(columns) == 2 for columns in frog.columns)
    for track, columns in zip(run.tracks, cat.columns, strict=True):
        assert set(columns) <= set(track.images[0].content) <= set(track.images[0].keep)
        assert max(track.images[0].keep) < track.images[0].width


@every
def test_the_token_found_is_the_token_shown(case: Case) -> None:
    """Two prompts that differ in one word differ in the embeddings of its column most or first."""

    def shown(prompt: str) -> tuple[Tensor, Run]:
        with shown_calls(case.pipe) as calls:
            _, run, _ = seen(case, prompts=[prompt], seeds=[1], steps=1, guided=False)
        call = calls[0]
        return call.get("encoder_hidden_states", call.get("cap_feats"))[0].flatten(0, -2), run

    one, run = shown("a cat")
    other, _ = shown("a dog")
    moved = (one - other).abs().mean(dim=-1)
    for track, columns in zip(run.tracks, run.phrase(0, "cat").columns, strict=True):
        before = [c for c in track.images[0].keep if c < min(columns)]
        assert before
        assert all(moved[c] < moved[list(columns)].max() for c in before)


def double_for_single(monkeypatch: pytest.MonkeyPatch) -> None:
    cast = Tensor.to

    def to(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        wide = [torch.float64 if given is torch.float32 else given for given in args]
        if kwargs.get("dtype") is torch.float32:
            kwargs["dtype"] = torch.float64
        return cast(self, *wide, **kwargs)

    monkeypatch.setattr(Tensor, "float", Tensor.double)
    monkeypatch.setattr(Tensor, "to", to)


@every
def test_the_gradient_equals_finite_differences(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float64; models that compute parts in single precision do them in double here."""
    pipe = case.make().to(torch.float64)
    found: list[tuple[float, float]] = []

    class Checking(Guide):
        reads = frozenset({Read("cross")})

        def initial(self, noise: Tensor, look: Any) -> Tensor:
            with monkeypatch.context() as patches:
                double_for_single(patches)
                self.check(noise, look)
            return noise

        def check(self, noise: Tensor, look: Any) -> None:
            def f(x: Tensor) -> Tensor:
                cross = look(x).cross()
                return (cross[..., 1:3].square().sum() + cross.amax(dim=(1, 2)).sum()).double()

            x = noise.double().clone().requires_grad_(True)
            with torch.enable_grad():
                (slope,) = torch.autograd.grad(f(x), [x])
            generator = torch.Generator().manual_seed(0)
            for _ in range(2):
                way = torch.randn(x.shape, generator=generator, dtype=torch.float64)
                h = 1e-7  # small, for Sana has kinks
                difference = (f(x.detach() + h * way) - f(x.detach() - h * way)) / (2 * h)
                found.append((float((slope * way).sum()), float(difference)))

    with Guidance(Probe(lambda run: Checking())).attach(pipe):
        case(pipe=pipe, steps=1)
    for gradient, difference in found:
        assert gradient == pytest.approx(difference, rel=1e-4)
        assert abs(gradient) > 1e-6


@every
def test_a_batch_is_its_images(case: Case) -> None:
    """Different prompts, two images of each, refined one by one; and each of them alone."""
    recipe = AttendAndExcite(subjects=None, refine_at=(0.0,), thresholds=(0.3,), refinements=1)
    many = 1 if case.mixes_masks else 2  # diffusers shuffles the masks of several prompts there
    seeds = list(range(2 * many))

    def guided(**call: Any) -> Tensor:
        with Guidance(recipe).attach(case.pipe):
            return case(**call)

    together = guided(seeds=seeds, num_images_per_prompt=many)
    assert together.shape[0] == 2 * many
    for k, seed in enumerate(seeds):
        prompt = PROMPTS[k // many]
        alone = guided(prompts=[prompt], seeds=[seed])
        torch.testing.assert_close(together[k : k + 1], alone, rtol=1e-3, atol=1e-3)
        assert not torch.allclose(alone, case(prompts=[prompt], seeds=[seed]), atol=1e-2)


@every
@pytest.mark.parametrize("guided", [True, False], ids=["cfg", "no-cfg"])
def test_switched_off_is_plain(case: Case, guided: bool) -> None:
    plain = case(guided=guided)
    for plugins in ((), (AttendAndExcite(step_size=0.0),)):
        with Guidance(*plugins).attach(case.pipe):
            assert torch.equal(case(guided=guided), plain)
    assert torch.equal(case(guided=guided), plain)


class Other(Guide):
    """Predicts under its own text instead of the prompt."""

    texts = ("a green car",)

    def predict(self, step: Step, eps: Prediction) -> Tensor:
        return eps.extra[0]


@every
def test_a_prediction_takes_the_conditional_half(case: Case) -> None:
    """Exact: with the prediction under another prompt, the picture is that prompt's."""
    with Guidance(Probe(lambda run: Other())).attach(case.pipe):
        changed = case(prompts=["a cat", "a red frog and a dog"])
    wanted = case(prompts=["a green car"] * 2)
    torch.testing.assert_close(changed, wanted, rtol=2e-3, atol=2e-3)
    assert not torch.allclose(changed, case(prompts=["a cat", "a red frog and a dog"]), atol=1e-2)


@every
def test_the_scale_that_a_guide_is_told(case: Case) -> None:
    told: list[Prediction] = []

    class Listening(Guide):
        def predict(self, step: Step, eps: Prediction) -> Tensor:
            told.append(eps)
            return eps.cond

    plain = case(steps=1)
    with Guidance(Probe(lambda run: Listening())).attach(case.pipe):
        assert torch.equal(case(steps=1), plain)
    assert told[0].scale == {"flux": 3.0, "qwen-image": 3.0}.get(case.name, 4.0)
    assert told[0].cond.shape == told[0].uncond.shape
    assert told[0].cond.ndim == 4
    assert not torch.allclose(told[0].cond, told[0].uncond)


@every
def test_a_changed_negative_text_is_shown_as_if_it_had_been_given(case: Case) -> None:
    """Where the halves are called apart, the second call has it; and its mask or length."""
    delayed: Any = PLUGINS["delayed-negative"]
    given = case.negated(case.pipe, ["a big green car and a bird", "a dog"])

    def negatives(**call: Any) -> list[Tensor]:
        """The text that the uncondititional rows of the first step can attend to."""
        with shown_calls(case.pipe) as calls:
            case(steps=1, **call)
        return unconditional_texts(case, calls)

    wanted = negatives(**case.negated(case.pipe, ["", ""]))
    with Guidance(delayed(start=1.0)).attach(case.pipe):
        found = negatives(**given)
    with Guidance(delayed(start=0.0)).attach(case.pipe):
        assert not same(negatives(**given), wanted)
    assert same(found, wanted)


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    shapes = [tensor.shape for tensor in one] == [tensor.shape for tensor in other]
    return shapes and all(torch.allclose(a, b, atol=1e-4) for a, b in zip(one, other, strict=True))


@every
def test_energies_move_the_latents_by_a_share_of_their_size(case: Case) -> None:
    """A published step of 20 moves them by 3 % of their RMS, on the prompt's rows alone."""
    moved: list[Tensor] = []
    guide = Energetic(lambda maps: maps.cross()[..., 2].mean(dim=(1, 2)), step_size=20.0)
    family = family_of(case.pipe)
    latents = type(family).latents

    def watch(self: Any, call: Any, unscaled: Any, batch: int) -> Tensor:
        moved.append(latents(self, call, unscaled, batch))
        return moved[-1]

    with (
        mock.patch.object(type(family), "latents", watch),
        Guidance(Probe(lambda run: guide)).attach(case.pipe),
    ):
        inner = case.pipe.scheduler.step
        seen_by_scheduler: list[Tensor] = []

        def step(output: Any, t: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
            seen_by_scheduler.append(sample.clone())
            return inner(output, t, sample, *args, **kwargs)

        case.pipe.scheduler.step = step
        try:
            case(steps=1)
        finally:
            del case.pipe.scheduler.step
    before = family.as_sample(moved[-1].float(), seen_by_scheduler[0])
    change = (seen_by_scheduler[0] - before).flatten(1)
    share = change.square().mean(dim=1).sqrt() / before.flatten(1).square().mean(dim=1).sqrt()
    torch.testing.assert_close(share, torch.full_like(share, 0.03), rtol=1e-2, atol=0)


@every
def test_the_guided_pass_stops_at_the_last_layer_it_reads(case: Case) -> None:
    pipe, counts = case.pipe, {"first": 0, "last": 0}
    blocks = getattr(pipe.transformer, "transformer_blocks", None) or pipe.transformer.layers
    hooks = [
        block.register_forward_pre_hook(
            lambda *_, where=where: counts.__setitem__(where, counts[where] + 1)
        )
        for where, block in (("first", blocks[0]), ("last", blocks[-1]))
        if len(blocks) > 2
    ]
    hooks = hooks or [
        blocks[0].register_forward_pre_hook(
            lambda *_: counts.__setitem__("first", counts["first"] + 1)
        ),
        pipe.transformer.single_transformer_blocks[0].register_forward_pre_hook(
            lambda *_: counts.__setitem__("last", counts["last"] + 1)
        ),
    ]
    try:
        with Guidance(AttendAndExcite(refinements=0)).attach(pipe):
            case(steps=2, guided=False)
    finally:
        for hook in hooks:
            hook.remove()
    assert counts == {"first": 3, "last": 2}  # one guided step of two


def test_sizes_are_those_of_the_cases() -> None:
    assert SIZE["height"] * SIZE["width"] // 16 == CELLS
