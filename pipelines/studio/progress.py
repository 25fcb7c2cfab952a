"""Progress with rate and time left: a bar in a terminal, lines where nobody watches."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Tick = Callable[[float], None]

LINE_EVERY = 15.0
"""Seconds between two lines: a log of an hour's run stays readable."""


@contextmanager
def progress(title: str, total: int) -> Iterator[Tick]:
    """Yields a function that is told how many more are done, fractions too; on standard error."""
    if not total or sys.stderr is None:  # `2>&-`: `print` would take standard output instead
        yield lambda amount: None
    elif sys.stderr.isatty():
        with _bar(title, total) as tick:
            yield tick
    else:
        lines = _Lines(title, total)
        yield lines
        lines.last_word()


@contextmanager
def _bar(title: str, total: int) -> Iterator[Tick]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task(title, total=total)
        yield lambda amount: bar.advance(task, amount)


class _Lines:
    """A line at the start, every few seconds, and at the end."""

    def __init__(self, title: str, total: int) -> None:
        self.title, self.total, self.done = title, total, 0.0
        self.started = self.last = time.monotonic()
        self._say(f"0/{total}")

    def __call__(self, amount: float) -> None:
        self.done += amount
        now = time.monotonic()
        if now - self.last >= LINE_EVERY:
            self.last = now
            rate = self.done / max(now - self.started, 1e-9)
            left = max(self.total - self.done, 0) / max(rate, 1e-9)
            self._say(f"{self.so_far}, {rate:.2f}/s, {left:.0f} s left")

    def last_word(self) -> None:
        seconds = time.monotonic() - self.started
        self._say(f"{self.so_far}, {seconds:.0f} s")

    @property
    def so_far(self) -> str:
        # Samplers that evaluate a step twice tell of more steps than were asked for.
        return f"{min(self.done, self.total):.0f}/{self.total}"

    def _say(self, text: str) -> None:
        print(f"{self.title}: {text}", file=sys.stderr, flush=True)
