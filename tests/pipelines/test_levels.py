"""Every scheduler of diffusers is served, by its own noise levels, or refused with a sentence."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import diffusers
import pytest
import torch

from adhere import Guidance
from adhere.pipelines.hooks.schedulers import clock, fit, levels
from tests import tiny
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
    if not hasattr(scheduler, "step"):
        return  # no pipeline can be made with it
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
"""With these a scheduler goes through DDIM's levels, from the same noise to none, if it heeds them."""

RULES: dict[str, dict[str, Any]] = {
    "plain": {"rule": "plain", "step_size": 3e3},
    "max-abs": {"rule": "max-abs", "step_size": 0.5},
    "relative": {"rule": "relative", "step_size": 0.2},
}


class Shown(Exception):
    """Ends a call as soon as the model has been shown the moved latents."""


class At(diffusers.DDIMScheduler):
    """DDIM whose first step is at a timestep of another scheduler."""

    first = 0.0

    def set_timesteps(self, steps: int, device: Any = None) -> None:  # type: ignore[override]
        super().set_timesteps(steps, device)
        self.timesteps = torch.tensor([self.first], device=device)


def first_move(scheduler: Any, rule: str) -> tuple[Tensor, Tensor, float]:
    """What the model is shown in a guided first step: before the move, the move, the timestep."""
    pipe = tiny.sd1(scheduler=scheduler)
    seen: list[Tensor] = []
    times: list[float] = []

    def look(module: Any, args: Any) -> None:
        seen.append(args[0].detach().clone())
        if len(seen) == 2:
            raise Shown

    pipe.unet.conv_in.register_forward_pre_hook(look)
    pipe.unet.register_forward_pre_hook(
        lambda module, args, kwargs: times.append(float(args[1])), with_kwargs=True
    )
    with pytest.raises(Shown):
        tiny.latents(
            pipe, guidance=Guidance(descending(**RULES[rule])), steps=6, size=(32, 32)
        )
    extra, own = seen
    return extra, own[-1:] - extra, times[0]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", SERVED, ids=lambda kind: kind.__name__)
def test_a_method_moves_what_the_model_sees_as_far_as_on_ddim(kind: type, rule: str) -> None:
    """Exact for every scheduler, whatever space it holds latents in: the model is shown the same
    noise, at the same timestep, and the same move of it. What a solver makes of a move after that
    is its own (`test_an_edit_survives`).
    """
    start, move, timestep = first_move(made(kind, **LEADING), rule)
    ddim = At(**BETAS, clip_sample=False)
    ddim.first = timestep
    # Some begin with the noise times their largest sigma, which is a little less than its scale.
    factor = float(start.flatten()[0] / first_noise()[0])
    expected = expected_move(ddim, rule, factor)
    # The scale, at most 160, and its inverse are rounded to 2^-24 each, of latents of a few units:
    # 4 * 2 * 160 * 2^-24 = 8e-5 beside moves of 0.1 and more.
    torch.testing.assert_close(move, expected, rtol=1e-3, atol=1e-4)
    assert expected.abs().amax() > 0.05
