"""What the committed studies measured of each method, as one form for all of them.

A question is one score of one study. To each toybox it has a result for every method, in every
setting that was tried: the score without and with it, and the paired difference.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from adhere.eval.report.statistics import FEWEST, difference
from adhere.eval.run.experiment import Experiment, Variant, read
from adhere.guides import parameters
from adhere.guides.guide import Plugin
from benchmarks import record
from docs.figures import RESULTS

EXPERIMENTS = RESULTS.parents[1] / "eval" / "experiments"
TOYBOXES = {"toybox": "UNet toybox", "toybox-sd3": "transformer toybox"}
"""Models that studies are of."""
NEGATIVE = "negative-prompt"
"""Stands in results for a negative prompt, which is nobody's plugin."""


class Change(NamedTuple):
    """A paired difference with its 95 % interval; not `paired`, where no picture has both."""

    before: float
    mean: float
    low: float
    high: float
    n: int
    prompts: int
    paired: bool = True

    def toward(self, way: int) -> tuple[float, float]:
        """The interval, with what is better above zero."""
        low, high = sorted((way * self.low, way * self.high))
        return low, high


@dataclass(frozen=True)
class Result:
    """What a method did to a question's score. `method` is a plugin's name, several joined by `+`,
    or what it is held against; `kept` what became of the things that were asked for.
    """

    method: str
    setting: str
    change: Change
    way: int
    passes: float | None = None
    kept: Change | None = None

    @property
    def enough(self) -> bool:
        """Whether there were prompts enough for a verdict."""
        return self.change.prompts >= FEWEST

    @property
    def better(self) -> bool:
        """Whether the interval is clear of zero, on the right side."""
        return self.enough and self.change.toward(self.way)[0] > 0

    @property
    def worse(self) -> bool:
        """... on the wrong one."""
        return self.enough and self.change.toward(self.way)[1] < 0

    @property
    def loses(self) -> bool:
        """Whether fewer of the things are there that were asked for."""
        return self.enough and self.kept is not None and self.kept.high < 0

    @property
    def helps(self) -> bool:
        return self.better and not self.loses

    @property
    def harms(self) -> bool:
        return self.worse or self.loses


@dataclass(frozen=True)
class Question:
    """A score, in words, and where it stands. `way` is -1 where less is better."""

    says: str
    way: int = 1
    share: bool = True

    def results(self, toybox: str) -> Iterator[Result]:
        """Every method in every setting."""
        raise NotImplementedError

    def source(self, toybox: str) -> str:
        """The file in benchmarks/results that has the numbers."""
        raise NotImplementedError


@dataclass(frozen=True)
class Suite(Question):
    """A column of an experiment of the effect studies.

    Args:
        experiment: its name without the toybox's.
        column: the score.
        against: the variant that the others are held against; only those that draw at its guidance
            scale are.
        keep: a score of what was asked for, which must not fall.
    """

    experiment: str = ""
    column: str = ""
    against: str = "plain"
    keep: str = ""

    def results(self, toybox: str) -> Iterator[Result]:
        name = f"{toybox}-{self.experiment}"
        told, claims = _experiments().get(name), _claims(name)
        if told is None:
            return
        scores = {(s["variant"], s["column"]): s for s in told["scores"] if "tag" not in s}
        variants = {one.name: one for one in _read(name).variants}
        scale = variants[self.against].guidance_scale if self.against in variants else None
        for variant in variants.values():
            method = _method(variant)
            if not method or variant.guidance_scale != scale:
                continue
            change = self._change(scores, claims, variant.name, self.column)
            if change:
                passes = scores.get((variant.name, "passes"), {}).get("mean")
                kept = self._change(scores, claims, variant.name, self.keep)
                yield Result(method, _setting(variant), change, self.way, passes, kept)

    def source(self, toybox: str) -> str:
        return _studies()[f"{toybox}-{self.experiment}"]

    def _change(
        self, scores: Mapping[Any, Any], claims: Mapping[Any, Any], variant: str, column: str
    ) -> Change | None:
        """The paired difference that a report or a claim has; else one of two separate means."""
        own, base = scores.get((variant, column)), scores.get((self.against, column))
        if own is None or base is None:
            return None
        held = own.get("difference") if self.against == "plain" else None
        held = held or claims.get((variant, self.against, column))
        return _change(held or {}) or _apart(own, base)


@dataclass(frozen=True)
class Arms(Question):
    """A question of a study whose arms are drawn from the same noises.

    Args:
        file: its name in benchmarks/results.
        place: the question's, from the outside in.
        against: the arm that the others are held against.
        arms: method and setting of each arm.
        keep: the place of what was asked for, which must not fall.
    """

    file: str = ""
    place: tuple[str, ...] = ()
    against: str = "plain"
    arms: tuple[tuple[str, str, str], ...] = ()
    keep: tuple[str, ...] = ()

    def results(self, toybox: str) -> Iterator[Result]:
        path = RESULTS / self.source(toybox)
        if not path.is_file():
            return
        told = _json(path.name)["results"]
        for arm, method, setting in self.arms:
            change = _change(_at(told, self.place).get(f"{arm} - {self.against}", {}))
            if change:
                kept = _change(_at(told, self.keep).get(f"{arm} - {self.against}", {}))
                yield Result(method, setting, change, self.way, kept=kept)

    def source(self, toybox: str) -> str:
        return record.named(RESULTS, self.file, toybox).name


