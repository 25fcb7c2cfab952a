"""The autopilot: guides only the pictures that fail, and stops when one is right.

Attempts are tried in the plan's order, and each is looked at on its way. What promises neither
enough nor more than most before it ends there, so that an attempt in vain costs a third of a
picture; what does goes on, at no more than its own passes, and is verified; if the verifier is
content, that is the picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from inspect import signature
from itertools import chain, cycle
from typing import Any, Protocol

import torch
from PIL import Image

from adhere import verifiers
from adhere.errors import GuidanceError
from adhere.guides.guide import Plugin
from adhere.guides.run import Run
from adhere.pipelines.engine.annotations import unmarked
from adhere.pipelines.engine.guidance import Guidance
from adhere.pipelines.families import family_of
from adhere.pipelines.search.calling import check_call
from adhere.pipelines.search.costs import Rows, extra_passes
from adhere.pipelines.search.foreseeing import Foreseeing, Foreseen
from adhere.pipelines.search.plan import Attempt, Plan, planned
from adhere.pipelines.search.search import APART
from adhere.pipelines.search.stopped import carry
from adhere.verifiers import Verifier
from adhere.verifiers.scoring import score

GOES_ON = 1 / 3
"""The share of looks, the best, after which a try goes on though it promises less than enough."""
ROUNDING = 1e-9
"""Of costs that are sums of shares."""


@dataclass(eq=False)
class Try:
    """One attempt from one noise. Scores are None where it was not foreseen, or not finished, or
    the verifier had none; `cost`, and what the `whole` costs at the most, are in plain pictures.
    `seen` is the picture that was foreseen.
    """

    attempt: Attempt
    seed: int
    foreseen: float | None = None
    score: float | None = None
    cost: float = 0.0
    whole: float = 1.0
    seen: Image.Image | None = None
    picture: Image.Image | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "attempt": self.attempt.name,
            "why": self.attempt.why,
            "seed": self.seed,
            "foreseen": self.foreseen,
            "score": self.score,
            "cost": round(self.cost, 3),
            "finished": self.picture is not None,
        }


@dataclass
class Flight:
    """What an autopilot did: `best` is the try whose picture it gives.

    Attributes:
        satisfied: whether the verifier was content with it.
        stopped_by: the name of the exception that ended the flight before its time, if one did.
    """

    plan: Plan
    tries: list[Try] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    satisfied: bool = False
    stopped_by: str | None = None

    @property
    def finished(self) -> list[Try]:
        return [one for one in self.tries if one.picture is not None]

    @property
    def blind(self) -> bool:
        """Whether a picture is finished and the verifier had no score for anything: more of them
        could not be told apart.
        """
        scores = [one.foreseen if one.score is None else one.score for one in self.tries]
        return bool(self.finished) and all(one is None for one in scores)

    @property
    def best(self) -> Try:
        """The finished try that the verifier likes best.

        Raises:
            GuidanceError: the flight was stopped before a picture was finished.
        """
        if not self.finished:
            raise GuidanceError(
                f"the flight was stopped by {self.stopped_by} before a picture was finished: fly "
                "it again (`finished` says whether there is one)"
            )
        return max(self.finished, key=lambda one: -math.inf if one.score is None else one.score)

    @property
    def picture(self) -> Image.Image:
        picture = self.best.picture
        assert picture is not None  # `best` is among the finished
        return picture

    @property
    def cost(self) -> float:
        """Passes of all tries, in those of a plain picture."""
        return sum(one.cost for one in self.tries)

    def to_json(self) -> dict[str, Any]:
        """The plan, all tries and what came of them."""
        stopped = {"stopped_by": self.stopped_by} if self.stopped_by else {}
        return {
            "plan": self.plan.to_json(),
            "tries": [one.to_json() for one in self.tries],
            "chosen": self.tries.index(self.best) if self.finished else None,
            "cost": round(self.cost, 3),
            "satisfied": self.satisfied,
            "notes": self.notes,
            **stopped,
        }


def autopilot(
    pipe: Any,
    prompt: str | Plan,
    *,
    budget: float = 8.0,
    verifier: str | Verifier = "clip-score",
    enough: float | None = None,
    seed: int = 0,
    previews: Any = None,
    **call: Any,
) -> Flight:
    """Make a prompt's picture, and mend it until a verifier is content or the budget is spent.

    Example:
        >>> flight = adhere.autopilot(pipe, "a red cat left of a blue car")  # doctest: +SKIP
        >>> flight.picture.save("right.png"); print(flight.to_json())  # doctest: +SKIP

    Args:
        pipe: a diffusers pipeline.
        prompt: the prompt, or its plan (`adhere.planned`), which may be edited.
        budget: passes that may be made, in those of one plain picture; left to the plan if one is
            given, as `verifier`'s name and `enough` are.
        verifier: what judges pictures: a function, or a name.
        enough: the score with which a picture is taken.
        seed: of the first noise.
        previews: decodes what is looked at early, for example an `AutoencoderTiny`; the pipeline's
            own decoder if left out.
        call: further arguments of the pipeline's call.

    Whatever ends it before its time, Ctrl-C or the lack of memory, is raised as it is, and has the
    `Flight` so far as its `outcome`, with what is finished and what all tries cost.

    Raises:
        ParameterError: a number is out of range, or the verifier does not read.
        PromptError: an empty prompt, one that only says what is not to be there, markup that does
            not parse, or a phrase of an attempt beyond the encoder's last token: before any
            denoising.
    """
    check_call(prompt.prompt if isinstance(prompt, Plan) else prompt, seed, call)
    if isinstance(prompt, Plan):
        plan, judged = prompt, verifiers.verifier(prompt.verifier)
    else:
        name = verifier if isinstance(verifier, str) else getattr(verifier, "__name__", "function")
        plan = planned(prompt, budget=budget, verifier=name, enough=enough)
        judged = verifiers.verifier(verifier)
    make = _Called(pipe, plan, call, previews)
    flight = Flying(plan, judged, make).flown(int(seed))
    flight.notes.extend(note for note in make.said if note not in flight.notes)
    if plan.negative and not (make.hears_negative and make.guided):
        does = "reads no negative text of the plan's"
        if make.hears_negative:
            does = "makes no prediction without the prompt, which a negative prompt needs (a scale "
            does += "of guidance above 1); `nag` keeps things out without"
        flight.notes.append(
            f"{plan.negative!r} was not kept out: this call of {type(pipe).__name__} {does}"
        )
    return flight


class Make(Protocol):
    """Makes a try's picture; None where a `look` on the way ended it."""

    def __call__(self, one: Try, look: Foreseeing | None) -> Image.Image | None: ...

    @property
    def counted(self) -> Rows:
        """The denoiser's passes in the call that is under way, or was the last."""


