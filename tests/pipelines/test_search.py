"""Best of N: what is begun, dropped, finished and said; every picture is its seed's own."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

import adhere
from adhere.errors import (
    GuidanceWarning,
    Interrupted,
    ModelError,
    ParameterError,
    PromptError,
)
from adhere.pipelines.search.foreseeing import Foreseen
from adhere.pipelines.search.search import APART, Search, ranked
from adhere.verifiers.scoring import score
from tests import tiny
from tests.families.cases import CASES
from tests.leftovers import nothing_left
from tests.verifying import redness

PROMPT = "a red cat and a blue car"
CALL = {"num_inference_steps": 4, "height": 32, "width": 32}


def found(pipe: Any = None, **options: Any) -> Any:
    options = {"verifier": redness, **CALL, **options}
    return adhere.search(pipe or tiny.sd1(), PROMPT, **options)


def alone(pipe: Any, seed: int) -> Image.Image:
    generator = torch.Generator().manual_seed(seed)
    image: Image.Image = pipe(PROMPT, generator=generator, **CALL).images[0]
    return image


def test_the_best_is_the_best_of_the_finished_and_its_seed_makes_it_alone() -> None:
    pipe = tiny.sd1()
    # One at a time: bits are promised for the same shapes only.
    result = found(pipe, n=5, look_at=1, keep=5, together=1)
    scores = [one.score for one in result.candidates]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 5
    assert sorted(one.seed for one in result.candidates) == [k * APART for k in range(5)]
    for one in result.candidates:
        assert one.picture.tobytes() == alone(pipe, one.seed).tobytes()


def test_most_are_dropped_early_and_passes_are_saved() -> None:
    pipe, calls = tiny.sd1(), []
    pipe.unet.register_forward_hook(lambda *_: calls.append(1))
    result = found(pipe, n=8, look_at=0.3, together=8)
    # 8 candidates for two steps of four, then two finalists for four.
    assert len(calls) == 2 + 4
    assert [one.picture is not None for one in result.candidates] == [True] + [False] * 7
    finalists = [one for one in result.candidates if one.score is not None]
    assert len(finalists) == 2
    foreseen = sorted((one.foreseen for one in result.candidates), reverse=True)
    assert sorted((one.foreseen for one in finalists), reverse=True) == foreseen[:2]


@pytest.mark.parametrize("together", [1, 2, 3, 16])
def test_sub_batches_change_nothing(together: int) -> None:
    whole, parts = found(n=4, together=16), found(n=4, together=together)
    assert [one.seed for one in parts.candidates] == [one.seed for one in whole.candidates]
    for one, other in zip(parts.candidates, whole.candidates, strict=True):
        assert one.foreseen == pytest.approx(other.foreseen, abs=0.5)


def test_no_more_than_so_many_pictures_are_in_a_batch() -> None:
    pipe, rows = tiny.sd1(), []
    pipe.unet.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(len(args[0])), with_kwargs=True
    )
    found(pipe, n=5, together=2)
    assert max(rows) == 2 * 2  # with and without the prompt


def test_guided_candidates_are_guided() -> None:
    pipe, guidance = tiny.sd1(), adhere.Guidance(adhere.SynGen())
    result = found(pipe, n=2, look_at=1, guidance=guidance, together=1)
    best = result.candidates[0]
    with guidance.attach(pipe):
        assert alone(pipe, best.seed).tobytes() == best.picture.tobytes()
    assert alone(pipe, best.seed).tobytes() != best.picture.tobytes()


@pytest.mark.parametrize("make", [tiny.sd1, tiny.sdxl])
def test_further_texts_of_a_call_are_those_of_every_candidate(make: Any) -> None:
    pipe, negative = make(), {"negative_prompt": "a dog", "guidance_scale": 7.5}
    result = found(pipe, n=2, look_at=1, keep=2, **negative)
    best = result.candidates[0]
    generator = torch.Generator().manual_seed(best.seed)
    one = pipe(PROMPT, generator=generator, **CALL, **negative).images[0]
    difference = np.abs(np.asarray(one, float) - np.asarray(best.picture, float))
    assert difference.max() <= 1


def test_negative_texts_in_any_form_are_those_of_every_candidate() -> None:
    pipe = tiny.sd1()
    with torch.no_grad():
        embeds = pipe.encode_prompt("a dog", "cpu", 1, False)[0]
    told: list[dict[str, Any]] = [
        {"negative_prompt": "a dog"},
        {"negative_prompt": ["a dog"]},
        {"negative_prompt_embeds": embeds},
    ]
    one, *others = [found(pipe, n=3, together=3, **negative).to_json() for negative in told]
    for other in others:
        assert other == one


@pytest.mark.parametrize("more", [{"strength": 0.8}, {"padding_mask_crop": 4}], ids=str)
def test_what_begins_from_a_picture_draws_for_every_candidate(more: dict[str, Any]) -> None:
    """Inpainting draws the picture's latents, too, from the generators of as many as it is given:
    the noise of the others would come from another place of their seeds' numbers.
    """
    pipe = diffusers.StableDiffusionInpaintPipeline(
        **tiny.sd1_parts(), requires_safety_checker=False
    )
    pipe.set_progress_bar_config(disable=True)
    picture = Image.effect_noise((32, 32), 80).convert("RGB")
    mask = Image.linear_gradient("L").resize((32, 32))
    call = {**CALL, "image": picture, "mask_image": mask, **more}
    result = adhere.search(pipe, PROMPT, n=3, keep=3, together=3, verifier=redness, **call)
    for one in result.finished:
        generator = torch.Generator().manual_seed(one.seed)
        own = pipe(PROMPT, generator=generator, **call).images[0]
        difference = np.abs(np.asarray(own, float) - np.asarray(one.picture, float))
        assert difference.max() <= 1


@pytest.mark.parametrize("look", [adhere.search, adhere.autopilot])
def test_a_seed_may_be_numpys_and_is_told_as_plain_data(look: Any) -> None:
    one, other = (
        look(tiny.sd1(), "a cat", verifier=redness, seed=seed, **CALL).to_json()
        for seed in (np.int64(3), 3)
    )
    assert json.loads(json.dumps(one)) == other


def test_the_pipeline_is_left_as_it_was() -> None:
    pipe = tiny.sd1()
    with nothing_left(pipe):
        found(pipe, n=3)


@pytest.mark.parametrize("name", CASES)
def test_every_family_is_foreseen(name: str) -> None:
    case = CASES[name]
    result = adhere.search(
        case.make(), "a cat", n=2, verifier=redness, finish=1,
        **{**case.options, "num_inference_steps": 3},
    )  # fmt: skip
    assert all(one.foreseen is not None for one in result.candidates)
    assert len(result.pictures) == 1


# ---- Dropping by attention ---------------------------------------------------


def by_promise(result: Any) -> list[int]:
    return [one.seed for one in sorted(result.candidates, key=lambda one: -one.promise)]


def test_attention_drops_without_a_pass_or_a_preview() -> None:
    pipe, calls, judged = tiny.sd1(), [], []
    pipe.unet.register_forward_hook(lambda *_: calls.append(1))

    def counts(pictures: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        judged.append(len(pictures))
        return redness(pictures, prompts)

    with nothing_left(pipe):
        result = found(pipe, n=6, look_at=0.3, drop_by="attention", together=6, verifier=counts)
    assert len(calls) == 2 + 4
    assert judged == [2]  # the finalists alone
    promises = [one.promise for one in result.candidates]
    assert len({round(one, 6) for one in promises}) == 6
    finalists = {one.seed for one in result.candidates if one.score is not None}
    assert finalists == set(by_promise(result)[:2])
    dropped = [one.seed for one in result.candidates if one.score is None]
    assert dropped == by_promise(result)[2:]


def test_a_promise_is_the_seeds_own_and_so_is_the_picture() -> None:
    pipe = tiny.sd1()
    together = found(pipe, n=3, look_at=0.3, drop_by="both", together=3)
    by_seed = {one.seed: one for one in together.candidates}
    for one in found(pipe, n=3, look_at=0.3, drop_by="both", together=1).candidates:
        assert one.promise == pytest.approx(by_seed[one.seed].promise, abs=1e-5)
        assert one.foreseen is not None
        if one.picture is not None:
            assert one.picture.tobytes() == alone(pipe, one.seed).tobytes()


def test_both_is_the_sum_of_places() -> None:
    looks = {0: (9, 1.0), APART: (7, 5.0), 2 * APART: (8, 2.0), 3 * APART: (1, 9.0)}

    def foreseen(seeds: Sequence[int]) -> list[Foreseen]:
        each = [looks[seed] for seed in seeds]
        return [Foreseen(Image.new("RGB", (4, 4), (red, 0, 0)), said) for red, said in each]

    def drawn(seeds: Sequence[int]) -> list[Image.Image]:
        return [Image.new("RGB", (4, 4)) for _ in seeds]

    how = Search(4, finish=1, drop_by="both")
    # Places from the best: 1 + 4, 3 + 2, 2 + 3, 4 + 1. All alike: the first stays the first.
    assert ranked("a cat", how, redness, 0, foreseen, drawn).candidates[0].seed == 0
    looks[0] = (6, 1.0)  # 3 + 4, 2 + 2, 1 + 3, 4 + 1
    assert [one.seed // APART for one in ranked(
        "a cat", how, redness, 0, foreseen, drawn
    ).candidates] == [1, 2, 3, 0]  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_attention_is_foreseen_in_every_family(name: str) -> None:
    case, pipe = CASES[name], CASES[name].make()
    with nothing_left(pipe):
        result = adhere.search(
            pipe, PROMPT, n=3, verifier=redness, finish=1, drop_by="attention",
            **{**case.options, "num_inference_steps": 3},
        )  # fmt: skip
    promises = [one.promise for one in result.candidates]
    assert all(math.isfinite(one) for one in promises)
    assert len({round(one, 6) for one in promises}) == 3
    (finished,) = result.finished
    assert finished.promise == max(promises)


def test_attention_looks_at_all_nouns_whatever_the_subjects_of_guidance() -> None:
    from adhere.pipelines.studio.request import Request
    from adhere.pipelines.studio.studio import Studio

    studio, how = Studio("toybox"), Search(3, "redness", 0.5, 1, "attention")
    request = Request("a red cat quickly running", seed=5, steps=4, search=how)
    plain, named = studio.generate([request, replace(request, subjects=("running",))])
    assert named.report["search"] == plain.report["search"]
    assert len({one["promise"] for one in named.report["search"]["candidates"]}) == 3


def test_of_a_long_prompt_attention_says_what_is_read_of_it() -> None:
    far = f"a red cat and {'very ' * 20}a blue car"
    whole, cut = (
        adhere.search(tiny.sd1(), text, n=3, verifier=redness, drop_by="attention", **CALL)
        for text in ("a red cat", far)
    )
    assert not whole.notes
    assert cut.notes == ("attention says nothing of 'blue', 'car': the prompt is cut before it",)
    assert len({one.promise for one in cut.candidates}) == 3
    assert all(one.promise is not None for one in cut.candidates)


def test_a_prompt_without_nouns_promises_nothing_and_is_refused() -> None:
    calls: list[int] = []
    pipe = tiny.sd1()
    pipe.unet.register_forward_hook(lambda *_: calls.append(1))
    with pytest.raises(PromptError, match="noun"):
        adhere.search(pipe, "very quickly", n=3, verifier=redness, drop_by="attention", **CALL)
    assert not calls


@pytest.mark.parametrize("look", [adhere.search, adhere.autopilot])
def test_pictures_are_judged_by_what_the_model_reads(look: Any) -> None:
    asked: set[str] = set()

    def hears(pictures: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        asked.update(prompts)
        return redness(pictures, prompts)

    look(tiny.sd1(), "a [red|cat]", verifier=hears, **CALL)
    assert asked == {"a red cat"}


# ---- Failures ----------------------------------------------------------------


@pytest.mark.parametrize("by", ["verifier", "both"])
def test_a_verifier_that_fails_drops_nobody(by: str) -> None:
    asked: list[int] = []

    def fails_once(pictures: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        asked.append(len(pictures))
        if len(asked) == 1:
            raise RuntimeError("out of memory")
        return [float("nan") if len(asked) == 2 else 1.0 for _ in pictures]

    result = found(n=4, verifier=fails_once, look_at=0.3, drop_by=by)
    # All asked together failed, then each was asked alone: the first had no score and was kept.
    first = next(one for one in result.candidates if one.seed == 0)
    assert first.foreseen is None
    assert (first.promise is not None) is (by == "both")
    assert first.score is not None
    assert any("which is kept" in note for note in result.notes)


class Stops:
    """A verifier that something stops when it is asked for the nth time."""

    def __init__(self, at: int, stop: type[BaseException]) -> None:
        self.at, self.stop, self.asked = at, stop, 0

    def __call__(self, pictures: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        self.asked += 1
        if self.asked == self.at:
            raise self.stop
        return redness(pictures, prompts)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize(("at", "finished", "scored"), [(2, 0, 0), (5, 1, 0), (6, 2, 1)])
def test_what_is_finished_outlives_a_stop(
    at: int, finished: int, scored: int, stop: type[BaseException]
) -> None:
    """Four looks, then two finalists."""
    pipe, judged = tiny.sd1(), Stops(at, stop)
    with nothing_left(pipe), pytest.raises(stop) as raised:
        found(pipe, n=4, finish=2, look_at=0.3, together=1, verifier=judged)
    outcome = raised.value.outcome  # type: ignore[attr-defined]
    assert outcome.stopped_by == outcome.to_json()["stopped_by"] == stop.__name__
    assert len(outcome.finished) == finished
    assert sum(one.score is not None for one in outcome.candidates) == scored
    assert len(outcome.candidates) == 4
    for one in outcome.finished:
        assert one.picture.tobytes() == alone(pipe, one.seed).tobytes()


def test_a_later_part_without_memory_leaves_the_earlier_ones() -> None:
    pipe, calls = tiny.sd1(), []

    def no_memory(*_: Any) -> None:
        calls.append(1)
        if len(calls) > 2 * 4 + 1:
            raise MemoryError

    hook = pipe.unet.register_forward_pre_hook(no_memory)
    with pytest.raises(MemoryError) as raised:
        found(pipe, n=6, look_at=1, together=2)
    hook.remove()
    outcome = raised.value.outcome  # type: ignore[attr-defined]
    scores = [one.score for one in outcome.finished]
    assert len(scores) == 4
    assert scores == sorted(scores, reverse=True)
    assert "stopped_by" not in found(pipe, n=1).to_json()


@contextmanager
def memory_for(rows: int, module: Any) -> Iterator[list[int]]:
    """A part of a model of which memory holds no more than so many rows at once; the sizes of what
    it was asked for.
    """
    asked: list[int] = []

    def enters(module: Any, args: Any) -> None:
        asked.append(len(args[0]))
        if asked[-1] > rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    hook = module.register_forward_pre_hook(enters)
    yield asked
    hook.remove()


@pytest.mark.parametrize("part", ["denoiser", "decoder"])
def test_a_part_that_memory_does_not_hold_is_halved_and_it_is_said_once(part: str) -> None:
    """Seven, three, then one at a time: the very pictures that one at a time makes."""
    pipe = tiny.sd1()
    # With and without the prompt; previews and finished pictures.
    module, rows = {"denoiser": (pipe.unet, 2), "decoder": (pipe.vae.decoder, 1)}[part]
    plenty = found(pipe, n=7, keep=2, look_at=0.3, together=1)
    with nothing_left(pipe), memory_for(rows, module) as asked, pytest.warns() as said:
        scarce = found(pipe, n=7, keep=2, look_at=0.3, together=7)
    assert [one for one in asked if one > rows] == [7 * rows, 3 * rows]
    (sentence,) = scarce.notes
    assert sentence.startswith("memory does not hold 7 pictures at once")
    assert [(str(one.message), one.category) for one in said] == [(sentence, GuidanceWarning)]
    assert scarce.to_json()["candidates"] == plenty.to_json()["candidates"]
    for one, other in zip(scarce.pictures, plenty.pictures, strict=True):
        assert one.tobytes() == other.tobytes()


def test_one_picture_that_memory_does_not_hold_is_the_error_itself() -> None:
    pipe = tiny.sd1()
    with (
        nothing_left(pipe),
        memory_for(1, pipe.unet),
        pytest.warns(GuidanceWarning),
        pytest.raises(torch.OutOfMemoryError, match="Tried to allocate 2") as raised,
    ):
        found(pipe, n=4)
    assert "does not hold one picture alone: make it smaller" in raised.value.__notes__[0]
    assert raised.value.outcome.stopped_by == "OutOfMemoryError"  # type: ignore[attr-defined]


@pytest.mark.parametrize("given", [0.5, None, "12", {0: 1.0, 1: 2.0}, {1.0, 2.0}])
def test_what_is_no_list_of_scores_is_none(given: Any) -> None:
    found = score(lambda pictures, prompts: given, [Image.new("RGB", (8, 8))] * 2, ["a", "b"])
    assert all(map(math.isnan, found.scores))
    assert "not one number for each picture" in found.failures[0]


def test_a_verifier_may_do_what_it_likes_with_its_lists() -> None:
    def empties(pictures: list[Image.Image], prompts: list[str]) -> list[float]:
        scores = [1.0 for _ in pictures]
        pictures.clear()
        prompts.clear()
        return scores

    pictures = [Image.new("RGB", (8, 8))] * 2
    assert score(empties, pictures, ["a", "b"]).scores == (1.0, 1.0)  # type: ignore[arg-type]
    assert len(pictures) == 2


def test_a_verifier_that_never_scores_gives_pictures_and_says_so() -> None:
    def breaks(pictures: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        raise KeyError("weights")

    result = found(n=3, verifier=breaks, keep=3)
    assert len(result.pictures) == 3
    assert all(one.score is None for one in result.candidates)
    assert "KeyError: 'weights'" in result.notes[0]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"n": 0}, "candidates=0; give a whole number from 1 on"),
        ({"together": 0}, "together=0 pictures at once; give 1 or more"),
        ({"n": 2, "keep": 3}, "keep=3 of n=2"),
        ({"look_at": 1.5}, "look_at=1.5 is no share"),
        ({"drop_by": "clip"}, "drop_by='clip'; candidates are dropped by: verifier, attention"),
        ({"drop_by": None}, "drop_by=None; candidates are dropped by"),
        ({"drop_by": ["both"]}, "candidates are dropped by"),
        ({"n": 4, "finish": 9}, "finish=9 of 4"),
        ({"verifier": "nope"}, "no verifier is called 'nope'"),
        ({"generator": None}, "leave it out"),
        ({"num_images_per_prompt": 2}, "leave it out"),
        ({"output_type": "latent"}, "leave it out"),
        ({"latents": torch.zeros(1, 4, 16, 16)}, "latents is what the search itself gives"),
        ({"prompt_embeds": torch.zeros(1, 77, 32)}, "prompt_embeds is what the search itself"),
        ({"n": 4, "keep": 1.5}, "keep=1.5 of n=4"),
        ({"together": "2"}, "together='2' pictures at once"),
        ({"look_at": "x"}, "look_at='x' is no share"),
        ({"n": 4, "finish": 1.5}, "finish=1.5 of 4"),
        ({"seed": "a"}, "seed='a' is no seed"),
        ({"seed": 2**64}, "is no seed"),
        ({"verifier": 3}, "verifier=3 is neither a function"),
        ({"guidance": adhere.SynGen()}, "is none; give Guidance"),
    ],
)
def test_what_cannot_be_done_is_said(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        found(**options)


@pytest.mark.parametrize("prompt", [None, ["a cat", "a dog"], 3])
def test_what_is_no_prompt_is_said(prompt: Any) -> None:
    for look in (adhere.search, adhere.autopilot):
        with pytest.raises(ParameterError, match="is no text"):
            look(tiny.sd1(), prompt, verifier=redness, **CALL)


@pytest.mark.parametrize("look", [adhere.search, adhere.autopilot])
def test_markup_that_does_not_parse_is_said(look: Any) -> None:
    pipe = tiny.sd1()
    pipe.unet.register_forward_hook(lambda *_: pytest.fail("something was drawn"))
    with pytest.raises(PromptError, match="is never closed"):
        look(pipe, "a [red|cat", verifier=redness, **CALL)


def test_one_step_cannot_be_foreseen() -> None:
    with pytest.raises(ModelError, match=r"one step shows nothing before its end.*\(look_at=1"):
        found(n=3, num_inference_steps=1)
    assert len(found(n=3, num_inference_steps=1, look_at=1).pictures) == 1


def test_ctrl_c_in_a_verifier_is_no_failure_of_it() -> None:
    def stops(pictures: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        raise KeyboardInterrupt

    pipe = tiny.sd1()
    with nothing_left(pipe), pytest.raises(KeyboardInterrupt):
        found(pipe, n=2, verifier=stops)


# ---- As plain data, and in the studio ----------------------------------------


def test_a_search_is_plain_data() -> None:
    how = Search(16, "min(judge.present, judge.binding)", 0.4, 3)
    assert Search.from_json(how.to_json()) == how
    assert "drop_by" not in how.to_json()  # as in the names of older searches' pictures
    other = Search(16, drop_by="both")
    assert Search.from_json(other.to_json()) == other
    with pytest.raises(ParameterError, match="a search has no 'n'"):
        Search.from_json({"n": 3})


def test_a_request_with_a_search_is_read_back() -> None:
    from adhere.pipelines.studio.request import Request

    request = Request("a cat", search=Search(4))
    assert Request.from_json(request.to_json()) == request
    # Requests without one have the JSON, and so the names of pictures, that they had.
    assert "search" not in Request("a cat").to_json()


@pytest.mark.parametrize("by", ["verifier", "both"])
def test_the_studio_keeps_the_best_and_reports_all(by: str) -> None:
    from adhere.pipelines.studio.request import Request
    from adhere.pipelines.studio.studio import Studio

    studio = Studio("toybox", together=3)
    request = Request("a red cat", seed=5, steps=6, search=Search(5, "judge", 0.5, 2, by))
    picture = studio.generate([request])[0]
    told = picture.report["search"]["candidates"]
    assert picture.request == request
    assert sorted(one["seed"] for one in told) == [5 + k * APART for k in range(5)]
    assert sum(one["finished"] for one in told) == 2
    assert all(("promise" in one) is (by == "both") for one in told)
    again = studio.generate([Request("a red cat", seed=told[0]["seed"], steps=6)])[0]
    difference = torch.tensor(list(again.image.tobytes())).int() - torch.tensor(
        list(picture.image.tobytes())
    )
    assert int(difference.abs().max()) <= 1


def test_the_studio_halves_what_memory_does_not_hold() -> None:
    from adhere.pipelines.studio.request import Request
    from adhere.pipelines.studio.studio import Studio

    studio, how = Studio("toybox", together=4), Search(5, "redness", 0.5, 2)
    request = Request("a red cat", seed=5, steps=6, search=how)
    plenty = studio.generate([request])[0]
    with memory_for(4, studio.pipe.unet) as asked, pytest.warns(GuidanceWarning, match="hold 4"):
        scarce = studio.generate([request])[0]
    assert [one for one in asked if one > 4] == [8]
    assert any("does not hold 4" in note for note in scarce.report["notes"])
    seeds = [
        [one["seed"] for one in made.report["search"]["candidates"]] for made in (plenty, scarce)
    ]
    assert seeds[0] == seeds[1]


def test_an_interrupt_ends_the_search() -> None:
    from adhere.pipelines.studio.request import Request
    from adhere.pipelines.studio.studio import Studio

    asked: list[int] = []

    def soon() -> bool:
        asked.append(1)
        return len(asked) > 3

    with pytest.raises(Interrupted):
        Studio("toybox").generate([Request("a cat", steps=8, search=Search(4))], interrupt=soon)


def test_dropped_candidates_stand_behind_the_finished_best_first() -> None:
    colours = {0: 10, APART: 200, 2 * APART: 90, 3 * APART: 150}

    def drawn(seeds: Sequence[int]) -> list[Image.Image]:
        return [Image.new("RGB", (4, 4), (colours[seed], 0, 0)) for seed in seeds]

    def foreseen(seeds: Sequence[int]) -> list[Foreseen]:
        return [Foreseen(picture) for picture in drawn(seeds)]

    result = ranked("a cat", Search(4, finish=1), redness, 0, foreseen, drawn, together=3)
    assert [one.seed // APART for one in result.candidates] == [1, 3, 2, 0]
    assert [one.score is not None for one in result.candidates] == [True, False, False, False]
