"""Evaluators that compare sets of pictures; the mathematics is in `distances`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from adhere.eval.evaluators.evaluator import Measure, Measured, Recipe
from adhere.eval.evaluators.sets import distances
from adhere.eval.evaluators.sets.accumulators import FeatureMoments
from adhere.eval.evaluators.sets.references import Reference
from adhere.guides.parameters import param

_FEATURES = "extractor: toybox, clip:MODEL, dinov2:MODEL or inception:WEIGHTS"
_REFERENCE = "reference pictures: toybox (renders), plain (unguided), a folder, a statistics file"


@dataclass(frozen=True)
class FrechetDistance(Recipe):
    """How far the pictures' features are from the reference's, as two Gaussians."""

    name: ClassVar[str] = "frechet"
    columns: ClassVar[tuple[Measure, ...]] = (
        Measure("frechet", "Fréchet distance; compare only at equal n", "lower"),
        Measure("frechet_infinity", "Fréchet distance extrapolated to infinite n", "lower"),
        Measure("frechet_n", "pictures that the Fréchet distance is made of", "neither"),
        Measure("frechet_reference_n", "reference pictures of the Fréchet distance", "neither"),
    )
    features: str = param("toybox", _FEATURES)
    reference: str = param("toybox", _REFERENCE)
    infinity: bool = param(True, "also extrapolate to infinite n", source="arXiv:1911.07023")

    def measure(self, features: Float[Tensor, "n channels"], reference: Reference) -> Measured:
        """Fréchet distance with its n, and FD-infinity where there are pictures enough."""
        made = FeatureMoments()
        made.add(features)
        values = {
            "frechet": distances.frechet(made, reference.moments),
            "frechet_n": float(made.count),
            "frechet_reference_n": float(reference.moments.count),
        }
        if self.infinity and made.count >= 10:
            values["frechet_infinity"] = distances.frechet_infinity(features, reference.moments)
        channels = features.shape[1]
        warnings = distances.frechet_warnings(made.count, reference.moments.count, channels)
        return Measured(values, tuple(warnings))


@dataclass(frozen=True)
class KernelDistance(Recipe):
    """KID: the unbiased kernel distance, also fit for few pictures."""

    name: ClassVar[str] = "kid"
    columns: ClassVar[tuple[Measure, ...]] = (
        Measure("kid", "kernel inception distance, times 1000", "lower"),
        Measure("kid_std", "its standard deviation over subsets, times 1000", "neither"),
    )
    features: str = param("toybox", _FEATURES)
    reference: str = param("toybox", _REFERENCE)
    subsets: int = param(100, "random subsets", low=1, high=10_000, source="arXiv:1801.01401")
    size: int = param(1000, "pictures in a subset", low=2, high=100_000, source="clean-fid")

    def measure(self, features: Float[Tensor, "n channels"], reference: Reference) -> Measured:
        """Mean and spread over subsets, times 1000 as it is usually told."""
        theirs = reference.all_features(self.name)
        mean, spread = distances.kid(features, theirs, subsets=self.subsets, size=self.size)
        values = {"kid": 1000 * mean}
        if spread is not None:
            values["kid_std"] = 1000 * spread
        return Measured(values)


@dataclass(frozen=True)
class ClipDiscrepancy(Recipe):
    """CMMD: maximum mean discrepancy of CLIP embeddings."""

    name: ClassVar[str] = "cmmd"
    columns: ClassVar[tuple[Measure, ...]] = (
        Measure("cmmd", "CLIP maximum mean discrepancy (times 1000)", "lower"),
    )
    features: str = param("toybox", _FEATURES)
    reference: str = param("toybox", _REFERENCE)
    sigma: float = param(10.0, "kernel width", low=1e-6, high=1e6, source="arXiv:2401.09603")

    def measure(self, features: Float[Tensor, "n channels"], reference: Reference) -> Measured:
        """The discrepancy; biased, so compare it at equal n."""
        theirs = reference.all_features(self.name)
        return Measured({"cmmd": distances.cmmd(features, theirs, self.sigma)})
