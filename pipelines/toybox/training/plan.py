"""What the stages of training share: how long and how large, and loading what is finished."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from adhere.pipelines.toybox.errors import ToyboxError
from adhere.pipelines.toybox.world.faults import Faults


@dataclass(frozen=True)
class Plan:
    """How long and how large to train. The tests use a tiny one.

    `faults`, `batch` (its own if None), `learning_rate` and `minutes` (at the most) are a
    denoiser's; `init` is what its weights start from, `parts` a pipeline folder whose finished VAE
    and CLIP are taken over.
    """

    out: Path
    seed: int = 0
    device: str = "cpu"
    resume: bool = False
    quiet: bool = False
    vae_samples: int = 24_000
    clip_samples: int = 120_000
    unet_samples: int = 300_000
    transformer_samples: int = 400_000
    judge_samples: int = 600
    pool: int = 60_000
    faults: Faults = field(default_factory=Faults)
    batch: int | None = None
    learning_rate: float = 1e-3
    compile: bool = True
    workers: int = 1
    unet_changes: tuple[tuple[str, Any], ...] = ()
    transformer_changes: tuple[tuple[str, Any], ...] = ()
    init: Path | None = None
    parts: Path | None = None
    minutes: float | None = None
    stop_after: int | None = None

    def with_samples(self, stage: str, samples: int) -> Plan:
        """The same plan with another number of training pictures for one stage."""
        changes: dict[str, Any] = {f"{stage}_samples": samples}
        return replace(self, **changes)

    def samples(self, stage: str) -> int:
        """How many training pictures a stage sees."""
        count: int = getattr(self, f"{stage}_samples")
        return count

    def steps(self, samples: int, batch: int) -> int:
        """Optimiser steps that a number of samples makes."""
        return max(1, samples // batch)


def autocast(device: str) -> torch.autocast:
    """bfloat16 where the hardware is quick at it: 1.6x on a CPU with AVX-512 BF16, a thirteenth of
    float32's speed on one without (and where an older PyTorch does not say).
    """
    kind = device.split(":")[0]
    able: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    quick = kind != "cpu" or bool(able.get("avx512_bf16"))
    return torch.autocast(kind, torch.bfloat16, enabled=quick)


def take_over(plan: Plan) -> None:
    """Copies the parts that are trained before a denoiser from another pipeline folder.

    A run that has a part already keeps it.
    """
    if plan.parts is None:
        return
    for part in ("vae", "clip", "text_encoder"):
        if not (plan.parts / part).is_dir():
            raise ToyboxError(f"{plan.parts} has no {part}: name a folder of the toybox's kind")
        if not (plan.out / part).exists():
            shutil.copytree(plan.parts / part, plan.out / part)


def load_part(kind: Any, folder: Path) -> Any:
    """Loads a finished stage's model; says which stage is missing or damaged."""
    if not (folder / "config.json").is_file():
        raise ToyboxError(f"{folder} holds no model: train the stage before this one first")
    try:
        return kind.from_pretrained(str(folder)).eval().requires_grad_(False)
    except Exception as error:  # diffusers, transformers and safetensors raise many kinds
        raise ToyboxError(f"the model in {folder} is damaged: {error}") from error
