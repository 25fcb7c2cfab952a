"""best-of-n, fk-steering and restart: equations against slow and obvious versions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from PIL import Image

from adhere import Guidance
from adhere.errors import ModelError
from adhere.guides.guide import Step, passes_of_preview
from adhere.guides.run import Prompt, Run
from adhere.plugins.choose.best_of_n import BestOfN
from adhere.plugins.choose.diverse import Diverse
from adhere.plugins.choose.fk_steering import FkSteering
from adhere.plugins.choose.restart import Restart
from adhere.plugins.mathematics.particles import copies, kept_in_place
from adhere.verifiers import register
from tests import tiny

PROMPT = "a red cat and a blue car"
SCORES: list[list[float]] = []
"""What the verifier "told" says, call by call."""


def told(pictures: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
    return SCORES.pop(0)


@pytest.fixture(autouse=True)
def _told() -> None:
    register("told", told)
    SCORES.clear()


class Pictures:
    """Candidates that need not be drawn."""

    def pictures(self) -> list[Image.Image]:
        return [Image.new("RGB", (4, 4))] * len(SCORES[0])


def run_of(images: int, per: int) -> Run:
    prompts = [Prompt(PROMPT) for _ in range(images // per)]
    each = tuple(one for one in prompts for _ in range(per))
    return Run(each, (), (8, 8), 10, "sd1")


def at(index: int) -> Step:
    return Step(index, 10, 500.0, 1.0, 0.7)


# ---- Best of N ---------------------------------------------------------------


def test_the_noise_with_the_best_score_is_begun_with() -> None:
    pipe = tiny.sd1()
    plain = tiny.latents(pipe, [PROMPT] * 2, seeds=(0, 1))
    # Draws 0 (their own noises), 1 and 2, for two images each.
    SCORES.extend([[0.1, 0.9], [0.5, 0.2], [0.3, 0.4]])
    guidance = Guidance(BestOfN(verifier="told", candidates=3))
    with guidance.attach(pipe) as attached:
        found = tiny.latents(pipe, [PROMPT] * 2, seeds=(0, 1))
    assert [one["chosen"] for one in told_of(attached, 2)] == [1, 0]
    assert tiny.apart(found[:1], plain[:1]) > 0.1
    torch.testing.assert_close(found[1], plain[1], rtol=0, atol=1e-5)


def told_of(attached: Any, images: int) -> list[dict[str, Any]]:
    return [attached.report.for_image(k)["plugins"]["best-of-n"] for k in range(images)]


def test_passes_are_counted_and_known_beforehand() -> None:
    pipe = tiny.sd1()
    SCORES.extend([[0.0]] * 4)
    plugin = BestOfN(verifier="told", candidates=4, look_at=0.3)
    with Guidance(plugin).attach(pipe) as attached:
        tiny.latents(pipe, PROMPT, steps=10)
    assert attached.report.passes == [4 * passes_of_preview(0.3)]
    assert plugin.extra_passes(10) == 4 * passes_of_preview(0.3)


def test_candidates_together_are_the_same_candidates() -> None:
    plugins = [BestOfN(verifier="redness", candidates=4, together=n) for n in (1, 4)]
    import tests.verifying  # noqa: F401  (registers the name)

    scores = []
    for plugin in plugins:
        with Guidance(plugin).attach(pipe := tiny.sd1()) as attached:
            tiny.latents(pipe, PROMPT, steps=5)
        scores.append(told_of(attached, 1)[0]["scores"])
    assert scores[0] == pytest.approx(scores[1], abs=0.5)


@pytest.mark.parametrize("none", [math.nan, math.inf])
def test_what_has_no_score_takes_nobodys_place(none: float) -> None:
    pipe = tiny.sd1()
    SCORES.extend([[0.1], [none], [0.0]])
    with Guidance(BestOfN(verifier="told", candidates=3)).attach(pipe) as attached:
        found = tiny.latents(pipe, PROMPT)
    assert told_of(attached, 1)[0] == {"scores": [0.1, None, 0.0], "chosen": 0}
    assert any("which is kept" in note for note in attached.report.notes)
    torch.testing.assert_close(found, tiny.latents(pipe, PROMPT), rtol=0, atol=1e-5)


def test_other_pictures_than_the_toyboxs_need_another_verifier() -> None:
    from adhere.errors import ParameterError

    with pytest.raises(ParameterError, match="knows pictures of the toybox only"):
        tiny.latents(tiny.sd1(), PROMPT, guidance=Guidance(BestOfN()))


# ---- Feynman-Kac steering ----------------------------------------------------


def slow_weights(potential: str, strength: float, scores: Sequence[Sequence[float]]) -> list[float]:
    """Weights of one prompt's particles after some scorings, without resampling."""
    found = []
    for own in zip(*scores, strict=True):
        weight = 1.0
        for k, one in enumerate(own):
            gain = {
                "max": max(own[: k + 1]),
                "sum": sum(own[: k + 1]),
                "difference": one - (own[k - 1] if k else 0.0),
            }[potential]
            weight *= math.exp(strength * gain)
        found.append(weight)
    return [one / sum(found) for one in found]


