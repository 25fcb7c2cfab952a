"""What a report shows, as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from adhere.eval.evaluators.evaluator import Measure
from adhere.eval.report.statistics import ALPHA, FEWEST, Interval, holm
from adhere.eval.scores.scored import PictureScores

FORMAT = 2


@dataclass(frozen=True)
class Score:
    """One cell of the table; without `low` and `high` where resampling would mislead (Fréchet).

    `tag` is the category it is about, None for the whole suite. `adjusted` is the p value of the
    difference among all that the report tests (Holm), None where it is not tested.
    """

    suite: str
    variant: str
    evaluator: str
    column: str
    mean: float
    n: int
    low: float | None = None
    high: float | None = None
    prompts: int = 0
    difference: Interval | None = None
    tag: str | None = None
    adjusted: float | None = None


def verdict(score: Score, column: Measure) -> str:
    """`better`, `worse`, or an empty text where the difference is not one by the report's tests."""
    found = score.difference
    if found is None or score.adjusted is None or column.better == "neither":
        return ""
    if score.adjusted >= ALPHA or found.prompts < FEWEST or found.mean == 0:
        return ""
    return "better" if (found.mean > 0) == (column.better == "higher") else "worse"


def tested(scores: list[Score], columns: dict[str, Measure], primary: str | None) -> list[Score]:
    """The scores with their adjusted p values.

    The family is every comparison of a whole suite that can be better or worse; where the
    experiment named a primary score beforehand, only that score's. The others describe.
    """
    family = [
        score.difference.p
        if score.difference is not None
        and score.tag is None
        and columns[score.column].better != "neither"
        and columns[score.column].tested
        and (primary is None or score.column.partition("@")[0] == primary)
        else None
        for score in scores
    ]
    return [
        replace(score, adjusted=adjusted)
        for score, adjusted in zip(scores, holm(family), strict=True)
    ]


@dataclass
class Results:
    """Everything a report shows, as plain data but for `values` (for the before/after grid)."""

    about: dict[str, Any]
    columns: dict[str, Measure]
    scores: list[Score]
    warnings: list[str]
    failures: list[dict[str, str]]
    left_out: dict[str, str]
    values: PictureScores

    def to_json(self) -> dict[str, Any]:
        """What `eval/results/*.json` and `report.json` hold."""
        return {
            "adhere_results": FORMAT,
            **self.about,
            "columns": {name: asdict(column) for name, column in self.columns.items()},
            "scores": [_score_json(score) for score in self.scores],
            "warnings": self.warnings,
            "failures": self.failures,
            "left_out": self.left_out,
        }


def _score_json(score: Score) -> dict[str, Any]:
    return {key: value for key, value in _rounded(asdict(score)).items() if value is not None}


def _rounded(value: Any) -> Any:
    """Ten digits: enough for any use, and the same file from shards merged in another order."""
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return float(f"{value:.10g}") if isinstance(value, float) else value
