"""Requests whose picture is chosen: the best of several, or an autopilot's."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from PIL import Image

from adhere import verifiers
from adhere.guides.guide import Plugin
from adhere.guides.run import Prompt
from adhere.pipelines.families import family_of
from adhere.pipelines.search.autopilot import Flight, Flying, Try
from adhere.pipelines.search.costs import Rows
from adhere.pipelines.search.foreseeing import Foreseeing, Foreseen
from adhere.pipelines.search.plan import Plan
from adhere.pipelines.search.search import Ranking, ranked
from adhere.pipelines.search.stopped import carried, carry
from adhere.pipelines.studio.request import Interrupt, OnStep, Picture, Progress, Request


class Making(Protocol):
    """What makes pictures without choosing: a studio."""

    pipe: Any
    together: int

    def batch(
        self,
        batch: list[Request],
        on_step: OnStep | None,
        interrupt: Interrupt | None,
        record: bool,
        look: Foreseeing | None = None,
    ) -> list[Picture]: ...

    def called(
        self,
        batch: list[Request],
        plugins: Sequence[Plugin],
        on_step: OnStep | None,
        interrupt: Interrupt | None,
    ) -> Any: ...


@dataclass(frozen=True)
class Choosing:
    """How the pictures of chosen requests are made, all of them by one studio."""

    studio: Making
    on_step: OnStep | None = None
    interrupt: Interrupt | None = None
    record: bool = False

    def chosen(self, request: Request) -> Picture:
        """The picture of a request with a `search` or `auto`.

        What is raised on the way has the best picture that was finished as its `outcome`, if any.
        """
        started = time.perf_counter()
        chosen: tuple[Callable[[], Any], Callable[[Any], Picture]] = (
            self._flown(request) if request.auto else self._best(request)
        )
        choose, best = chosen

        def picture(outcome: Any) -> Picture:
            found = best(outcome)
            found.request, found.seconds = request, time.perf_counter() - started
            found.report["notes"].extend(outcome.notes)
            if outcome.stopped_by:
                found.report["notes"].append(
                    f"stopped by {outcome.stopped_by}: the best of {len(outcome.finished)} "
                    "finished until then; the same command again makes it whole"
                )
            return found

        try:
            outcome = choose()
        except BaseException as stop:
            cut_short = carried(stop)
            carry(stop, picture(cut_short) if cut_short and cut_short.finished else None)
            raise
        return picture(outcome)

    def _best(self, request: Request) -> tuple[Callable[[], Ranking], Callable[[Ranking], Picture]]:
        """A search, and its picture."""
        how, made = request.search, dict[int, Picture]()
        assert how is not None  # one of the two is there

        def batch(seeds: Sequence[int]) -> list[Request]:
            return [replace(request, seed=seed, search=None) for seed in seeds]

        def finish(seeds: Sequence[int]) -> list[Image.Image]:
            pictures = self._made(batch(seeds))
            made.update((one.request.seed, one) for one in pictures)
            return [one.image for one in pictures]

        def foresee(seeds: Sequence[int]) -> list[Foreseen]:
            return self._foreseen(batch(seeds), how.look())

        def picture(found: Ranking) -> Picture:
            best = made[found.candidates[0].seed]
            best.report["search"] = found.to_json()
            best.made["chosen"] = {"seed": best.request.seed, "score": found.candidates[0].score}
            return best

        judged = verifiers.verifier(how.verifier)
        prompt, together = Prompt(request.prompt).plain, self.studio.together
        return partial(
            ranked, prompt, how, judged, request.seed, foresee, finish, together
        ), picture

    def _flown(self, request: Request) -> tuple[Callable[[], Flight], Callable[[Flight], Picture]]:
        """A flight, and its picture."""
        plan = request.flight_plan
        assert plan is not None  # `chosen` has seen to that
        make = _Flown(self, replace(request, auto=None), plan)

        def picture(flight: Flight) -> Picture:
            best, chosen = make.pictures[flight.best], flight.best
            best.tries = tuple(flight.tries)
            best.report["autopilot"] = flight.to_json()
            best.made["chosen"] = {
                "attempt": chosen.attempt.name,
                "seed": chosen.seed,
                "score": chosen.score,
            }
            return best

        flying = Flying(plan, verifiers.verifier(plan.verifier), make)
        return partial(flying.flown, request.seed), picture

    def _made(self, batch: list[Request], look: Foreseeing | None = None) -> list[Picture]:
        """Their pictures; none where a look on the way ended them."""
        return self.studio.batch(batch, self.on_step, self.interrupt, self.record, look)

    def _foreseen(self, batch: list[Request], look: Foreseeing) -> list[Foreseen]:
        interrupt = look.or_else(self.interrupt)
        plugins = (*batch[0].plugins, look)
        return look.of(lambda: self.studio.called(batch, plugins, None, interrupt))


class _Flown:
    """An autopilot's tries as requests of a studio."""

    def __init__(self, choosing: Choosing, request: Request, plan: Plan) -> None:
        self.told = choosing.on_step
        told = None if choosing.on_step is None else self._tell
        self.choosing, self.plan = replace(choosing, on_step=told), plan
        negative = ", ".join(filter(None, (request.negative_prompt, plan.negative)))
        self.request = replace(request, prompt=plan.prompt, negative_prompt=negative)
        self.pictures: dict[Try, Picture] = {}
        self.tries: list[Try] = []
        self.counted = Rows(family_of(choosing.studio.pipe))
        self.trying = 0

    def _tell(self, progress: Progress) -> None:
        assert self.told is not None  # or nobody asks for this
        self.told(replace(progress, tries=tuple(map(copy, self.tries)), trying=self.trying))

    def __call__(self, one: Try, look: Foreseeing | None) -> Image.Image | None:
        if one not in self.tries:
            self.tries.append(one)
        self.trying = self.tries.index(one)
        plugins, layout = one.attempt.plugins, self.plan.layout_of(one.attempt)
        asked = replace(self.request, seed=one.seed, plugins=plugins, layout=layout)
        with Rows(family_of(self.choosing.studio.pipe)) as self.counted:
            made = self.choosing._made([asked], look)
        if not made:
            return None
        (self.pictures[one],) = made
        return made[0].image
