"""Pictures that IP-Adapters show, heard where the guides say."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from adhere.guides.guide import Step
from adhere.pipelines.engine.state import State
from adhere.pipelines.hooks.denoiser_call import Call


class Masking:
    """The guides of a run that mask pictures, and what they want at the current step."""

    def __init__(self, state: State) -> None:
        self.state, self.guides = state, state.overriding("mask")
        self._masks: Tensor | None = None

    def refuse(self, call: Call) -> str | None:
        """Why pictures cannot be masked, where a guide wants to."""
        if not self.guides:
            return None
        return self.state.family.unmaskable(call, self.state.run.grid)

    def decide(self, step: Step) -> None:
        """Ask the guides once for all calls of a step; a cell hears what all of them let it hear.

        Masks are laid over the latents' own grid, whose shape diffusers takes for the picture's.
        """
        wanted = [guide.mask(step) for guide in self.guides]
        grid = self.state.run.grid
        laid = [F.interpolate(one, grid, mode="nearest") for one in wanted if one is not None]
        self._masks = math.prod(laid[1:], start=laid[0]) if laid else None

    def applied(self, call: Call) -> Call:
        """A call of the step, all of whose rows hear the pictures where their image does."""
        if self._masks is None:
            return call
        rows = torch.cat([self._masks] * (call.rows // len(self._masks)))
        return self.state.family.masked(call, rows)
