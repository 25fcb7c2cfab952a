"""What an autopilot will try for a prompt, in which order, and why: plain data, to be read and
edited before anything is made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from adhere.errors import LayoutError, ParameterError, PromptError
from adhere.guides import parameters
from adhere.guides.guide import Plugin
from adhere.layout.composing import arranged, unread
from adhere.layout.layout import Layout, Region
from adhere.pipelines.search.settings import is_number, known_fields, plain_numbers
from adhere.plugins import plugin
from adhere.prompt.markup import strip_markup
from adhere.prompt.parser import Parse, parse
from adhere.prompt.phrases import TORN, torn

BIND, EXCITE, PLACE = "syngen", "attend-and-excite", "zestguide"
"""What mends wrong properties, missing things and wrong places best, by the study."""
PLAIN = "plain"
"""The name of an attempt without plugins."""
_ENDS = (
    r"(?!(?:and|or|nor|in|on|at|with|without|of|but|is|are|left|right|above|below|under|over|next|"
    r"underneath|beneath|beside|near|behind|inside|between|atop|to|by)\b)"
)
_ARTICLE = re.compile(r"\b(?:an?|any|no) ", re.IGNORECASE)
_NOUN = rf"(?:{_ARTICLE.pattern})?[\w-]+(?: {_ENDS}[\w-]+)?"
_OR = re.compile(r",? n?or ", re.IGNORECASE)
_INSTEAD = (
    r"(?:(?:^|(?<=[,;.] )|(?<=but )|(?<=and ))not(?= (?:an?|any) (?!lot |bit |few |little ))"
    r"|lacking|minus|excluding|devoid of|free of|instead of|rather than)"
)
"""What is read as "without" is: "a cat, not a dog", "a street devoid of cars"."""
_NO = (
    r"(?:(?:with|but|and|or|there (?:is|are)) (?:no|zero|0)|(?<![\w'-] )(?<!\.)(?:no|zero|0))"
    r"(?! (?:\d|(?:one|longer|more|matter|doubt|smoking|parking|entry|gravity|degrees?)\b))"
)
"""Before what is not there; not in "a no parking sign", "no one", "No 5" or "zero gravity"."""
_WITHOUT = re.compile(
    rf"\b(?:without|{_INSTEAD}|{_NO}) ({_NOUN}(?:{_OR.pattern}{_NOUN})*)", re.IGNORECASE
)
"""What shall not be there: nouns, each with one word before it at the most."""
_SIDE = r"(?:(?:to|on|at) the )?(?:left|right)(?: side)? of"
_BY = rf"(?:{_SIDE}|on top of|above|over|below|under|beneath|next to|beside|near|behind)"
_WHERE = re.compile(
    rf"^\W*{_WITHOUT.pattern} {_BY}\b"
    rf"|{_WITHOUT.pattern} (?:(?:to|on) (?:its|his|her|their) (?:left|right)|{_BY} (?:it|them)\b)",
    re.IGNORECASE,
)
"""What shall not be there, with the place where it is not: of the first thing, or beside "it"."""
_LOOSE = re.compile(r"^(?:(?:and|but|or)\b|[\s,.;])+|(?:\b(?:and|but|or)|[\s,])+$", re.IGNORECASE)
"""What joined something unwanted to the rest."""


@dataclass(frozen=True)
class Pilot:
    """How a request's prompt is flown: the settings of its `Plan`. Plain data; JSON round-trip."""

    budget: float = 8.0
    verifier: str = "clip-score"
    enough: float | None = None
    look_at: float = 0.36

    def plan(self, prompt: str, layout: Layout | None = None) -> Plan:
        """A prompt's plan with these settings.

        Args:
            layout: where things belong; as the prompt's words have it if left out.

        Raises:
            ParameterError: a setting is out of range.
            LayoutError: the layout is not the prompt's.
        """
        return planned(prompt, layout, **vars(self))

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Pilot:
        """The inverse of `to_json`.

        Raises:
            ParameterError: an unknown key.
        """
        return cls(**known_fields(cls, data, "an autopilot"))


