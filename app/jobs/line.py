"""The line of jobs: one runs at a time, the others wait in their order and see their place."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from adhere.errors import ParameterError


class Line:
    """First come, first served. A place that is given up is free at once, wherever it is.

    Args:
        longest: jobs that may wait; the running one does not count.
    """

    def __init__(self, longest: int) -> None:
        self.longest = longest
        self._jobs: list[object] = []
        self._moved = threading.Condition()

    @contextmanager
    def place(self) -> Iterator[object]:
        """A place at the end of the line, given up when the block ends.

        Raises:
            ParameterError: the line is full.
        """
        job = object()
        with self._moved:
            if len(self._jobs) > self.longest:
                raise ParameterError(
                    f"{self.longest} jobs are waiting already, which is the most: try again in a "
                    "minute"
                )
            self._jobs.append(job)
        try:
            yield job
        finally:
            with self._moved:
                self._jobs.remove(job)
                self._moved.notify_all()

    def ahead(self, job: object) -> int:
        """How many jobs run or wait before this one; 0 when it is its turn."""
        with self._moved:
            return self._jobs.index(job)

    def wait(self, job: object, seconds: float) -> int:
        """Wait for the job's turn, at most so long; returns how many are still before it."""
        with self._moved:
            self._moved.wait_for(lambda: self._jobs[0] is job, seconds)
            return self._jobs.index(job)
