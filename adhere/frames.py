"""Files with several frames or pages, of which the first is read: found and said in one way."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from PIL import Image

from adhere.errors import GuidanceWarning

_STILL = ("MPO",)
"""Formats of cameras, with the same picture again behind the first one: smaller, or for depth."""
_NAMED = 3
"""Files that a warning of many names."""


def frames(opened: Image.Image) -> int:
    """How many pictures an opened file has that are shown one after another, or are its pages."""
    return 1 if opened.format in _STILL else int(getattr(opened, "n_frames", 1))


def warn_of_more(counts: Mapping[str, int]) -> None:
    """Say of which files the first of several frames is read; nothing where each has one.

    Args:
        counts: the frames of each file, by what it is called.

    Warns:
        GuidanceWarning: some have several. All are named by one sentence.
    """
    several = [name for name, count in counts.items() if count > 1]
    if len(several) == 1:
        said = (
            f"{several[0]!r} has {counts[several[0]]} frames or pages, and the first is read; save "
            "the one that is meant as a picture of its own"
        )
    else:
        rest = len(several) - _NAMED
        more = f" and {rest} more" if rest > 0 else ""
        said = (
            f"{len(several)} files have several frames or pages, and the first of each is read "
            f"({', '.join(map(repr, several[:_NAMED]))}{more}); save those that are meant as "
            "pictures of their own"
        )
    if several:
        warnings.warn(said, GuidanceWarning, stacklevel=3)