@dataclass
class Flying:
    """A flight under way, whatever makes its pictures.

    Attributes:
        unit: rows of a plain picture, known from the first look on.
        steps: of one run, and its `evaluations` of the denoiser.
        share: of a run that has been made at the look.
    """

    plan: Plan
    judged: Verifier
    make: Make
    unit: float = 0.0
    steps: int = 1
    evaluations: int = 1
    share: float = 1.0

    def flown(self, seed: int) -> Flight:
        """Tries until the verifier is content or the budget is spent.

        What is raised on the way has the flight so far as its `outcome`.

        Args:
            seed: of the first noise.
        """
        flight = Flight(self.plan, notes=list(filter(None, [self.plan.not_read])))
        try:
            self._try(flight, seed)
        except BaseException as stop:
            flight.stopped_by = type(stop).__name__
            carry(stop, flight)
            raise
        if flight.cost > self.plan.budget + ROUNDING:
            flight.notes.append(
                f"the first picture alone cost {flight.cost:.2f} plain ones, and the budget is "
                f"{self.plan.budget:g}: it was finished all the same"
            )
        return flight

    def _try(self, flight: Flight, seed: int) -> None:
        for one in self._candidates(seed):
            if not self._affordable(one.attempt, flight):
                if self._more(flight):
                    continue
                break
            flight.tries.append(one)
            self._fly(one, flight)
            if flight.satisfied or flight.blind:
                break
        if not flight.finished:
            self._finish(max(flight.tries, key=_promise), flight)

    @property
    def _guided(self) -> tuple[Attempt, ...]:
        """What is tried again from other noises."""
        return self.plan.attempts[1:] or self.plan.attempts

    def _candidates(self, seed: int) -> Iterator[Try]:
        """Every attempt from the given noise, then those that guide from others, without end. None
        has the same noise again: that would make the same picture.
        """
        tried: list[tuple[Plugin, ...]] = []
        for one in chain(self.plan.attempts, cycle(self._guided)):
            yield Try(one, seed + tried.count(one.plugins) * APART)
            tried.append(one.plugins)

    def _more(self, flight: Flight) -> bool:
        """Whether there is a try to be had yet."""
        return any(self._affordable(each, flight) for each in self._guided)

    def _affordable(self, attempt: Attempt, flight: Flight) -> bool:
        """Whether another try may be made whole; or, where it was looked at in vain before and
        nothing is finished, looked at and the best one finished.
        """
        if not flight.tries:
            return True
        added = self._added(attempt, flight)
        if flight.finished or all(one.attempt != attempt for one in flight.tries):
            return self._covers(1 + added, flight)
        best = max(flight.tries, key=_promise)
        return self._covers(self.share + added + max(1 + added, best.whole), flight)

    def _added(self, attempt: Attempt, flight: Flight) -> float:
        """What an attempt costs beside the plain picture: what its methods say at the most, and no
        less than it was seen to.
        """
        layout = self.plan.layout_of(attempt)
        said = extra_passes(attempt.plugins, self.steps, self.evaluations, layout) / self.unit
        seen = (one.whole - 1 for one in flight.tries if one.attempt == attempt)
        return max(said, *seen, 0.0)

    def _covers(self, cost: float, flight: Flight) -> bool:
        """Whether what is left of the budget pays for something."""
        return cost <= self.plan.budget - flight.cost + ROUNDING

    def _fly(self, one: Try, flight: Flight) -> None:
        """Make a try: to its end if it promises something, or ending it would save nothing."""

        def worth(seen: list[Foreseen]) -> bool:
            (foreseen,) = seen
            assert foreseen.picture is not None  # the look decodes it
            one.seen = foreseen.picture
            one.foreseen = self._scored(one.seen, flight)
            self.share = self.make.counted.share
            self._pay(one, self.share)
            one.whole = self._whole(one, flight)
            return self._promises(one, flight) or self._is_last(one, flight)

        begins = self._rehearse if flight.tries == [one] else None
        look = Foreseeing(self.plan.look_at, worth, begins=begins)
        one.picture = self._made(one, look)
        one.whole = one.whole if look.done() else one.cost
        self._verify(one, flight)

    def _rehearse(self, run: Run) -> None:
        """Begin what all attempts will, so that what one of them cannot do is said at once, and not
        when its turn comes.
        """
        for attempt in self.plan.attempts:
            layout = self.plan.layout_of(attempt)
            prompts = tuple(replace(one, layout=layout) for one in run.prompts)
            apart = replace(run, prompts=prompts, notes=[], used=set())
            for each in attempt.plugins:
                each.guide(apart)

    def _is_last(self, one: Try, flight: Flight) -> bool:
        """Whether what is left after a look would pay for no other try, nor for the end of one that
        promises more.
        """
        if self._more(flight):
            return False
        best = max(flight.tries, key=_promise)
        return bool(flight.finished) or best is one or not self._covers(best.whole, flight)

    def _whole(self, one: Try, flight: Flight) -> float:
        """What a try that is looked at costs whole, at the most; where its methods have taken more
        than they say already, as much as it goes on like that.
        """
        added = one.cost - self.share
        said = self._added(one.attempt, flight)
        return 1 + said if added <= said + ROUNDING else one.cost / self.share

    def _promises(self, one: Try, flight: Flight) -> bool:
        if one.foreseen is None:  # the verifier failed, not the picture
            return True
        if self.plan.hope is not None and one.foreseen >= self.plan.hope:
            return True
        before = [each.foreseen for each in flight.tries if each.foreseen is not None][:-1]
        better = sum(each > one.foreseen for each in before)
        return bool(before) and better < GOES_ON * (len(before) + 1)

    def _finish(self, one: Try, flight: Flight) -> None:
        """Make one that was ended at its look from the beginning, and whole."""
        one.picture = self._made(one, None)
        self._verify(one, flight)

    def _made(self, one: Try, look: Foreseeing | None) -> Image.Image | None:
        """A try's picture, if a look does not end it. What is stopped has its cost, too."""
        spent = one.cost
        try:
            picture = self.make(one, look)
        except BaseException:
            if self.make.counted.own:
                self._pay(one, self.make.counted.share, spent)
            raise
        ended = look is not None and look.done()
        self._pay(one, self.make.counted.share if ended else 1.0, spent)
        return picture

    def _pay(self, one: Try, share: float, spent: float = 0.0) -> None:
        """What a try has cost now: a share of its run, after what it had `spent` before."""
        counted = self.make.counted
        self.unit = self.unit or counted.own / share
        self.steps, self.evaluations = counted.steps, counted.evaluations
        one.cost = spent + counted.rows / self.unit

    def _verify(self, one: Try, flight: Flight) -> None:
        if one.picture is None:
            return
        one.score = self._scored(one.picture, flight)
        enough = self.plan.enough
        flight.satisfied = enough is not None and one.score is not None and one.score >= enough

    def _scored(self, picture: Image.Image, flight: Flight) -> float | None:
        found = score(self.judged, [picture], [unmarked(self.plan.prompt)])
        flight.notes.extend(note for note in found.failures if note not in flight.notes)
        return None if math.isnan(found.scores[0]) else found.scores[0]


