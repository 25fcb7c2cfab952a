"""Bootstrap intervals of means and of paired differences.

Pictures of one prompt resemble one another, so prompts are drawn, each with all its seeds (a
cluster bootstrap); with a single prompt its seeds are drawn. Percentile intervals of 4,000 draws
from a fixed seed: the same scores always give the same interval.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from adhere.eval.evaluators.sets.accumulators import Mean

DRAWS = 4000
LEVEL = 0.95
_SEED = 1979

Key = tuple[str, int]
"""A picture within a suite: item and seed."""


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval, from `n` pictures of `prompts` prompts.

    Without `low` and `high` where no interval can be given.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    prompts: int

    @property
    def clear(self) -> bool:
        """Whether the interval excludes zero (for differences)."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def interval(values: Mapping[Key, float]) -> Interval | None:
    """The mean of some pictures' scores; None without any."""
    if not values:
        return None
    groups: dict[str, Mean] = defaultdict(Mean)
    for (item, _), value in sorted(values.items()):
        groups[item].add(value)
    prompts = len(groups)
    if prompts == 1:
        groups = {str(seed): Mean(1, value) for (_, seed), value in sorted(values.items())}
    total = Mean()
    for group in groups.values():
        total.merge(group)
    sums = np.array([group.total for group in groups.values()])
    counts = np.array([group.count for group in groups.values()], dtype=np.float64)
    low, high = percentiles(sums, counts)
    return Interval(total.value(), low, high, total.count, prompts)


def percentiles(
    sums: Float[np.ndarray, " groups"], counts: Float[np.ndarray, " groups"]
) -> tuple[float, float]:
    """The interval of `sum(sums) / sum(counts)` when groups are drawn with replacement."""
    rng = np.random.default_rng(_SEED)
    size = len(sums)
    draws = rng.multinomial(size, np.full(size, 1 / size), size=DRAWS).astype(np.float64)
    means = (draws @ sums) / (draws @ counts)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def difference(values: Mapping[Key, float], baseline: Mapping[Key, float]) -> Interval | None:
    """The mean of `values - baseline` over the pictures that both have; None without any."""
    return interval({key: values[key] - baseline[key] for key in values if key in baseline})
