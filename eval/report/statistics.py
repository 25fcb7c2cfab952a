"""Intervals and tests that hold where prompts are few.

Pictures of one prompt resemble one another, so a prompt with all its seeds is one witness
throughout; with a single prompt its seeds are, and nothing is concluded.

- A share (each value in [0, 1]) has the Clopper-Pearson interval at its effective size: the number
  of independent pictures that would spread as much (Korn and Graubard 1998). None of 6 is
  [0, 46 %], not [0, 0].
- A difference of shares has Bonett and Price's interval (2012): two prompts more, one that only
  gains and one that only loses.
- Another mean has the studentised bootstrap interval (Efron and Tibshirani 1993, ch. 12), or
  Student's for fewer than 10 prompts and for very many.
- A difference is tested by changing the signs of the prompts' differences: exactly (all changes)
  for up to 14 prompts, by 19,999 random ones for up to 200, by Student's t for more. No plugin, no
  effect: then each sign is as likely as the other, whatever the distribution.
- Of all tests of a report together, Holm's procedure (1979) holds the chance that any of them cries
  wolf at 5 %. With fewer than 10 prompts there is no verdict.

Everything is drawn from fixed seeds: the same scores always give the same report.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from jaxtyping import Float

from adhere.eval.report.distributions import beta_quantile, t_quantile, t_two_sided
from adhere.eval.scores.scored import Key

LEVEL = 0.95
ALPHA = 1 - LEVEL
DRAWS = 4000
CHANGES = 19_999
FEWEST = 10
"""Prompts below which a difference has no verdict."""

_EXACT = 14
_RANDOM = 200
_BOOTSTRAP = 1000
_CHUNK = 500
_SEED = 1979
_NORMAL = NormalDist().inv_cdf((1 + LEVEL) / 2)


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval, from `n` pictures of `prompts` prompts.

    Without `low` and `high` where no interval can be given. Of a difference, `p` is how likely one
    of this size or more is without any effect, and `before` the baseline's mean on the same
    pictures.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    prompts: int
    p: float | None = None
    before: float | None = None

    @property
    def clear(self) -> bool:
        """Whether the difference, tested alone, is one at the 5 % level."""
        return self.p is not None and self.p < ALPHA and self.prompts >= FEWEST


@dataclass(frozen=True)
class _Witnesses:
    """Sums and counts of independent witnesses; their ratio is the mean."""

    sums: Float[np.ndarray, " witnesses"]
    counts: Float[np.ndarray, " witnesses"]
    prompts: int
    n: int

    @property
    def mean(self) -> float:
        return math.fsum(self.sums) / math.fsum(self.counts)

    @property
    def size(self) -> int:
        return len(self.sums)

    def error(self) -> float:
        """The standard error of the mean, by linearisation."""
        rest = self.sums - self.mean * self.counts
        scale = self.size / (self.size - 1)
        return math.sqrt(scale * float(rest @ rest)) / float(self.counts.sum())


def _witnesses(
    values: Mapping[Key, float], weights: Mapping[str, float] | None = None
) -> _Witnesses:
    groups: dict[str, list[float]] = defaultdict(list)
    for (item, _), value in sorted(values.items()):
        groups[item].append(value)
    prompts = len(groups)
    if prompts == 1:
        ((item, rows),) = groups.items()
        groups = {f"{item}/{place}": [value] for place, value in enumerate(rows)}
    weight = [(weights or {}).get(item, 1.0) for item in groups]
    sums = np.array([w * math.fsum(rows) for w, rows in zip(weight, groups.values(), strict=True)])
    counts = np.array([w * len(rows) for w, rows in zip(weight, groups.values(), strict=True)])
    return _Witnesses(sums, counts, prompts, len(values))


def interval(
    values: Mapping[Key, float], *, share: bool = False, weights: Mapping[str, float] | None = None
) -> Interval | None:
    """The mean of some pictures' scores; None without any.

    Args:
        values: the scores.
        share: whether each lies between 0 and 1.
        weights: how much each prompt counts, for a mean over categories of the categories' means.
    """
    if not values:
        return None
    found = _witnesses(values, weights)
    if share and all(0 <= value <= 1 for value in values.values()):
        low, high = _share(found, all(value in (0, 1) for value in values.values()))
    else:
        low, high = _mean(found)
    return Interval(found.mean, low, high, found.n, found.prompts)


def _share(found: _Witnesses, binary: bool) -> tuple[float | None, float | None]:
    """Clopper and Pearson's interval at the effective number of pictures."""
    mean, size = min(max(found.mean, 0.0), 1.0), float(found.size)
    if found.size > 1 and 0 < mean < 1:
        error = found.error()
        if error == 0 and not binary:
            return mean, mean
        alone = binary and found.n == found.size
        size = size if alone or error == 0 else mean * (1 - mean) / error**2
        # Student's widening for a spread that is itself only estimated.
        if not alone:
            size *= (_t(max(found.n - 1, 1)) / _t(found.size - 1)) ** 2
            size = min(size, float(found.n)) if binary else size
    return clopper_pearson(mean * size, size)


