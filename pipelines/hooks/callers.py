"""Which pipeline's call the running code is part of.

Pipelines may share a denoiser or a scheduler, and a callback of one may call the other. A context
variable cannot tell them apart, since diffusers sets nothing when a call begins; the stack can.
Reading a frame changes nothing in it.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from diffusers import DiffusionPipeline


def calling_pipeline(known: Any = None) -> Any | None:
    """The pipeline whose method is the innermost on this thread's stack; None outside of any.

    Args:
        known: a pipeline to look for that may be of no diffusers class.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        owner = _owner(frame)
        if owner is not None and (owner is known or isinstance(owner, DiffusionPipeline)):
            return owner
        frame = frame.f_back
    return None


def inside_a_call(pipe: Any, thread: int) -> bool:
    """Whether a thread is in a call of a pipeline at this moment."""
    frame = sys._current_frames().get(thread)
    while frame is not None:
        if frame.f_code.co_name == "__call__" and _owner(frame) is pipe:
            return True
        frame = frame.f_back
    return False


def _owner(frame: FrameType) -> Any:
    """The object whose method a frame is; others' locals are not looked at."""
    return frame.f_locals.get("self") if frame.f_code.co_varnames[:1] == ("self",) else None