@dataclass
class _Called:
    """Pictures by calls of a pipeline; `said` is what the finished ones note."""

    pipe: Any
    plan: Plan
    call: Mapping[str, Any]
    previews: Any = None
    said: dict[str, None] = field(default_factory=dict)
    guided: bool = True

    def __post_init__(self) -> None:
        self.counted = Rows(family_of(self.pipe))

    def __call__(self, one: Try, look: Foreseeing | None) -> Image.Image | None:
        call = self._told()
        plugins = one.attempt.plugins if look is None else (*one.attempt.plugins, look)
        ended = None if look is None else look.done

        def called() -> list[Image.Image]:
            generator = torch.Generator("cpu").manual_seed(one.seed)
            guidance = Guidance(*plugins)
            layout = self.plan.layout_of(one.attempt)
            with guidance.attach(
                self.pipe, layout=layout, interrupt=ended, previews=self.previews
            ) as attached:
                pictures: list[Image.Image] = self.pipe(
                    prompt=self.plan.prompt, generator=generator, **call
                ).images
            self.said.update(dict.fromkeys(attached.report.notes))
            self.guided &= attached.report.guided
            return pictures

        with Rows(family_of(self.pipe)) as self.counted:
            pictures = called() if look is None else look.through(called)
        return pictures[0] if pictures else None

    def _told(self) -> dict[str, Any]:
        """The call's arguments, with what the plan keeps out beside what the caller does."""
        call = dict(self.call)
        if self.plan.negative and self.hears_negative:
            given = call.get("negative_prompt") or ""
            call["negative_prompt"] = ", ".join(filter(None, (given, self.plan.negative)))
        return call

    @property
    def hears_negative(self) -> bool:
        """Whether a negative text can be added to the call's."""
        given = self.call.get("negative_prompt")
        return (
            "negative_prompt" in signature(type(self.pipe).__call__).parameters
            and (given is None or isinstance(given, str))
            and self.call.get("negative_prompt_embeds") is None
        )


def _promise(one: Try) -> float:
    return -math.inf if one.foreseen is None else one.foreseen
