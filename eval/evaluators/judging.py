"""The toybox's exact judge as evaluators: what is shown of a prompt, and what is a copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from adhere.eval.evaluators import columns
from adhere.eval.evaluators.evaluator import Measure, Row, Shown
from adhere.eval.suites.items import Item
from adhere.layout.layout import Layout

_SIDE = 64


@dataclass(frozen=True)
class ToyboxJudge:
    """What a toybox picture shows of its prompt, said by the judge that knows the world."""

    name: ClassVar[str] = "judge"
    model: ClassVar[str] = "toybox"
    models: ClassVar[tuple[str, ...]] = ("model",)
    code: ClassVar[str] = "adhere.pipelines.toybox.judge.judge"
    columns: ClassVar[tuple[Measure, ...]] = (
        *columns.COMPOSITION,
        *columns.FAILURES,
        columns.UNSAFE,
        columns.MIOU,
    )

    @property
    def revision(self) -> dict[str, int]:
        """The toybox's world and its judge: scores of two of them do not mix."""
        from adhere.pipelines.toybox.judge.judge import identity

        return identity()

    def load(self, device: str) -> _Scorer:
        """Load the judge that comes with the toybox."""
        return _Scorer()


@dataclass(frozen=True)
class ToyboxCopies:
    """Whether a toybox picture is one that the model was shown again and again.

    A copy has the very things of a memorised scene and no others, in their colours and places.
    """

    name: ClassVar[str] = "copies"
    model: ClassVar[str] = "toybox"
    models: ClassVar[tuple[str, ...]] = ("model",)
    code: ClassVar[str] = "adhere.pipelines.toybox.judge.copies"
    columns: ClassVar[tuple[Measure, ...]] = (
        Measure("copied", "pictures that are a memorised one", "lower", "share"),
        Measure("nearest", "PSNR in dB with the nearest memorised picture", "lower"),
    )
    revision = ToyboxJudge.revision

    def load(self, device: str) -> _Copies:
        """Load the judge that comes with the toybox."""
        return _Copies()


class _Copies:
    def __init__(self) -> None:
        from adhere.pipelines.toybox.judge.judge import Judge

        self.judge = Judge.load()

    def __call__(self, shown: Sequence[Shown]) -> list[Row | str]:
        from adhere.pipelines.toybox.judge.copies import is_copy, nearest

        images = [one.image for one in shown]
        return [
            Row({"copied": float(is_copy(verdict)), "nearest": decibels})
            for verdict, decibels in zip(self.judge(images), nearest(images), strict=True)
        ]


class _Scorer:
    def __init__(self) -> None:
        from adhere.pipelines.toybox.judge.judge import Judge

        self.judge = Judge.load()

    def __call__(self, shown: Sequence[Shown]) -> list[Row | str]:
        verdicts = self.judge([one.image for one in shown])
        return [_row(one.entry.item, verdict) for one, verdict in zip(shown, verdicts, strict=True)]


def _row(item: Item, verdict: Any) -> Row | str:
    from adhere.pipelines.toybox.errors import ToyboxError

    try:
        return Row(_values(item, verdict))
    except ToyboxError as error:
        return f"the toybox's judge cannot judge this prompt: {error}"


def _values(item: Item, verdict: Any) -> dict[str, float]:
    values = {"unsafe": float(verdict.unsafe)}
    if item.things:
        values.update(_composition(item, verdict.against(_asked(item))))
    if item.exclude:
        kinds = [thing.kind for thing in verdict.things]
        few = all(kinds.count(one.noun) < one.count for one in item.exclude)
        values["not_too_many"] = float(few)
    if item.layout:
        values["miou"] = _miou(item, verdict)
    return values


def _asked(item: Item) -> str:
    """The prompt; the things alone where it may name what shall not be there."""
    if not item.exclude:
        return item.prompt
    return " and ".join(thing.phrase for thing in item.things)


def _composition(item: Item, outcome: Any) -> dict[str, float]:
    values = {
        "present": float(outcome.present),
        "all_present": float(outcome.all_present),
        "fully_right": float(outcome.fully_right),
        "neglected": float(bool(outcome.neglected)),
    }
    if any(thing.colour for thing in item.things):
        values["binding"] = float(outcome.binding)
        values["swapped"] = float(bool(outcome.swapped))
    if outcome.relations is not None:
        values["relation"] = float(outcome.relations)
    return values


def _miou(item: Item, verdict: Any) -> float:
    layout = Layout.from_json(dict(item.layout or {}))
    masks = layout.masks((_SIDE, _SIDE)).numpy() > 0.5
    return float(verdict.miou(dict(zip(layout.phrases, masks, strict=True))))
