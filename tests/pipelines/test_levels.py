"""Every scheduler of diffusers is served, by its own noise levels, or refused with a sentence."""

from __future__ import annotations

import functools
import inspect
from operator import attrgetter
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from adhere import Guidance
from adhere.pipelines.hooks.schedulers import clock, fit, levels
from tests import tiny
from tests.families.cases import CASES
from tests.probes import descending

OPTIONS: dict[str, dict[str, Any]] = {
    "AmusedScheduler": {"mask_token_id": 1},
    "VQDiffusionScheduler": {"num_vec_classes": 8},
    "UnCLIPScheduler": {"beta_schedule": "squaredcos_cap_v2"},
    "RFD4ProteinaScheduler": {
        "schedule_mode": "log",
        "noise_mode": "tan",
        "tsr_k": 1.0,
        "tsr_sigma": 1.0,
    },
}
"""What some schedulers cannot be made without."""

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def _every() -> list[type]:
    """All scheduler classes of diffusers whose requirements are installed."""
    names = [name for name in sorted(dir(diffusers.schedulers)) if name.endswith("Scheduler")]
    kinds = [getattr(diffusers.schedulers, name) for name in names]
    return [one for one in kinds if inspect.isclass(one) and not getattr(one, "_backends", None)]


EVERY = _every()


def made(kind: type, **options: Any) -> Any:
    """A scheduler with the betas of Stable Diffusion, where it has betas."""
    takes = inspect.signature(kind.__init__).parameters
    given = {**BETAS, "clip_sample": False, "skip_prk_steps": True, **options}
    known = {name: value for name, value in given.items() if name in takes}
    return kind(**{**known, **OPTIONS.get(kind.__name__, {})})


def timed(kind: type, steps: int, **options: Any) -> Any:
    """A scheduler on its way; None where it cannot make so many steps."""
    scheduler = made(kind, **options)
    try:
        scheduler.set_timesteps(steps)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError):
        return None
    return scheduler