def clopper_pearson(hits: float, size: float) -> tuple[float, float]:
    """The exact 95 % interval of a share, `hits` of `size`."""
    tail = ALPHA / 2
    low = beta_quantile(tail, hits, size - hits + 1) if hits > 0 else 0.0
    high = beta_quantile(1 - tail, hits + 1, size - hits) if hits < size else 1.0
    return low, high


def _mean(found: _Witnesses) -> tuple[float | None, float | None]:
    if found.size < 2:
        return None, None
    error = found.error()
    if FEWEST <= found.size <= _BOOTSTRAP and error > 0:
        low, high = _studentised(found, error)
    else:
        low = high = _t(found.size - 1)
    return found.mean - high * error, found.mean + low * error


def _studentised(found: _Witnesses, error: float) -> tuple[float, float]:
    """Minus the lower and the upper quantile of (drawn mean - mean) / drawn error."""
    rng = np.random.default_rng(_SEED)
    s, c, size = found.sums, found.counts, found.size
    products = np.stack([s, c, s * s, s * c, c * c], axis=1)
    found_t = []
    for start in range(0, DRAWS, _CHUNK):
        draws = rng.multinomial(size, np.full(size, 1 / size), size=min(_CHUNK, DRAWS - start))
        sums, counts, ss, sc, cc = (draws @ products).T
        mean = sums / counts
        spread = np.maximum(ss - 2 * mean * sc + mean**2 * cc, 0) * size / (size - 1)
        drawn = np.sqrt(spread) / counts
        # A draw of one and the same witness has no spread of its own.
        usable = drawn > 1e-9 * error
        found_t.append((mean[usable] - found.mean) / drawn[usable])
    low, high = np.quantile(np.concatenate(found_t), [ALPHA / 2, 1 - ALPHA / 2])
    return -float(low), float(high)


@lru_cache(maxsize=4096)
def _t(freedom: int) -> float:
    return t_quantile((1 + LEVEL) / 2, freedom)


def difference(
    values: Mapping[Key, float],
    baseline: Mapping[Key, float],
    *,
    share: bool = False,
    weights: Mapping[str, float] | None = None,
) -> Interval | None:
    """The mean of `values - baseline` over the pictures that both have; None without any."""
    paired = {key: values[key] - baseline[key] for key in values if key in baseline}
    if not paired:
        return None
    found = _witnesses(paired, weights)
    bounded = share and all(-1 <= value <= 1 for value in paired.values())
    low, high = _bonett_price(found) if bounded else _mean(found)
    before = _witnesses({key: baseline[key] for key in paired}, weights).mean
    p = sign_test(found.sums) if found.prompts > 1 else None
    return Interval(found.mean, low, high, found.n, found.prompts, p, before)


def _bonett_price(found: _Witnesses) -> tuple[float | None, float | None]:
    """A difference of shares: one prompt more that gains everything, and one that loses it."""
    each = found.sums / found.counts
    weight = found.counts / found.counts.mean()
    size = found.size + 2
    mean = float((weight * each).sum()) / size
    spread = (float((weight * each**2).sum()) + 2) / size - mean**2
    reach = _NORMAL * math.sqrt(max(spread, 0) / size)
    return max(-1.0, mean - reach), min(1.0, mean + reach)


def sign_test(differences: Float[np.ndarray, " witnesses"]) -> float:
    """The two-sided p of a sum of differences whose signs are anybody's guess."""
    # Without those that are zero: their sign changes nothing.
    moved = differences[differences != 0]
    size = len(moved)
    if size == 0:
        return 1.0
    if size > _RANDOM:
        error = math.sqrt(float(moved.var(ddof=1)) * size)
        return t_two_sided(float(moved.sum()) / error, size - 1) if error > 0 else 0.0
    sums = np.abs(_signs(size) @ (moved / np.abs(moved).max()))
    # Rounding must not make a sum smaller than itself.
    reached = int((sums >= abs(float((moved / np.abs(moved).max()).sum())) - 1e-9).sum())
    return reached / len(sums) if size <= _EXACT else (1 + reached) / (1 + len(sums))


@lru_cache(maxsize=8)
def _signs(size: int) -> Float[np.ndarray, "changes witnesses"]:
    if size <= _EXACT:
        codes = np.arange(2**size)[:, None] >> np.arange(size)[None]
        signs = (codes & 1) * 2.0 - 1
    else:
        rng = np.random.default_rng(_SEED)
        signs = rng.integers(0, 2, (CHANGES, size)).astype(np.float32) * 2 - 1
    found: np.ndarray = signs
    return found


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p values, in the order given; None stays None and is not counted."""
    known = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    adjusted: list[float | None] = [None] * len(ps)
    largest = 0.0
    for rank, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[place] = largest
    return adjusted
