"""Guidance as an official diffusers callback.

Diffusers gives a callback no moment before the first step. So the pipeline is watched for as long
as the callback lives, and a call that is given it, alone or among others, is guided from its
beginning; what diffusers calls at the end of each step has nothing left to do.
"""

from __future__ import annotations

from typing import Any
from weakref import finalize, ref

from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback

from adhere.errors import ModelError
from adhere.pipelines.engine.attachment import Attachment
from adhere.pipelines.engine.outcome import GuidedCalls, Outcome
from adhere.pipelines.engine.state import Setup
from adhere.pipelines.hooks.pipeline_call import PipelineCall


class GuidanceCallback(PipelineCallback, GuidedCalls):
    """Made by `Guidance.callback(pipe)`. Can be used for any number of calls, one at a time."""

    def __init__(self, pipe: Any, setup: Setup) -> None:
        super().__init__(cutoff_step_ratio=1.0)
        self.outcome = Outcome()
        mine = ref(self)  # or the watched pipeline would keep the callback alive
        self._attachment = Attachment(
            pipe, setup, self.outcome, carried=lambda call: carries(call, mine())
        )
        self._attachment.open()
        finalize(self, self._attachment.close).atexit = False

    @property
    def tensor_inputs(self) -> list[str]:
        name = _Name("latents")
        name.callback = self
        return [name]

    def callback_fn(
        self, pipeline: Any, step_index: int, timestep: Any, callback_kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        """Does nothing at the end of a step but see that the guidance was on from the first.

        Raises:
            ModelError: the call is not guided: it is another pipeline's, or something was put
                around the callback.
        """
        self.refuse_other(pipeline)
        if not self.guides_now:
            raise ModelError(
                "the guidance's callback was called by a function of yours, so the steps before "
                "were not guided; give it to the pipeline itself, as callback_on_step_end=callback "
                "or callback_on_step_end=MultiPipelineCallbacks([callback, yours]) "
                "(diffusers.callbacks)"
            )
        return callback_kwargs

    @property
    def guides_now(self) -> bool:
        """Whether a call that was given this callback is under way."""
        return self._attachment.session is not None

    def refuse_other(self, pipeline: Any = None) -> None:
        """Raise `ModelError` in a call of another pipeline than the callback's."""
        own = self._attachment.pipe
        if pipeline is own or (pipeline is None and self.guides_now):
            return
        other = "one" if pipeline is None else type(pipeline).__name__
        raise ModelError(
            f"this callback was made for another pipeline (a {type(own).__name__}) than the "
            f"{other} that calls it, whose steps it would not guide; make one for "
            "each: pipe(..., callback_on_step_end=guidance.callback(pipe))"
        )


class _Name(str):
    """The name of a tensor that diffusers is to hand over, which knows whose callback asked.

    A pipeline compares the names with those it has before it does anything else. So a pipeline
    that the callback was not made for is found out before its first step.
    """

    callback: GuidanceCallback

    def __eq__(self, other: object) -> bool:
        self.callback.refuse_other()
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def carries(call: PipelineCall, callback: GuidanceCallback | None) -> bool:
    """Whether a call is given a callback, or the tensor names of one that a function calls."""
    names = call.values.get("callback_on_step_end_tensor_inputs") or ()
    asking = [name.callback for name in names if isinstance(name, _Name)]
    given = [*asking, *_flat(call.values.get("callback_on_step_end"))]
    return any(one is callback for one in given)


def _flat(given: Any) -> list[Any]:
    if isinstance(given, MultiPipelineCallbacks):
        return [one for inner in given.callbacks for one in _flat(inner)]
    return [given]
