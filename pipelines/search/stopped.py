"""What is finished when something stops a search or a flight: it travels with the exception.

An interrupt stays an interrupt, and an error the error that it is: a loop over prompts ends at
Ctrl-C as it would without a search in it, and whoever wants the pictures takes them from there.
"""

from __future__ import annotations

from typing import Any


def carry(stop: BaseException, outcome: Any) -> None:
    """Let what stops something have what was finished, as its `outcome`."""
    stop.outcome = outcome  # type: ignore[attr-defined]


def carried(stop: BaseException) -> Any:
    """What was finished before something stopped it; None where nothing had begun."""
    return getattr(stop, "outcome", None)
