"""The diffusers that guidance was tested with; a newer one is guided too, with a warning."""

from __future__ import annotations

import functools
import re
import warnings

import diffusers

from adhere.errors import GuidanceWarning

TESTED = (0, 42)
"""The newest release of diffusers that all tests have passed with, first and second number."""


@functools.cache
def warn_of_newer() -> None:
    """Warn, once a process, of a diffusers that is newer than the newest tested one."""
    found = re.match(r"(\d+)\.(\d+)", diffusers.__version__)
    if found and (int(found[1]), int(found[2])) > TESTED:
        tested = ".".join(map(str, TESTED))
        warnings.warn(
            f"diffusers {diffusers.__version__} is newer than {tested}, the newest that this "
            "adhere was tested with; if a guided picture looks wrong, update adhere, or install "
            f"diffusers {tested}",
            GuidanceWarning,
            stacklevel=2,
        )
