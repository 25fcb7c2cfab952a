"""The bars of libraries that load models, and how to do without them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_bars() -> Iterator[None]:
    """Keep the bars of diffusers and transformers away: a log of a thousand tasks is read too, and
    the toybox's are full before they are seen.
    """
    from diffusers.utils import logging as diffusers
    from transformers.utils import logging as transformers

    shown = [one for one in (diffusers, transformers) if one.is_progress_bar_enabled()]
    for one in shown:
        one.disable_progress_bar()
    try:
        yield
    finally:
        for one in shown:
            one.enable_progress_bar()
