"""What a picture took: seconds, denoiser passes, peak memory, as recorded when it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from adhere.eval.evaluators.evaluator import Measure, Row, Shown


@dataclass(frozen=True)
class Cost:
    """Seconds, passes of the denoiser, peak memory."""

    name: ClassVar[str] = "cost"
    columns: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "seconds", "seconds a picture, as its share of its batch", "lower", "seconds", False
        ),
        Measure("passes", "denoiser passes that guidance adds to a picture", "lower", tested=False),
        Measure("peak_mib", "peak memory of the process or device so far, MiB", "neither"),
    )

    def load(self, device: str) -> _Scorer:
        """Nothing to load."""
        return _Scorer()


class _Scorer:
    def __call__(self, shown: Sequence[Shown]) -> list[Row]:
        return [Row(measured(one.record)) for one in shown]


def measured(record: Mapping[str, Any]) -> dict[str, float]:
    """The cost columns of a done record; what was not recorded is left out."""
    report = record.get("report") or {}
    found = {"seconds": record.get("seconds"), "peak_mib": record.get("peak_mib")}
    found["passes"] = report.get("passes") if isinstance(report, Mapping) else None
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}