@pytest.mark.parametrize("potential", ["max", "difference", "sum"])
def test_weights_are_products_of_potentials(potential: Any) -> None:
    scores = [[0.1, 0.4, 0.2, 0.3], [0.35, 0.3, 0.2, 0.31], [0.3, 0.5, 0.1, 0.32]]
    guide: Any = FkSteering("told", 0.5, potential).guide(run_of(4, 4))
    for k, row in enumerate(scores):
        SCORES.append(list(row))
        wanted = guide.select(at(2 * k), Pictures())
        assert wanted.parents == (0, 1, 2, 3)  # so weak that nobody is resampled
        expected = slow_weights(potential, 0.5, scores[: k + 1])
        assert guide.weights.softmax(0).tolist() == pytest.approx(expected)


def test_all_weight_on_one_makes_copies_of_it_and_begins_anew() -> None:
    guide: Any = FkSteering("told", 1000.0, fresh=0.25).guide(run_of(8, 4))
    SCORES.append([0.1, 0.9, 0.2, 0.3, 0.5, 0.5, 0.5, 0.5])
    wanted = guide.select(at(2), Pictures())
    assert wanted.parents == (1, 1, 1, 1, 4, 5, 6, 7)  # the second prompt's are all alike
    assert wanted.fresh == (0.25, 0.0, 0.25, 0.25, 0.0, 0.0, 0.0, 0.0)
    assert guide.weights[:4].tolist() == [0, 0, 0, 0]


def test_parents_are_drawn_in_proportion() -> None:
    drawn = []
    for seed in range(300):
        guide: Any = FkSteering("told", 1.0, seed=seed).guide(run_of(8, 8))
        SCORES.append([math.log(v) for v in (60, 30, 1, 1, 1, 1, 1, 1)])
        drawn += guide.select(at(2), Pictures()).parents
    shares = [drawn.count(k) / len(drawn) for k in range(3)]
    assert shares == pytest.approx([60 / 96, 30 / 96, 1 / 96], abs=0.03)


@pytest.mark.parametrize("potential", ["max", "difference", "sum"])
@pytest.mark.parametrize("better", [0.5, -0.5])
def test_a_particle_without_a_score_is_as_good_as_the_others(potential: Any, better: float) -> None:
    """Whatever is better, positive or not, it is neither the best nor the worst for it."""
    guide: Any = FkSteering("told", 0.1, potential).guide(run_of(3, 3))
    SCORES.extend([[better - 0.1, math.nan, better + 0.1], [better, math.nan, better - 0.2]])
    guide.select(at(2), Pictures())
    assert guide.weights.tolist() == pytest.approx([0.1 * (better + k / 10) for k in (-1, 0, 1)])
    guide.select(at(4), Pictures())
    assert guide.weights.softmax(0).tolist() == pytest.approx(
        slow_weights(potential, 0.1, [[better - 0.1, better, better + 0.1],
                                      [better, better - 0.1, better - 0.2]])
    )  # fmt: skip
    assert guide.report()["scores"][1] == [better, None, better - 0.2]


def test_a_picture_without_a_score_is_kept_and_not_copied() -> None:
    guide: Any = FkSteering("told", 1000.0).guide(run_of(4, 4))
    SCORES.append([0.1, math.nan, 0.2, 0.9])
    assert guide.select(at(2), Pictures()).parents == (3, 1, 3, 3)
    assert guide.weights.tolist() == [0, 0, 0, 0]


