"""The pictures of one prompt are chosen among while they are made, and all that is kept by image
goes with them.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from adhere import Guidance
from adhere.errors import ModelError, ParameterError
from adhere.guides import parameters
from adhere.guides.guide import Guide, Step
from adhere.guides.selection import Selection
from adhere.pipelines.families import family_of
from adhere.pipelines.hooks import decoding
from adhere.pipelines.hooks.schedulers import edits
from adhere.plugins import PLUGINS
from tests import tiny
from tests.families.cases import CASES, Case
from tests.pipelines.test_levels import SERVED, made, timed
from tests.probes import Probe
from tests.test_contract import ABOUT
from tests.test_contract import made as plugin_of

PROMPT = "a red cat and a blue car"


class Chooses(Guide):
    """Selects what it is told to after one step, and keeps what it saw."""

    def __init__(self, selection: Selection, index: int = 1) -> None:
        self.selection, self.index = selection, index
        self.seen: list[Any] = []
        self.steps: list[int] = []

    def selects(self, step: Step) -> bool:
        return step.index == self.index

    def select(self, step: Step, candidates: Any) -> Selection:
        self.steps.append(step.index)
        self.seen.append((candidates.predicted(), candidates.pictures()))
        return self.selection


def choosing(pipe: Any, selection: Selection, *plugins: Any, index: int = 1, **call: Any) -> Tensor:
    guide = Chooses(selection, index)
    options = {"steps": 4, "seeds": (1, 2), "num_images_per_prompt": 2, **call}
    guidance = Guidance(*plugins, Probe(lambda run: guide))
    found = tiny.latents(pipe, PROMPT, guidance=guidance, about=ABOUT, **options)
    assert guide.steps == [index]
    return found


def two(pipe: Any, *plugins: Any, **call: Any) -> Tensor:
    options = {"steps": 4, "seeds": (1, 2), "num_images_per_prompt": 2, **call}
    return tiny.latents(pipe, PROMPT, guidance=Guidance(*plugins), about=ABOUT, **options)


def apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


def test_to_go_on_as_they_are_changes_no_bit() -> None:
    pipe = tiny.sd1()
    torch.testing.assert_close(choosing(pipe, Selection((0, 1))), two(pipe), rtol=0, atol=0)


NOISY = ("Ancestral", "SDE", "DDPM", "SASolver", "LCM", "TCD", "Cosine")
"""Samplers that draw noise of their own: their copies part by themselves."""

DETERMINISTIC = [
    kind
    for kind in SERVED
    # Pure flows cannot drive Stable Diffusion: the families' own test has them.
    if hasattr(kind, "init_noise_sigma") or hasattr(timed(kind, 6), "init_noise_sigma")
    if not any(word in kind.__name__ for word in NOISY)
]


@pytest.mark.parametrize("kind", DETERMINISTIC, ids=lambda kind: kind.__name__)
def test_a_copy_goes_on_as_its_parent_with_every_sampler(kind: type) -> None:
    """Whatever a solver remembers goes along: the copy ends as the picture that was copied."""
    pipe = tiny.sd1()
    pipe.scheduler = made(kind)
    steps = 5
    plain = two(pipe, steps=steps)
    found = choosing(pipe, Selection((0, 0)), index=2, steps=steps)
    assert apart(plain[0], plain[1]) > 0.1
    torch.testing.assert_close(found[0], plain[0], rtol=0, atol=2e-5)
    torch.testing.assert_close(found[1], plain[0], rtol=0, atol=2e-5)


SOLVERS = ["DPMSolverMultistepScheduler", "DEISMultistepScheduler", "UniPCMultistepScheduler"]
"""What UniPC may be given to predict with, of those that remember earlier steps."""


@pytest.mark.parametrize("name", SOLVERS)
def test_what_a_solver_within_another_remembers_goes_along(name: str) -> None:
    kinds = {kind.__name__: kind for kind in SERVED}
    pipe, steps = tiny.sd1(), 5
    pipe.scheduler = made(kinds["UniPCMultistepScheduler"], solver_p=made(kinds[name]))
    plain = two(pipe, steps=steps)
    found = choosing(pipe, Selection((0, 0)), index=2, steps=steps)
    assert apart(plain[0], plain[1]) > 0.1
    torch.testing.assert_close(found[0], plain[0], rtol=0, atol=2e-5)
    torch.testing.assert_close(found[1], plain[0], rtol=0, atol=2e-5)


def test_a_solver_within_another_keeps_edits_and_its_settings() -> None:
    """The corrector of either would undo half of a move; both have it back afterwards."""
    inner: Any = made(next(one for one in SERVED if one.__name__ == "UniPCMultistepScheduler"))
    outer: Any = type(inner).from_config(inner.config, solver_p=inner)
    outer.set_timesteps(4)
    sample = torch.randn(1, 4, 8, 8)
    with edits.restored(outer):
        for timestep in outer.timesteps[:2]:
            sample = outer.step(torch.randn_like(sample), timestep, sample).prev_sample
        edits.moved(outer, torch.ones_like(sample))
        assert (outer.disable_corrector, inner.disable_corrector) == ([1], [1])
    assert (outer.disable_corrector, inner.disable_corrector) == ([], [])


KEEPING = [
    name
    for name, kind in PLUGINS.items()
    # Those that choose would choose again: what they keep is in their own tests.
    if "verifier" not in {one.name for one in parameters.parameters(kind)}
]


@pytest.mark.parametrize("name", KEEPING)
def test_what_every_plugin_keeps_goes_along(name: str) -> None:
    """A plugin that forgot to follow would go on with the other image's past."""
    kind = PLUGINS[name]
    pipe, plugin = tiny.suited(kind, tiny.sd1()), plugin_of(kind)
    changes = {"momentum": 0.5} if name == "apg" else {}
    plugin = parameters.from_json(type(plugin), {**parameters.to_json(plugin), **changes})
    plain = two(pipe, plugin, steps=6)
    found = choosing(pipe, Selection((0, 0)), plugin, index=2, steps=6)
    assert apart(plain[0], plain[1]) > 1e-3
    torch.testing.assert_close(found[0], plain[0], rtol=0, atol=1e-4)
    torch.testing.assert_close(found[1], plain[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_on_every_family(case: Case) -> None:
    """Copies equal their parent, and the last step's prediction decodes to the picture."""
    pipe = case.make()
    guide = Chooses(Selection((0, 0)), 1)
    with Guidance(Probe(lambda run: guide)).attach(pipe):
        call = {**case.options, **case.negative(["a cat"]), "num_inference_steps": 3}
        found = pipe(
            prompt="a cat", num_images_per_prompt=2, generator=tiny.generators(1, 2),
            output_type="latent", **call,
        ).images  # fmt: skip
    assert guide.steps == [1]
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["sd1", "sdxl", *CASES])
def test_the_preview_is_the_picture_in_the_end(name: str) -> None:
    """What decodes previews makes of the last sample what the pipeline itself makes of it."""
    pipe = getattr(tiny, name)() if name in ("sd1", "sdxl") else CASES[name].make()
    if name in CASES:
        case = CASES[name]
        call = {**case.options, **case.negative(["a cat"]), "prompt": "a cat"}
    else:
        call = {"prompt": "a cat", "height": 32, "width": 32}
    latents: list[Tensor] = []

    class Sees(Guide):
        def select(self, step: Step, candidates: Any) -> None:
            latents.append(candidates.predicted())

    ended = stepped(pipe)
    with Guidance(Probe(lambda run: Sees())).attach(pipe):
        image = pipe(generator=tiny.generators(1), num_inference_steps=3, **call).images[0]
    own = family_of(pipe).from_sample(ended[-1], latents[0])
    decoded = decoding.pictures(pipe, own)[0]
    assert decoded.size == image.size
    difference = [abs(a - b) for a, b in zip(decoded.tobytes(), image.tobytes(), strict=True)]
    assert max(difference) <= 2
    assert latents[-1].shape == own.shape


def stepped(pipe: Any) -> list[Tensor]:
    """The samples that a pipeline's scheduler gives out, as they come."""
    samples: list[Tensor] = []
    original = pipe.scheduler.step

    def step(*args: Any, **kwargs: Any) -> Any:
        out = original(*args, **kwargs)
        samples.append(out[0] if isinstance(out, tuple) else out.prev_sample)
        return out

    pipe.scheduler.step = step
    return samples


def test_a_predicted_picture_is_what_diffusers_says() -> None:
    """DDIM gives out its own prediction of the picture; ours is that."""
    pipe = tiny.sd1()
    seen: list[Tensor] = []
    theirs: list[Tensor] = []
    original = pipe.scheduler.step

    def step(*args: Any, **kwargs: Any) -> Any:
        kwargs.pop("return_dict", None)
        out = original(*args, **kwargs, return_dict=True)
        theirs.append(out.pred_original_sample)
        return (out.prev_sample,)

    class Sees(Guide):
        def select(self, step: Step, candidates: Any) -> None:
            seen.append(candidates.predicted())

    pipe.scheduler.step = step
    tiny.latents(pipe, PROMPT, guidance=Guidance(Probe(lambda run: Sees())), steps=4)
    assert len(seen) == 3  # after the last step nothing is left to choose
    for mine, own in zip(seen, theirs, strict=False):
        torch.testing.assert_close(mine, own, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "kind", ["DDIMScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler"]
)
def test_fresh_noise_parts_copies_and_keeps_the_variance(kind: str) -> None:
    pipe = tiny.sd1()
    pipe.scheduler = made(next(one for one in SERVED if one.__name__ == kind))
    same = choosing(pipe, Selection((0, 0)))
    half = choosing(pipe, Selection((0, 0), (0.0, 0.5)))
    full = choosing(pipe, Selection((0, 0), (0.0, 1.0)))
    torch.testing.assert_close(half[0], same[0], rtol=0, atol=2e-5)
    assert apart(half[1], half[0]) > 0
    # The more is drawn anew, the farther they part.
    assert (half[1] - half[0]).norm() < (full[1] - full[0]).norm()
    assert float(full[1].std() / same[0].std()) == pytest.approx(1, abs=0.4)


def test_fresh_noise_is_the_same_every_time() -> None:
    pipe, selection = tiny.sd1(), Selection((0, 0), (0.0, 0.7))
    one, other = choosing(pipe, selection), choosing(pipe, selection)
    torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["DDIMScheduler", "EulerDiscreteScheduler"])
