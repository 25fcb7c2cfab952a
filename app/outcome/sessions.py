"""What belongs to one visitor: the pictures that were made, and the signs that stop jobs."""

from __future__ import annotations

import logging
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass

from adhere.app.jobs.limits import LIMITS, Limits
from adhere.app.jobs.result import Comparison, Result
from adhere.app.outcome.gallery import Gallery

log = logging.getLogger("adhere.app")


@dataclass(frozen=True)
class Kept:
    """A result in a visitor's history, with the tab that made it and a number of its own."""

    number: int
    tab: str
    result: Result


class Histories:
    """The latest results of the latest visitors, by a key that only the visitor's browser knows.

    In memory they outlive a reload of the page; with a `gallery` also the app.
    """

    def __init__(self, limits: Limits = LIMITS, gallery: Gallery | None = None) -> None:
        self._kept: OrderedDict[str, list[Kept]] = OrderedDict()
        self._limits = limits
        self.gallery = gallery
        self._lock = threading.Lock()

    @staticmethod
    def new_key() -> str:
        """A key that nobody can guess."""
        return secrets.token_urlsafe(18)

    def of(self, key: str | None) -> list[Kept]:
        """A visitor's results, the newest first."""
        if not key:
            return []
        with self._lock:
            return list(self._of(key))

    def add(self, key: str | None, tab: str, result: Result) -> None:
        """Put a result in front; the oldest results and visitors make room."""
        if not key:
            return
        with self._lock:
            old = self._of(key)
            number = old[0].number + 1 if old else 1
            self._remember(key, [Kept(number, tab, result), *old][: self._limits.kept])
        if self.gallery is None:
            return
        try:
            self.gallery.save(key, number, tab, result)
        except OSError:  # a full disk is the operator's to mend; the visitor's picture is there
            log.exception("the gallery did not keep a result")

    def _of(self, key: str) -> list[Kept]:
        if key not in self._kept and self.gallery is not None:
            found = [Kept(*one) for one in self.gallery.load(key)]
            if found:
                self._remember(key, found)
        return self._kept.get(key, [])

    def _remember(self, key: str, kept: list[Kept]) -> None:
        self._kept[key] = kept
        self._kept.move_to_end(key)
        while len(self._kept) > self._limits.sessions:
            self._kept.popitem(last=False)

    def result(self, key: str | None, number: int) -> Kept | None:
        """A result by its number, if it is still kept."""
        return next((kept for kept in self.of(key) if kept.number == number), None)

    def comparison(self, key: str | None, name: str | None) -> Comparison | None:
        """A comparison by its name, such as `3/0`: the first of result 3."""
        number, _, index = str(name or "").partition("/")
        kept = self.result(key, int(number)) if number.isdigit() else None
        if kept is None or not index.isdigit() or int(index) >= len(kept.result.comparisons):
            return None
        return kept.result.comparisons[int(index)]


class Cancellations:
    """The stop signs of everybody's running and waiting jobs: one job in each tab of a session.

    A program's call is a tab of its own.
    """

    def __init__(self, limits: Limits = LIMITS) -> None:
        self._announced: OrderedDict[tuple[str, str], threading.Event] = OrderedDict()
        self._begun: dict[tuple[str, str], threading.Event] = {}
        self._limits = limits
        self._lock = threading.Lock()

    def announce(self, session: str, tab: str) -> bool:
        """Hear Stop from now on for the job that the tab is about to begin.

        Returns:
            False while the tab has a job: that one keeps its sign, or nothing could stop it.
        """
        with self._lock:
            if (session, tab) in self._begun:
                return False
            self._announced[session, tab] = threading.Event()
            # What was announced by a page that was left at once never begins.
            while len(self._announced) > 4 * self._limits.sessions:
                self._announced.popitem(last=False)
        return True

    def begin(self, session: str, tab: str) -> threading.Event | None:
        """The sign of a job that was announced, and begins; `end` gives its tab free.

        None without an announcement: another job was going on, or began with it.
        """
        with self._lock:
            sign = self._announced.pop((session, tab), None)
            if sign is not None:
                self._begun[session, tab] = sign
        return sign

    def end(self, session: str, tab: str, sign: threading.Event) -> None:
        """A job has ended: its tab may begin another, if it has not already."""
        with self._lock:
            if self._begun.get((session, tab)) is sign:
                del self._begun[session, tab]

    def stop(self, session: str, tab: str | None = None) -> None:
        """Stop a session's job in a tab, or all its jobs."""
        with self._lock:
            for (owner, place), sign in (*self._announced.items(), *self._begun.items()):
                if owner == session and tab in (None, place):
                    sign.set()
