"""Distances between two sets of pictures, as pure functions of their features.

Fréchet (Heusel et al. 2017, arXiv:1706.08500):

    d^2 = |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^1/2

The trace of the root is that of (S1^1/2 S2 S1^1/2)^1/2, which is symmetric: its eigenvalues are
real and found by `eigh`, and rounding can only make them slightly negative, which is clamped.

FD-infinity (Chong and Forsyth 2020, arXiv:1911.07023): the distance falls with the number of
pictures n as a + b / n; the intercept of a line through distances at several n has no such bias.

KID (Binkowski et al. 2018, arXiv:1801.01401): unbiased squared MMD, k(x, y) = (x.y / d + 1)^3.

CMMD (Jayasumana et al. 2024, arXiv:2401.09603): MMD, k(x, y) = exp(-|x - y|^2 / (2 sigma^2)), on
normalised CLIP embeddings, sigma 10, times 1000; the biased (V-statistic) estimate, as published.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.eval.errors import EvaluationError
from adhere.eval.evaluators.sets.accumulators import FeatureMoments

Features = Float[Tensor, "n channels"]

CMMD_SIGMA = 10.0
CMMD_SCALE = 1000.0
_STRIP = 1024
# Below this many pictures the bias of a Fréchet distance outweighs what methods differ by.
SMALL = 2048


def frechet(one: FeatureMoments, two: FeatureMoments) -> float:
    """The squared Fréchet distance of two sets."""
    s1, s2 = one.covariance(), two.covariance()
    if len(s1) != len(s2):
        raise EvaluationError(f"{len(s1)} and {len(s2)} channels: features of two extractors")
    values, vectors = torch.linalg.eigh(s1)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    inner = root @ s2 @ root
    overlap = torch.linalg.eigvalsh((inner + inner.T) / 2).clamp_min(0).sqrt().sum()
    distance = (one.mean() - two.mean()).square().sum() + s1.trace() + s2.trace() - 2 * overlap
    return max(0.0, float(distance))


def frechet_warnings(count: int, reference: int, channels: int) -> list[str]:
    """What a reader must know of a Fréchet distance from this many pictures."""
    smaller = min(count, reference)
    if smaller <= channels:
        return [
            f"n = {smaller} is not above the {channels} feature channels: the covariance is "
            "singular and the Fréchet distance mostly bias; read KID instead"
        ]
    if smaller < SMALL:
        return [
            f"n = {smaller} is small for a Fréchet distance: compare only with distances at the "
            "same n, or read FD-infinity or KID"
        ]
    return []


def frechet_infinity(
    features: Features, reference: FeatureMoments, *, points: int = 10, seed: int = 0
) -> float:
    """The Fréchet distance extrapolated to infinitely many pictures.

    Distances at `points` sizes from a fifth of the pictures (at least 2) to all of them, a random
    subset each, and a least-squares line in 1 / n.
    """
    n = len(features)
    if n < 10:
        raise EvaluationError(f"FD-infinity fits a line over n and needs 10 pictures, not {n}")
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.linspace(max(2, n // 5), n, points).round().long().unique()
    found = []
    for size in sizes.tolist():
        part = FeatureMoments()
        part.add(features[torch.randperm(n, generator=generator)[:size]])
        found.append(frechet(part, reference))
    inverse = 1 / sizes.double()
    design = torch.stack([torch.ones_like(inverse), inverse], dim=1)
    target = torch.tensor(found, dtype=torch.float64)
    return float(torch.linalg.lstsq(design, target[:, None]).solution[0, 0])


def polynomial(x: Features, y: Features) -> Float[Tensor, "n m"]:
    """KID's kernel."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def unbiased_mmd(x: Features, y: Features) -> float:
    """The unbiased squared MMD under KID's kernel, in float64."""
    m, n = len(x), len(y)
    if min(m, n) < 2:
        raise EvaluationError(f"KID needs 2 pictures on each side, not {m} and {n}")
    x, y = x.double(), y.double()
    xx, yy = polynomial(x, x), polynomial(y, y)
    inside = (xx.sum() - xx.trace()) / (m * (m - 1)) + (yy.sum() - yy.trace()) / (n * (n - 1))
    return float(inside - 2 * polynomial(x, y).mean())


def kid(
    x: Features, y: Features, *, subsets: int = 100, size: int = 1000, seed: int = 0
) -> tuple[float, float | None]:
    """Mean and standard deviation of the squared MMD over random subsets.

    Where a set has no more than `size` pictures, subsets are as large as the smaller set; then they
    are all the same pictures of it, and say nothing of the spread: it is None.
    """
    whole = size >= min(len(x), len(y))
    size = min(size, len(x), len(y))
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(subsets):
        ours = torch.randperm(len(x), generator=generator)[:size]
        theirs = torch.randperm(len(y), generator=generator)[:size]
        found.append(unbiased_mmd(x[ours], y[theirs]))
    values = torch.tensor(found, dtype=torch.float64)
    return float(values.mean()), None if whole else float(values.std(unbiased=False))


def cmmd(x: Features, y: Features, sigma: float = CMMD_SIGMA) -> float:
    """CLIP maximum mean discrepancy; the embeddings are normalised here."""
    if not (len(x) and len(y)):
        raise EvaluationError(f"CMMD needs pictures on both sides, not {len(x)} and {len(y)}")
    x = torch.nn.functional.normalize(x.double(), dim=1)
    y = torch.nn.functional.normalize(y.double(), dim=1)

    def mean_kernel(a: Features, b: Features) -> float:
        # In strips: all pairs of ten thousand pictures at once would be 800 MB.
        strips = (torch.exp((strip @ b.T - 1) / sigma**2).sum() for strip in a.split(_STRIP))
        return float(sum(strips)) / (len(a) * len(b))

    return CMMD_SCALE * (mean_kernel(x, x) + mean_kernel(y, y) - 2 * mean_kernel(x, y))