def test_beginning_again_is_another_picture_of_the_prompt(kind: str) -> None:
    pipe = tiny.sd1()
    pipe.scheduler = made(next(one for one in SERVED if one.__name__ == kind))
    plain = two(pipe)
    found = choosing(pipe, Selection((0, 1), again=(1,)))
    torch.testing.assert_close(found[0], plain[0], rtol=0, atol=2e-5)
    assert apart(found[1], plain[1]) > 0.1
    assert float(found[1].std() / plain[1].std()) == pytest.approx(1, abs=0.5)


def test_a_multistep_solver_cannot_begin_again() -> None:
    pipe = tiny.sd1()
    pipe.scheduler = made(next(k for k in SERVED if k.__name__ == "DPMSolverMultistepScheduler"))
    with pytest.raises(ModelError, match="steps from predictions of earlier steps"):
        choosing(pipe, Selection((0, 1), again=(0,)))


@pytest.mark.parametrize("kind", SERVED, ids=lambda kind: kind.__name__)
def test_what_a_solver_will_remember_is_known_before_its_first_step(kind: type) -> None:
    scheduler: Any = timed(kind, 6)
    said, sample = edits.remembers(scheduler), torch.randn(1, 4, 8, 8)
    for timestep in scheduler.timesteps[:3]:
        seen = sample
        if hasattr(scheduler, "scale_model_input"):
            seen = scheduler.scale_model_input(sample, timestep)
        sample = scheduler.step(torch.randn_like(seen), timestep, sample).prev_sample
    kept = [one for value in vars(scheduler).values() if isinstance(value, list) for one in value]
    assert said is any(isinstance(one, Tensor) and one.shape == sample.shape for one in kept)


