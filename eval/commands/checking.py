"""Published figures beside ours: which agree, which do not, and which cannot be compared.

An experiment file may say what somebody published of it:

    published:
      source: SAGA (AAAI 2026), table 1
      model: CompVis/stable-diffusion-v1-4
      judge: {tiam: "YOLOv8 segmentation, colours by pixels"}
      figures:
        - {variant: plain, suite: entities, column: tiam, tag: "2", value: 0.454, prompts: 300}

A figure of other weights or of another judge is no figure of this one, however near it is: it is
shown, and called not comparable. What can be compared agrees where the difference is within both
sampling errors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from adhere.eval.errors import EvaluationError
from adhere.eval.report.wording import short
from adhere.eval.run import experiment as experiments

_NORMAL = 1.96


@dataclass(frozen=True)
class Figure:
    """A published number; of a share with the number of prompts that it is over."""

    variant: str
    column: str
    value: float
    suite: str | None = None
    tag: str | None = None
    prompts: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise TypeError(f"the value of {self.column!r} is {self.value!r}, not a number")
        if self.prompts is not None and (type(self.prompts) is not int or self.prompts < 1):
            raise TypeError(f"prompts is {self.prompts!r}, not a number of prompts")

    def margin(self) -> float:
        """Half of the 95 % interval of a share over so many prompts, each with one picture."""
        if self.prompts is None or not 0 <= self.value <= 1:
            return 0.0
        return _NORMAL * math.sqrt(self.value * (1 - self.value) / self.prompts)


@dataclass(frozen=True)
class Published:
    """What somebody published of an experiment.

    `judge` says what gave each column there; a column without one is judged by the same rule and
    model here.
    """

    source: str
    model: str
    figures: tuple[Figure, ...]
    judge: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.judge, Mapping):
            raise TypeError(f"judge is {self.judge!r}, not columns with what gave them")


@dataclass(frozen=True)
class Line:
    """A published figure beside ours, and what is to be said of the two."""

    figure: Figure
    ours: float | None
    low: float | None
    high: float | None
    said: str


def published(path: Path | str) -> Published:
    """What an experiment's file, or a bundled one of this name, says was published.

    Raises:
        EvaluationError: it says nothing, or something that does not read.
    """
    data = experiments.data_of(path)
    claimed = data.get("published")
    if not isinstance(claimed, Mapping):
        have = [name for name, file in experiments.bundled().items() if _has_figures(file)]
        raise EvaluationError(f"{path} says of no published figures; these do: {', '.join(have)}")
    try:
        figures = tuple(Figure(**one) for one in claimed["figures"])
        rest = {key: value for key, value in claimed.items() if key != "figures"}
        return Published(**rest, figures=figures)
    except (KeyError, TypeError) as error:
        names = ", ".join(one.name for one in fields(Figure))
        raise EvaluationError(f"{path}: published: {error}; a figure has {names}") from error


def _has_figures(path: Path) -> bool:
    return "\npublished:" in path.read_text(encoding="utf-8")


def check(claimed: Published, results: Mapping[str, Any]) -> list[Line]:
    """Every published figure beside that of a report (`report.json`)."""
    other = _other_model(claimed, results)
    return [_line(one, claimed, results["scores"], other) for one in claimed.figures]


def _other_model(claimed: Published, results: Mapping[str, Any]) -> str | None:
    ours = results["model"]["model"]
    return None if ours == claimed.model else f"made by {ours}, published of {claimed.model}"


def _line(
    figure: Figure, claimed: Published, scores: Sequence[Mapping[str, Any]], other: str | None
) -> Line:
    found = next((score for score in scores if _same(figure, score)), None)
    if found is None:
        return Line(figure, None, None, None, "no such score in this run")
    ours, low, high = found["mean"], found.get("low"), found.get("high")
    why = [other] if other else []
    if figure.column in claimed.judge:
        why.append(f"judged there by {claimed.judge[figure.column]}")
    if why:
        return Line(figure, ours, low, high, f"not comparable: {'; '.join(why)}")
    if low is None or high is None:
        return Line(figure, ours, low, high, "not comparable: our figure has no interval")
    margin = figure.margin()
    agrees = low - margin <= figure.value <= high + margin
    return Line(figure, ours, low, high, "agrees" if agrees else "differs")


def _same(figure: Figure, score: Mapping[str, Any]) -> bool:
    return (
        score["variant"] == figure.variant
        and score["column"].partition("@")[0] == figure.column
        and score.get("tag") == figure.tag
        and figure.suite in (None, score["suite"])
    )


def table(lines: Sequence[Line]) -> Iterator[str]:
    """As Markdown: a row a figure."""
    yield "| variant | score | published | ours | 95 % | |"
    yield "|---|---|---|---|---|---|"
    for one in lines:
        figure = one.figure
        score = " ".join(filter(None, (figure.suite, figure.column, figure.tag)))
        ours = "" if one.ours is None else short(one.ours)
        ends = [short(end) for end in (one.low, one.high) if end is not None]
        spread = f"[{', '.join(ends)}]" if len(ends) == 2 else ""
        yield f"| {figure.variant} | {score} | {figure.value:g} | {ours} | {spread} | {one.said} |"
