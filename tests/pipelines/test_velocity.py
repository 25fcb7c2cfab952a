"""The rule `velocity`: a slope is added to the flow's velocity, whatever space a scheduler has."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from adhere import Guidance
from tests import tiny
from tests.families.cases import CASES
from tests.probes import descending

SIZE = 0.3


def loss(pipe: Any, draw: Any, latents: Tensor) -> float:
    """The energy at the first step."""
    with Guidance(descending(step_size=0.0, at=lambda step: step.index == 0)).attach(pipe) as made:
        draw(latents)
    return float(made.report.losses["probe"][0][0][1])


@pytest.mark.parametrize(
    "name", ["DDIMScheduler", "EulerDiscreteScheduler", "FlowMatchEulerDiscreteScheduler"]
)
def test_one_step_moves_by_the_slope_of_the_flow(name: str) -> None:
    flow = name.startswith("Flow")
    pipe: Any = CASES["sd3"].make() if flow else tiny.sd1()
    if not flow:
        pipe.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config)
    pipe = pipe.to(torch.float64)
    size = (32, 24) if flow else (16, 16)
    shape = (1, pipe.transformer.config.in_channels if flow else 4, size[0] // 2, size[1] // 2)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def draw(latents: Tensor, guidance: Any = None) -> Tensor:
        found: list[Tensor] = []

        def keep(pipe: Any, index: int, time: Any, tensors: Any) -> Any:
            found.append(tensors["latents"].clone())
            return {}

        options = {"max_sequence_length": 20} if flow else {}
        tiny.latents(
            pipe, "a cat and a dog", guidance=guidance, size=size, steps=3, latents=latents,
            callback_on_step_end=keep, guidance_scale=1.0, **options,
        )  # fmt: skip
        return found[0]

    turned = Guidance(
        descending(step_size=SIZE, rule="velocity", when="after", at=lambda step: step.index == 0)
    )
    moved = draw(noise, turned) - draw(noise)
    assert float(moved.abs().max()) > 0
    first, then = _mixed(pipe.scheduler)
    # In the flow's state z = x / (a + s), of the scheduler's latents: dz = -h t size dL/dz.
    time, after = first[1] / sum(first), then[1] / sum(then)
    probe = torch.randn(shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    step = 1e-2
    rise = (loss(pipe, draw, noise + step * probe) - loss(pipe, draw, noise - step * probe)) / 2
    start = float(getattr(pipe.scheduler, "init_noise_sigma", 1.0))
    along = rise / step / start * sum(first)  # dL/dz along the probe, z = start noise / (a + s)
    wanted = -SIZE * noise.numel() * time * (time - after) * along * sum(then)
    assert float((moved * probe).sum()) == pytest.approx(wanted, rel=1e-3)


def _mixed(scheduler: Any) -> tuple[tuple[float, float], tuple[float, float]]:
    """Factors of picture and noise in the scheduler's latents, at the first and second step."""
    if scheduler.__class__.__name__.startswith("Flow"):
        first, then = (float(one) for one in scheduler.sigmas[:2])
        return (1 - first, first), (1 - then, then)
    if scheduler.__class__.__name__.startswith("Euler"):
        first, then = (float(one) for one in scheduler.sigmas[:2])
        return (1, first), (1, then)
    tables = [float(scheduler.alphas_cumprod[int(t)]) for t in scheduler.timesteps[:2]]
    first, then = (((table**0.5), (1 - table) ** 0.5) for table in tables)
    return first, then