@pytest.mark.parametrize(
    ("selection", "says"),
    [
        (Selection((0,)), "give one for each image"),
        (Selection((0, 5)), "of another prompt"),
        (Selection((0, 1), (0.5,)), "give one for each image"),
    ],
)
def test_what_cannot_be_done_is_refused(selection: Selection, says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        choosing(tiny.sd1(), selection)


def test_pictures_of_two_prompts_do_not_mix() -> None:
    guide = Chooses(Selection((1, 1)))
    with pytest.raises(ParameterError, match="of another prompt"):
        tiny.latents(
            tiny.sd1(), [PROMPT, PROMPT], guidance=Guidance(Probe(lambda run: guide)),
            seeds=(1, 2), steps=3,
        )  # fmt: skip


def test_heun_is_asked_once_a_step() -> None:
    pipe = tiny.sd1()
    pipe.scheduler = made(next(k for k in SERVED if k.__name__ == "HeunDiscreteScheduler"))
    asked: list[int] = []

    class Sees(Guide):
        def select(self, step: Step, candidates: Any) -> None:
            asked.append(step.index)

    tiny.latents(pipe, PROMPT, guidance=Guidance(Probe(lambda run: Sees())), steps=4)
    assert asked == [0, 1, 2]


def test_the_guide_that_chooses_may_be_the_only_one() -> None:
    """No other guide, no maps read: the engine must not leave such a run alone."""
    pipe = tiny.sd1()
    found = choosing(pipe, Selection((1, 1)))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-6)
