"""What the toybox raises: one class, because every message says what was given and what to do."""

from __future__ import annotations

from adhere.errors import GuidanceError


class ToyboxError(GuidanceError, ValueError):
    """A scene, prompt, folder or checkpoint that the toybox cannot work with."""