SERVED = [
    kind
    for kind in EVERY
    if kind.__name__ in fit.FAITHFUL and (one := timed(kind, 6)) is not None and not fit.refuse(one)
]
SPACINGS: list[dict[str, Any]] = [
    {},
    *({"timestep_spacing": name} for name in ("leading", "linspace", "trailing")),
    *({f"use_{name}_sigmas": True} for name in ("karras", "exponential", "beta")),
    {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
    {"timestep_type": "continuous", "prediction_type": "v_prediction"},
    {"use_flow_sigmas": True, "prediction_type": "flow_prediction"},
    {"sigma_schedule": "exponential"},
]


def accepts(kind: type, options: dict[str, Any]) -> bool:
    return options.keys() <= inspect.signature(kind.__init__).parameters.keys()


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_every_scheduler_is_served_or_refused(kind: type) -> None:
    scheduler = timed(kind, 6)
    scheduler = made(kind) if scheduler is None else scheduler
    reason = fit.refuse(scheduler)
    if reason is not None:
        assert kind.__name__ not in fit.FAITHFUL
        assert reason.startswith(f"guidance does not work with {kind.__name__}")
        assert "use DDIM, Euler or DPM++ 2M" in reason
        return
    for timestep in scheduler.timesteps[:1]:
        level = levels.level(scheduler, float(timestep))
        assert 0 <= level.noise <= 1
        assert level.sigma >= 0
        assert level.scale > 0


@pytest.mark.parametrize("steps", [1, 2, 5, 20, pytest.param(50, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", SERVED, ids=lambda kind: kind.__name__)
def test_levels_are_those_of_the_definition(kind: type, steps: int) -> None:
    """`add_noise` says what a timestep's latents are made of, `scale_model_input` what is seen."""
    for options in SPACINGS:
        if not accepts(kind, options) or (steps < 5 and "beta" in str(options)):
            continue  # beta spacing is not defined for a step or two
        scheduler = timed(kind, steps, **options)
        if scheduler is None or _doubled(scheduler):
            continue
        evaluations = []
        for k, timestep in enumerate(scheduler.timesteps):
            if clock.first_evaluation(scheduler):
                evaluations.append(timestep)
                if _known_by_its_timestep(scheduler, timestep):
                    _check(scheduler, k, timestep)
            scheduler.step(torch.zeros(1, 1, 4, 4), timestep, torch.zeros(1, 1, 4, 4))
        assert len(evaluations) in (steps, len(scheduler.timesteps))


def _doubled(scheduler: Any) -> bool:
    """Whether the first two levels have one timestep (beta levels rounded, at 50 steps).

    Diffusers begins at the second then and runs off the end of its own table: an `IndexError` in
    its `step`, guided or not.
    """
    first = torch.as_tensor(scheduler.timesteps).flatten()[:2].tolist()
    return len(first) == 2 and first[0] == first[1]


def _known_by_its_timestep(scheduler: Any, timestep: torch.Tensor) -> bool:
    """Whether `add_noise` can be asked for the level at an evaluation.

    Karras' and beta levels may round to one timestep, which then stands for several of them.
    """
    sigmas = getattr(scheduler, "sigmas", None)
    same = torch.as_tensor(scheduler.timesteps) == timestep
    return sigmas is None or len(set(sigmas[: len(same)][same.to(sigmas.device)].tolist())) == 1


def _check(scheduler: Any, k: int, timestep: torch.Tensor) -> None:
    level = levels.level(scheduler, float(timestep))
    one, none, at = torch.ones(1, 1), torch.zeros(1, 1), timestep[None]
    mixed = getattr(scheduler, "add_noise", None)
    if mixed is None:
        sigma = float(scheduler.sigmas[k])  # flow matching: (1 - s) x0 + s n
        picture, noise = 1 - sigma, sigma
    elif "SASolver" in type(scheduler).__name__:
        # Its `add_noise` looks in the table at whole timesteps, where its steps do not lie.
        picture, noise = map(float, scheduler._sigma_to_alpha_sigma_t(scheduler.sigmas[k]))
    else:
        picture, noise = float(mixed(one, none, at)), float(mixed(none, one, at))
    seen = getattr(scheduler, "scale_model_input", lambda sample, timestep: sample)
    assert level.scale == pytest.approx(1 / float(seen(one, timestep)), rel=1e-5)
    # Of a flow's first step, which is all noise, a thousandth of a tenth is kept as picture.
    assert level.noise == pytest.approx(noise / level.scale, rel=1e-4, abs=2e-4)
    if picture > 1e-3 * noise:
        assert level.sigma == pytest.approx(noise / picture, rel=1e-3)


# ---- How far a method moves --------------------------------------------------

LEADING = {"timestep_spacing": "leading", "steps_offset": 1, "set_alpha_to_one": True}
"""With these a scheduler that heeds them goes through DDIM's levels, from noise to none."""

RULES: dict[str, dict[str, Any]] = {
    "plain": {"rule": "plain", "step_size": 3e3},
    "max-abs": {"rule": "max-abs", "step_size": 0.5},
    "relative": {"rule": "relative", "step_size": 0.2},
}


class Shown(Exception):
    """Ends a call as soon as the model has been shown the moved latents."""


def first_move(pipe: Any, entry: Any, rule: str, **call: Any) -> tuple[Tensor, Tensor, float]:
    """What a model is shown in a guided first step: before the move, the move, the timestep.

    Args:
        entry: the part of the model that takes the latents in.
    """
    seen: list[Tensor] = []
    times: list[float] = []

    def look(module: Any, args: Any) -> None:
        seen.append(args[0].detach().clone())
        if len(seen) == 2:
            raise Shown

    def time(module: Any, args: Any, given: Any) -> None:
        times.append(float(torch.as_tensor(args[1] if args else given["timestep"]).flatten()[0]))

    model = getattr(pipe, "unet", None) or pipe.transformer
    hooks = [
        entry.register_forward_pre_hook(look),
        model.register_forward_pre_hook(time, with_kwargs=True),
    ]
    guidance = Guidance(descending(**RULES[rule]))
    with pytest.raises(Shown):
        tiny.latents(pipe, guidance=guidance, **{"steps": 6, "size": (32, 32), **call})
    for hook in hooks:
        hook.remove()
    extra, own = seen
    return extra, own[-1:] - extra, times[0]


class At(diffusers.DDIMScheduler):
    """DDIM that begins at another scheduler's timestep."""

    first = 0.0

    def set_timesteps(self, steps: int, device: Any = None) -> None:  # type: ignore[override]
        super().set_timesteps(steps, device)
        self.timesteps = torch.tensor([self.first])


class FlowAt(diffusers.FlowMatchEulerDiscreteScheduler):
    """Euler on a flow that begins at another scheduler's timestep."""

    first = 0.0

    def set_timesteps(self, *args: Any, **options: Any) -> None:
        super().set_timesteps(*args, **options)
        self.timesteps = torch.tensor([self.first])
        self.sigmas = torch.tensor([self.first / self.config.num_train_timesteps, 0.0])


NOISE = [kind for kind in SERVED if not levels.flows(timed(kind, 6))]
FLOWS = {
    kind: options
    for kind in SERVED
    for options in ({}, {"use_flow_sigmas": True, "prediction_type": "flow_prediction"})
    if accepts(kind, options) and levels.flows(timed(kind, 6, **options))
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", NOISE, ids=lambda kind: kind.__name__)
def test_a_method_moves_what_the_model_sees_as_on_ddim(kind: type, rule: str) -> None:
    """The same move of the same model input at the same timestep, whatever space a scheduler holds
    latents in. What its solver makes of a move is another matter: `test_an_edit_survives`.
    """
    pipe, ddim = tiny.sd1(scheduler=made(kind, **LEADING)), tiny.sd1(scheduler=At(**BETAS))
    start, move, ddim.scheduler.first = first_move(pipe, pipe.unet.conv_in, rule)
    _, expected, _ = first_move(ddim, ddim.unet.conv_in, rule, latents=start)
    _equal(move, expected)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", FLOWS, ids=lambda kind: kind.__name__)
def test_a_method_moves_what_a_flows_model_sees_as_on_euler(kind: type, rule: str) -> None:
    case = CASES["sd3"]
    call = {"negative_prompt": "a bird", **case.options, "size": None}
    pipe, euler = case.make(), case.make()
    pipe.scheduler, euler.scheduler = made(kind, **FLOWS[kind]), FlowAt()
    entry = "transformer.pos_embed.proj"
    start, move, euler.scheduler.first = first_move(pipe, attrgetter(entry)(pipe), rule, **call)
    _, expected, _ = first_move(euler, attrgetter(entry)(euler), rule, latents=start, **call)
    _equal(move, expected)


def _equal(move: Tensor, expected: Tensor) -> None:
    # A scale of up to 160 and its inverse are rounded to 2^-24 of latents of a few units, twice
    # before the move is taken from them: 4 * 2^-24 * 4, and as much of the slope.
    assert expected.abs().amax() > 0.05
    torch.testing.assert_close(move, expected, rtol=1e-3, atol=1e-5)


# ---- Whole pictures ----------------------------------------------------------

APART = ("LCMScheduler", "TCDScheduler")
"""They take `timestep_spacing` and do not heed it: they go through levels of their training, where
they have twins of their own.
"""
GENTLE = {"plain": {"rule": "plain", "step_size": 1e3}, "max-abs": RULES["max-abs"]}
"""Moves that change a picture by twice the distance of the solvers. Thrice as long ones (3e3) are
extrapolated by the solvers of second order: 2.6 times as far apart then (DPM++ 2M, DEIS, UniPC).
"""
ALIKE = [
    kind
    for kind in NOISE
    if accepts(kind, {"timestep_spacing": "leading"}) and kind.__name__ not in APART
]
"""Those that can be told to go through DDIM's levels, or nearly, from the same noise to none."""

EXTRAPOLATING = (
    diffusers.DEISMultistepScheduler,
    diffusers.DPMSolverMultistepScheduler,
    diffusers.UniPCMultistepScheduler,
)
"""Of them, those whose step leans on predictions of steps before."""


@functools.cache
def drawn(kind: type, rule: str | None) -> Tensor:
    """The latents of six steps."""
    return run(made(kind, **LEADING), GENTLE[rule] if rule else None, steps=6)


def run(scheduler: Any, rule: dict[str, Any] | None, **call: Any) -> Tensor:
    """The latents of a run, guided by a rule or plain."""
    guidance = Guidance(descending(**rule)) if rule else None
    return tiny.latents(tiny.sd1(scheduler=scheduler), guidance=guidance, size=(32, 32), **call)


def apart(one: Tensor, other: Tensor) -> float:
    """As a root mean square."""
    return float((one - other).square().mean().sqrt())


@pytest.mark.parametrize("rule", ["plain", "max-abs"])
@pytest.mark.parametrize(
    ("kind", "twin"),
    [
        (diffusers.EulerDiscreteScheduler, diffusers.DDIMScheduler),
        (diffusers.EulerAncestralDiscreteScheduler, diffusers.DDPMScheduler),
    ],
    ids=["euler", "euler-a"],
)
def test_one_algorithm_in_two_spaces_draws_one_guided_picture(
    kind: type, twin: type, rule: str
) -> None:
    """Euler is DDIM, and Euler ancestral DDPM, on latents that carry sigma instead of a fixed
    variance: only rounding sets them apart, 1e-5 for latents of 7. Ancestral steps replace what a
    move has done by fresh noise, so methods change less there, and as much as with DDPM.
    """
    assert apart(drawn(kind, None), drawn(twin, None)) < 1e-3
    assert apart(drawn(kind, rule), drawn(twin, rule)) < 1e-3
    assert apart(drawn(kind, rule), drawn(kind, None)) > 0.3


@pytest.mark.parametrize("rule", GENTLE)
@pytest.mark.parametrize("kind", ALIKE, ids=lambda kind: kind.__name__)
def test_guided_pictures_are_as_near_to_each_other_as_plain_ones(kind: type, rule: str) -> None:
    """Solvers differ in order and in their levels, so their plain pictures differ. Guided, they
    differ by the same and by where the moves were made: 0.9 to 1.2 times that, as it was measured.

    Those that extrapolate the model's last predictions have these from before the move, and add a
    part of the move to the difference: 0.11 to 0.29 of it, on two random models.
    """
    ddim = diffusers.DDIMScheduler
    plain, guided = (apart(drawn(kind, one), drawn(ddim, one)) for one in (None, rule))
    if kind in EXTRAPOLATING:
        assert guided < plain + apart(drawn(ddim, rule), drawn(ddim, None)) / 3
    else:
        assert guided < 1.5 * plain + 1e-3


@pytest.mark.parametrize("rule", RULES)
def test_tcd_without_noise_is_ddim(rule: str) -> None:
    """At TCD's own levels, which DDIM's "trailing" ones are in five steps of its fifty."""
    tcd, ddim = (
        made(kind, timestep_spacing="trailing", set_alpha_to_one=False)
        for kind in (diffusers.TCDScheduler, diffusers.DDIMScheduler)
    )
    found, expected = run(tcd, RULES[rule], steps=5, eta=0.0), run(ddim, RULES[rule], steps=5)
    assert torch.equal(tcd.timesteps, ddim.timesteps)
    assert apart(found, expected) < 1e-4


def test_lcm_is_nearly_tcd_with_noise_alone() -> None:
    """Both go to a picture and back up with fresh noise in each step; LCM keeps a little of the
    sample beside it, so that the plain ones are not equal either.
    """
    lcm, tcd = diffusers.LCMScheduler, diffusers.TCDScheduler
    plain, guided = (
        apart(run(made(lcm), rule, steps=5), run(made(tcd), rule, steps=5, eta=1.0))
        for rule in (None, RULES["max-abs"])
    )
    assert guided < 1.5 * plain + 1e-3


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
@pytest.mark.parametrize("name", ["FlowMatchEulerDiscreteScheduler", "EulerDiscreteScheduler"])
def test_levels_are_the_same_whatever_precision_is_the_default(
    name: str, dtype: torch.dtype
) -> None:
    scheduler = timed(getattr(diffusers, name), 6)

    def found() -> list[Any]:
        ahead = [levels.level_ahead(scheduler, share)[2] for share in (0.0, 0.5, 1.0)]
        return [ahead, levels.scale(scheduler, scheduler.timesteps[0])]

    wanted = found()
    assert wanted[0][0].alpha_bar > 0
    torch.set_default_dtype(dtype)
    try:
        assert found() == wanted
    finally:
        torch.set_default_dtype(torch.float32)
