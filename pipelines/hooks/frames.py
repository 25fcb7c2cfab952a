"""Arguments that a pipeline keeps to itself."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any


def local_of_call(pipe: Any, name: str, default: Any) -> Any:
    """A local variable of the pipeline's `__call__` that is running now in this thread.

    PixArt's guidance scale and FLUX's true guidance scale are stored nowhere else, and a prediction
    method cannot be exact without them. Reading a frame changes nothing in it.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "__call__" and frame.f_locals.get("self") is pipe:
            found = frame.f_locals.get(name)
            if found is not None:
                return found
        frame = frame.f_back
    return default
