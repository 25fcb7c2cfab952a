"""Guidance as an official diffusers callback.

Diffusers offers no hook before the first step and none at the end of a failed call. It does read
`tensor_inputs` as the first thing in a call, and keeps what it got in a local variable for as long
as the call lives. So the guidance goes on when the names are read, and comes off when the run is
over, or when the last name is let go of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import ReferenceType, ref

from diffusers.callbacks import PipelineCallback

from adhere.errors import ModelError
from adhere.pipelines.engine.attachment import Attachment
from adhere.pipelines.engine.report import RunReport
from adhere.pipelines.hooks.callers import calling_pipeline


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
        self._lease: ReferenceType[_Lease] | None = None
        self.reports: list[RunReport] = []

    @property
    def tensor_inputs(self) -> list[str]:
        attachment = self._make(self._ended)
        _refuse_another(attachment.pipe, calling_pipeline(attachment.pipe))
        attachment.open()
        lease = _Lease("latents")
        lease.attachment = attachment
        attachment.only = id(lease)
        self._lease = ref(lease)
        return [lease]

    def callback_fn(
        self, pipeline: Any, step_index: int, timestep: Any, callback_kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        """Does nothing at the end of a step but see that the guidance was on from the first.

        Raises:
            ModelError: diffusers was given something around the callback and never read its names.
        """
        lease = None if self._lease is None else self._lease()
        if lease is None:
            raise ModelError(
                "the guidance's callback was called by a function of yours, so the steps before "
                "were not guided; give it to the pipeline itself, as callback_on_step_end=callback "
                "or callback_on_step_end=MultiPipelineCallbacks([callback, yours]) "
                "(diffusers.callbacks)"
            )
        _refuse_another(lease.attachment.pipe, pipeline)
        return callback_kwargs

    def _ended(self, attachment: Attachment) -> None:
        self.reports.extend(attachment.reports)
        attachment.reports.clear()
        attachment.close()


def _refuse_another(made_for: Any, calling: Any) -> None:
    if calling is not None and calling is not made_for:
        raise ModelError(
            f"this callback was made for another pipeline (a {type(made_for).__name__}) than the "
            f"{type(calling).__name__} that calls it, whose steps it would not guide; make one for "
            "each: pipe(..., callback_on_step_end=guidance.callback(pipe))"
        )