def test_where_nothing_has_a_score_all_go_on_and_the_next_look_is_the_first() -> None:
    guide: Any = FkSteering("told", 1.0).guide(run_of(3, 3))
    SCORES.extend([[math.nan] * 3, [-0.5, -0.4, -0.3]])
    assert guide.select(at(2), Pictures()).parents == (0, 1, 2)
    guide.select(at(4), Pictures())
    assert guide.weights.tolist() == pytest.approx([-0.5, -0.4, -0.3])


def test_survivors_stay_where_they_are() -> None:
    assert kept_in_place([2, 2, 0, 2]) == [0, 2, 2, 2]
    assert kept_in_place([1, 0]) == [0, 1]
    assert copies([0, 0, 2], 0.5) == (0.0, 0.5, 0.0)


@pytest.mark.parametrize("images", [1, 2])
def test_too_few_to_choose_among_are_left_alone_and_it_says_so(images: int) -> None:
    """Of two pictures half always carries weight: they would be scored, and never copied."""
    pipe, call = tiny.sd1(), {"num_images_per_prompt": images, "seeds": range(images)}
    with Guidance(FkSteering("told", 1e4)).attach(pipe) as attached:
        found = tiny.latents(pipe, PROMPT, **call)
    (note,) = attached.report.notes
    assert f"this call makes {images} of each; give num_images_per_prompt" in note
    assert torch.equal(found, tiny.latents(pipe, PROMPT, **call))


# ---- Restart -----------------------------------------------------------------


def test_a_sampler_with_a_memory_is_refused_before_anything_is_made() -> None:
    pipe, asked = tiny.sd1(), []
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    pipe.unet.register_forward_hook(lambda *_: asked.append(1))
    with pytest.raises(ModelError, match=r"restart begins .* give the pipeline a single-step"):
        tiny.latents(pipe, PROMPT, guidance=Guidance(Restart("told", 0.5)))
    assert not asked
    # Switched off it asks for nothing.
    tiny.latents(pipe, PROMPT, guidance=Guidance(Restart("told", 0.5, ())))


def test_only_what_fails_begins_again_and_looks_are_counted() -> None:
    pipe = tiny.sd1()
    plain = tiny.latents(pipe, [PROMPT] * 3, seeds=(0, 1, 2), steps=10)
    SCORES.extend([[0.9, 0.1, math.nan], [0.9, 0.8, 0.9]])
    plugin = Restart("told", 0.5, (0.3, 0.6))
    with Guidance(plugin).attach(pipe) as attached:
        found = tiny.latents(pipe, [PROMPT] * 3, seeds=(0, 1, 2), steps=10)
    rows = [attached.report.for_image(k)["plugins"]["restart"] for k in range(3)]
    assert [row["restarted"] for row in rows] == [[], [3], []]
    assert [row["scores"] for row in rows] == [[0.9, 0.9], [0.1, 0.8], [None, 0.9]]
    torch.testing.assert_close(found[[0, 2]], plain[[0, 2]], rtol=0, atol=1e-4)
    assert tiny.apart(found[1:2], plain[1:2]) > 0.1
    assert attached.report.passes[1] > 0
    assert attached.report.passes[0] == attached.report.passes[2] == 0
    assert attached.report.passes[1] <= plugin.extra_passes(10)


@pytest.mark.parametrize(
    "plugin",
    [BestOfN(verifier="told", candidates=2), Restart("told", 0.5, (0.3,)), Diverse()],
    ids=lambda plugin: plugin.name,
)
def test_draws_are_the_same_whatever_precision_is_the_default(plugin: Any) -> None:
    """A verifier, or whoever loads a model, may leave another one behind."""
    SCORES.extend([[0.1], [0.2]] * 2)
    pipe, guidance = tiny.sd1(), Guidance(plugin)
    usual = tiny.latents(pipe, PROMPT, guidance=guidance, steps=4)
    torch.set_default_dtype(torch.float64)
    try:
        found = tiny.latents(pipe, PROMPT, guidance=guidance, steps=4)
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(found, usual, rtol=0, atol=1e-4)
