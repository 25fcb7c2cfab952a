"""Guidance as an official diffusers callback.

Diffusers offers no hook before the first step and none at the end of a failed call. It does read
`tensor_inputs` as the first thing in a call, and keeps what it got in a local variable for as long
as the call lives. So the guidance goes on when the names are read, and comes off when the run is
over, or when the last name is let go of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diffusers.callbacks import PipelineCallback

from adhere.pipelines.attachment import Attachment
from adhere.pipelines.report import RunReport


class _Lease(str):
    """A tensor name that takes the guidance off when the call that holds it is gone."""

    attachment: Attachment

    def __del__(self) -> None:
        self.attachment.close()


class GuidanceCallback(PipelineCallback):
    """Made by `Guidance.callback(pipe)`. Can be used for any number of calls, one at a time."""

    def __init__(self, make: Callable[[Callable[[Attachment], None]], Attachment]) -> None:
        super().__init__(cutoff_step_ratio=1.0)
        self._make = make
        self.reports: list[RunReport] = []

    @property
    def tensor_inputs(self) -> list[str]:
        attachment = self._make(self._ended)
        attachment.open()
        lease = _Lease("latents")
        lease.attachment = attachment
        attachment.only = id(lease)
        return [lease]

    def callback_fn(
        self, pipeline: Any, step_index: int, timestep: Any, callback_kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        return callback_kwargs

    def _ended(self, attachment: Attachment) -> None:
        self.reports.extend(attachment.reports)
        attachment.reports.clear()
        attachment.close()
