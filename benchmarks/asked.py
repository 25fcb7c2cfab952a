"""What a benchmark's command line is asked, and what is wrong with it, in a sentence."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from adhere.errors import GuidanceError


def whole(text: str) -> int:
    """A whole number from 1 on.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not text.isdecimal() or not text.isascii() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def answered(main: Callable[[], object]) -> None:
    """Run a benchmark; what cannot be done as asked is a sentence, as of `adhere`."""
    try:
        main()
    except (GuidanceError, OSError) as error:
        sys.exit(f"error: {error}")