@dataclass(frozen=True)
class Choosing(Question):
    """What it is worth to choose among the pictures of a prompt: shares of `suite` that are fully
    right, and passes beyond the plain picture's.
    """

    suite: str = "pairs"
    arms: tuple[tuple[str, str, str], ...] = ()

    def results(self, toybox: str) -> Iterator[Result]:
        name = self.source(toybox)
        if not (RESULTS / name).is_file():
            return
        told = _json(name)["results"]["suites"].get(self.suite, {})
        rows, curves = told.get("rows", {}), told.get("curves", {})
        for arm, method, setting in self.arms:
            if arm not in rows:
                continue
            both = [dict(enumerate(map(float, rows[one]["fully_right"]))) for one in (arm, "plain")]
            own, plain = ({(f"{at}", 0): x for at, x in row.items()} for row in both)
            found = difference(own, plain, share=True)
            passes = curves[arm]["passes"] - curves["plain"]["passes"]
            change = _change(vars(found))
            if change:
                yield Result(method, setting, change, self.way, passes)

    def source(self, toybox: str) -> str:
        return record.named(RESULTS, "search_curves", toybox).name


def best(question: Question, toybox: str) -> dict[str, Result]:
    """Of each method the setting with the largest lower end of its interval; one that loses what
    was asked for only where all do.
    """

    def worth(one: Result) -> tuple[bool, float]:
        return not one.loses, one.change.toward(one.way)[0]

    found: dict[str, Result] = {}
    for one in question.results(toybox):
        if one.method not in found or worth(one) > worth(found[one.method]):
            found[one.method] = one
    return found


def _change(held: Mapping[str, Any]) -> Change | None:
    """A difference that was kept; None for one without an interval, as of a single prompt."""
    found = [held.get(name) for name in ("before", "mean", "low", "high", "n", "prompts")]
    return None if None in found else Change(*found)


def _apart(own: Mapping[str, Any], base: Mapping[str, Any]) -> Change | None:
    """Two means of different pictures: the interval of their difference from both intervals
    (Newcombe 1998, method 10); None where one has none.
    """
    if None in (one.get(end) for one in (own, base) for end in ("low", "high")):
        return None
    mean = own["mean"] - base["mean"]
    down = math.hypot(own["mean"] - own["low"], base["high"] - base["mean"])
    up = math.hypot(own["high"] - own["mean"], base["mean"] - base["low"])
    fewest = (min(own[name], base[name]) for name in ("n", "prompts"))
    return Change(base["mean"], mean, mean - down, mean + up, *fewest, paired=False)


def _at(told: Any, place: tuple[str, ...]) -> Mapping[str, Any]:
    return functools.reduce(lambda inside, name: inside.get(name, {}), place, told)


@functools.cache
def _json(name: str) -> Any:
    return json.loads((RESULTS / name).read_text("utf-8"))


@functools.cache
def _experiments() -> dict[str, Any]:
    told = [_json(path.name) for path in sorted(RESULTS.glob("effect_*.json"))]
    return {name: one for study in told for name, one in study["experiments"].items()}


@functools.cache
def _studies() -> dict[str, str]:
    """The file that each experiment is in."""
    names = [path.name for path in sorted(RESULTS.glob("effect_*.json"))]
    return {experiment: name for name in names for experiment in _json(name)["experiments"]}


@functools.cache
def _claims(experiment: str) -> dict[tuple[str, str, str], Any]:
    """What was decided of whole scores, by variant, baseline and column."""
    told = [_json(path.name) for path in sorted(RESULTS.glob("effect_*.json"))]
    rows = [row for study in told for row in study.get("claims", []) if row["factor"] == 1]
    return {
        (row["variant"], row["against"], row["column"]): row
        for row in rows
        if row["experiment"] == experiment
    }


@functools.cache
def _read(name: str) -> Experiment:
    return read(EXPERIMENTS / f"{name}.yaml", {})


def _method(variant: Variant) -> str:
    if variant.plugins:
        return "+".join(plugin.name for plugin in variant.plugins)
    return NEGATIVE if variant.negative_prompt else ""


def _setting(variant: Variant) -> str:
    """What is set to other than its default, but for texts, which say what pictures are of."""
    return ", ".join(
        f"`{name}={value:g}`" if isinstance(value, float) else f"`{name}={value}`"
        for plugin in variant.plugins
        for name, value in _set(plugin)
    )


def _set(plugin: Plugin) -> Iterator[tuple[str, Any]]:
    for one in parameters.parameters(type(plugin)):
        value = getattr(plugin, one.name)
        told = isinstance(value, int | float) or one.choices
        if told and value != one.default:
            yield one.name, value