@dataclass(frozen=True)
class Attempt:
    """One way to make the picture: plugins, and what they are for."""

    why: str
    plugins: tuple[Plugin, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.why, str) or torn(self.why):
            raise ParameterError(f"why={self.why!a} is no text; write what the attempt is for")
        parameters.each_once(self.plugins)

    @property
    def name(self) -> str:
        return "+".join(one.name for one in self.plugins) or PLAIN

    def to_json(self) -> dict[str, Any]:
        return {"why": self.why, "plugins": [parameters.to_json(one) for one in self.plugins]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Attempt:
        """The inverse of `to_json`.

        Raises:
            ParameterError: it is none, has an unknown key, or a plugin that does not read.
        """
        if not isinstance(data, Mapping) or not data.keys() <= {"why", "plugins"}:
            raise ParameterError(
                f'{data!r} is no attempt; write {{"why": "...", "plugins": [...]}}, without '
                "plugins for a plain picture"
            )
        plugins = data.get("plugins", ())
        if not isinstance(plugins, (list, tuple)):
            raise ParameterError(f"plugins={plugins!r} is no list; write ['syngen'] for one")
        return cls(data.get("why", ""), tuple(map(plugin, plugins)))


@dataclass(frozen=True)
class Plan:
    """How a prompt is flown.

    Attributes:
        prompt: as the model is given it: without what is not to be there.
        attempts: in the order of trying; after the last, all but the first again from other noise.
            One that is there twice is tried from other noise the second time.
        layout: where things belong, for attempts that follow one.
        negative: what the prompt says is not to be there.
        verifier: what judges pictures.
        enough: the score with which a picture is taken; None to spend the budget, then finish the
            one that promises most.
        promising: the foreseen score with which a try goes on; `enough` if left out. One that
            promises less goes on where it is among the best third of what was foreseen before, so
            that a verifier that sees little in unfinished pictures does not end them all; the first
            try never does.
        look_at: share of the run at which pictures are foreseen.
        budget: passes that may be made, in those of one plain picture. More are made only where the
            first picture alone costs more, as a method's may, which the report says.
    """

    prompt: str
    attempts: tuple[Attempt, ...]
    layout: Layout | None = None
    negative: str = ""
    verifier: str = "clip-score"
    enough: float | None = None
    promising: float | None = None
    look_at: float = 0.36
    budget: float = 8.0

    def __post_init__(self) -> None:
        for name in ("prompt", "negative"):
            if not isinstance(getattr(self, name), str):
                raise ParameterError(f"{name}={getattr(self, name)!r} is no text; write one")
            if torn(getattr(self, name)):
                raise ParameterError(f"{name}={getattr(self, name)!a} {TORN}")
        if not self.prompt.strip():
            raise PromptError(
                "an empty prompt says nothing that a picture could be held against: write what it "
                "should show"
            )
        strip_markup(self.prompt)
        if not isinstance(self.verifier, str) or not self.verifier.strip() or torn(self.verifier):
            raise ParameterError(
                f"verifier={self.verifier!a} is no name of a verifier; write one, as 'clip-score'"
            )
        self._check_attempts()
        if not is_number(self.budget) or self.budget < 1:
            raise ParameterError(
                f"budget={self.budget!r}: a picture costs 1; give a finite number of 1 or more"
            )
        for name in ("enough", "promising"):
            value = getattr(self, name)
            if value is not None and not is_number(value):
                raise ParameterError(
                    f"{name}={value!r} is no score; give a number, or leave it out"
                )
        if not is_number(self.look_at) or not 0 <= self.look_at < 1:
            raise ParameterError(
                f"look_at={self.look_at!r} is no share of a run, from 0 to below 1"
            )
        plain_numbers(self)

    def _check_attempts(self) -> None:
        """Attempts, one at the least, and where they follow a layout the prompt's."""
        if not isinstance(self.attempts, (list, tuple)):
            raise ParameterError(f"attempts={self.attempts!r} is no list of attempts; give one")
        object.__setattr__(self, "attempts", tuple(self.attempts))
        if not self.attempts:
            raise ParameterError("a plan without attempts makes no picture; leave one in")
        for one in self.attempts:
            if not isinstance(one, Attempt):
                raise ParameterError(f"{one!r} is no attempt; give Attempt(why, plugins)")
        if self.layout is None:
            return
        if not isinstance(self.layout, Layout):
            raise ParameterError(f"layout={self.layout!r} is none; give a Layout, or leave it out")
        if any(map(self.layout_of, self.attempts)):
            self.layout.check(self.prompt)

    @property
    def hope(self) -> float | None:
        """The score below which a foreseen picture is not finished; None where that is not known
        before the end.
        """
        return self.enough if self.promising is None else self.promising

    def layout_of(self, attempt: Attempt) -> Layout | None:
        """The layout, for an attempt with a plugin that follows one."""
        return self.layout if any(hasattr(one, "layout") for one in attempt.plugins) else None

    def told(self) -> list[str]:
        """The plan in plain words, a line each: what is tried and why, and when it ends."""
        lines = [f"draws: {self.prompt}"]
        lines += [f"keeps out: {self.negative}"] if self.negative else []
        lines += [f"{k}. {one.name}: {one.why}" for k, one in enumerate(self.attempts, 1)]
        lines += self._placed() if any(map(self.layout_of, self.attempts)) else []
        lines += [self.not_read] if self.not_read else []
        others = "the methods" if len(self.attempts) > 1 else "the same"
        lines.append(f"then {others} again from other noises")
        least = "" if self.enough is None else f"; {self.enough:g} is enough"
        plain = "one plain picture" if self.budget == 1 else f"{self.budget:g} plain pictures"
        return [*lines, f"judged by {self.verifier}{least}, for the passes of {plain} at the most"]

    @property
    def not_read(self) -> str:
        """What is said of words of places in the prompt that neither its layout follows nor any
        rule reads; empty where there are none, or the layout is another than the prompt's own.
        """
        ours = self.layout is None or self.layout == _composed(self.prompt)
        return unread(self.prompt) if ours else ""

    def _placed(self) -> list[str]:
        assert self.layout is not None  # `layout_of` gave it
        return [f"   {one.label}: {where}" for one in self.layout.regions if (where := _where(one))]

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` reads back."""
        layout = self.layout.to_json() if self.layout else None
        attempts = [one.to_json() for one in self.attempts]
        return {**vars(self), "attempts": attempts, "layout": layout}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """The inverse of `to_json`.

        Raises:
            ParameterError: an unknown key or plugin, or a value out of range.
            PromptError: an empty prompt, or markup that does not parse.
            LayoutError: the layout does not read, or has phrases that the prompt has not.
        """
        layout = known_fields(cls, data, "a plan").get("layout")
        if "prompt" not in data or not isinstance(data.get("attempts"), (list, tuple)):
            raise ParameterError(
                'a plan is {"prompt": "...", "attempts": [...]}: `adhere plan PROMPT` writes one'
            )
        return cls(**{
            **data,
            "attempts": tuple(map(Attempt.from_json, data["attempts"])),
            "layout": None if layout is None else Layout.from_json(layout),
        })  # fmt: skip


def planned(prompt: str, layout: Layout | None = None, **settings: Any) -> Plan:
    """The plan for a prompt: plain, then what mends the failures that its words make likely.

    Properties of several things go astray, things go missing, places are missed: each is tried
    where the prompt has what can fail so, alone and then together.

    Args:
        layout: where things belong; as the prompt's words have it if left out.
        settings: fields of `Plan` other than what is planned here.

    Raises:
        ParameterError: a setting is out of range, or the prompt is no text.
        PromptError: an empty prompt, one that only says what is not to be there, or markup that
            does not parse.
        LayoutError: the layout has phrases that the prompt has not.
    """
    if not isinstance(prompt, str):
        raise ParameterError(f"prompt={prompt!r} is no text; write one")
    wanted, unwanted = parted(prompt)
    if unwanted and not wanted:
        raise PromptError(
            f"{prompt!r} says only what is not to be there: write what the picture should show, as "
            f"in 'a house without {unwanted}'"
        )
    parsed = parse(wanted)
    layout = _layout(parsed) if layout is None else layout
    plan = Plan(wanted, (Attempt("as the model draws it"),), layout, unwanted, **settings)
    return replace(plan, attempts=(*plan.attempts, *_mending(parsed, layout)))


def _mending(parsed: Parse, layout: Layout | None) -> tuple[Attempt, ...]:
    """The two ways that mend most of what can fail here, the better one first.

    On seeds of no study, coloured pairs came out fully right in 28 % plain, 55 % bound, 48 %
    excited and bound, 66 % placed and bound (80 pictures each); uncoloured ones in 20 % plain, 29 %
    excited, 37 % placed (30 each).
    """
    bind, excite, place = (plugin(name) for name in (BIND, EXCITE, PLACE))
    if len(parsed.entities) < 2:
        alone = "there may be more or fewer than that, or in the wrong place"
        return () if layout is None else (Attempt(alone, (place,)),)
    bound = (bind,) if parsed.bound else ()
    tried = []
    if layout is not None:
        tried.append(Attempt("things may be missing, or in the wrong place", (place, *bound)))
    if bound:
        tried.append(Attempt("properties may be on the wrong thing", bound))
    if layout is None or not bound:
        tried.append(Attempt("things may be missing", (excite, *bound)))
    return tuple(tried)


def _where(region: Region) -> str:
    """A box in percent of the picture."""
    if region.box is None:
        return ""
    left, top, right, bottom = (round(100 * share) for share in region.box)
    return f"from {left} to {right} % across, {top} to {bottom} % down"


def _layout(parsed: Parse) -> Layout | None:
    """Where the prompt has its things; None where it says nothing of a place: of one thing alone,
    without a number or an edge that it keeps to.
    """
    layout = _composed(parsed.text)
    if layout is None or len(layout.regions) > 1:
        return layout
    region = layout.regions[0]
    alone = _composed(region.phrase.partition("#")[0])
    other = region if alone is None else alone.regions[0]
    return layout if (region.box, region.mask) != (other.box, other.mask) else None


def _composed(prompt: str) -> Layout | None:
    """A prompt's own layout, if it has one; what it does not read is for the plan to say."""
    try:
        return arranged(prompt)[0]
    except LayoutError:
        return None


def parted(prompt: str) -> tuple[str, str]:
    """A prompt without what it says is not to be there, and that, as a negative prompt.

    A model that reads "without a hat" draws hats.
    """
    found = _WITHOUT.findall(prompt)
    each = (_ARTICLE.sub("", one) for nouns in found for one in _OR.split(nouns))
    wanted = re.sub(r"\s+([,.])", r"\1", " ".join(_WITHOUT.sub("", _WHERE.sub("", prompt)).split()))
    if not found:
        return wanted.strip(" ,") or prompt, ""
    return _LOOSE.sub("", re.sub(r",(?:\s*,)+", ",", wanted)), ", ".join(dict.fromkeys(each))
