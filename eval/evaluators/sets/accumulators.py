"""Sums that merge exactly: what shards and chunks found, added up, is what one pass would find."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.eval.errors import EvaluationError


@dataclass
class Mean:
    """The mean of numbers."""

    count: int = 0
    total: float = 0.0

    def add(self, value: float) -> None:
        self.count += 1
        self.total += value

    def merge(self, other: Mean) -> None:
        self.count += other.count
        self.total += other.total

    def value(self) -> float:
        """The mean; NaN of nothing."""
        return self.total / self.count if self.count else float("nan")


@dataclass
class FeatureMoments:
    """Count, sum and sum of outer products of feature vectors, in float64.

    The sums are taken around `shift`, the first vector seen: far from the origin the covariance
    would otherwise be a small difference of large numbers.
    """

    count: int = 0
    shift: Float[Tensor, " channels"] | None = None
    total: Float[Tensor, " channels"] | None = None
    outer: Float[Tensor, "channels channels"] | None = None

    def add(self, features: Float[Tensor, "n channels"]) -> None:
        """Take in feature vectors."""
        if not len(features):
            return
        rows = features.double()
        if self.shift is None:
            self.shift = rows[0].clone()
            self.total = torch.zeros_like(self.shift)
            self.outer = torch.zeros(len(self.shift), len(self.shift), dtype=torch.float64)
        # Both are set together with the shift.
        assert self.total is not None
        assert self.outer is not None
        if rows.shape[1] != len(self.shift):
            raise EvaluationError(
                f"features of {rows.shape[1]} channels among features of {len(self.shift)}: "
                "they come from different extractors"
            )
        rows = rows - self.shift
        self.count += len(rows)
        self.total += rows.sum(dim=0)
        self.outer += rows.T @ rows

    def merge(self, other: FeatureMoments) -> None:
        """Take in what another accumulator saw."""
        if other.shift is None or other.total is None or other.outer is None:
            return
        if self.shift is None or self.total is None or self.outer is None:
            self.count, self.shift = other.count, other.shift.clone()
            self.total, self.outer = other.total.clone(), other.outer.clone()
            return
        if len(other.shift) != len(self.shift):
            raise EvaluationError(
                f"moments of {len(other.shift)} channels do not merge with {len(self.shift)}"
            )
        # sum (y + d)(y + d)^T with y around the other's shift and d = other's shift - ours.
        d = other.shift - self.shift
        cross = torch.outer(d, other.total)
        self.outer += other.outer + cross + cross.T + other.count * torch.outer(d, d)
        self.total += other.total + other.count * d
        self.count += other.count

    def mean(self) -> Float[Tensor, " channels"]:
        """The mean vector; raises `EvaluationError` when there is none."""
        if self.shift is None or self.total is None:
            raise EvaluationError("no features: there were no readable images")
        return self.shift + self.total / self.count

    def covariance(self) -> Float[Tensor, "channels channels"]:
        """The unbiased covariance; raises `EvaluationError` for fewer than two vectors."""
        if self.count < 2 or self.total is None or self.outer is None:
            raise EvaluationError(f"a covariance needs 2 images or more, not {self.count}")
        mean = self.total / self.count
        return (self.outer - self.count * torch.outer(mean, mean)) / (self.count - 1)

    def save(self, path: Path, about: Mapping[str, str]) -> None:
        """Keep mean, covariance and count as safetensors."""
        from safetensors.torch import save

        from adhere.eval.files import write_atomic
        from adhere.files import sweep

        tensors = {
            "mean": self.mean(),
            "covariance": self.covariance(),
            "count": torch.tensor(self.count),
        }
        sweep(path.parent)
        write_atomic(path, save(tensors, dict(about)))


def moments_from_file(path: Path) -> FeatureMoments:
    """Statistics kept by `Moments.save`.

    Raises:
        EvaluationError: the file is damaged, or does not say from how many images it was made:
            a Fréchet distance without its n cannot be compared with anything.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise EvaluationError(f"cannot read statistics {path}: {error}") from error
    missing = [name for name in ("mean", "covariance", "count") if name not in tensors]
    if missing:
        raise EvaluationError(
            f"{path} has no {missing[0]!r}; statistics need mean, covariance and count "
            "(a Fréchet distance is refused without the number of images)"
        )
    count = int(tensors["count"])
    mean = tensors["mean"].double()
    zero = torch.zeros_like(mean)
    return FeatureMoments(count, mean, zero, tensors["covariance"].double() * (count - 1))


@dataclass
class Overlap:
    """Intersections and unions in pixels, class by class."""

    pixels: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, counts: Mapping[str, tuple[int, int] | list[int]]) -> None:
        """Take in one picture's `(intersection, union)` of each class."""
        for name, (intersection, union) in counts.items():
            before = self.pixels.get(name, (0, 0))
            self.pixels[name] = (before[0] + int(intersection), before[1] + int(union))

    def merge(self, other: Overlap) -> None:
        self.add(other.pixels)

    def value(self) -> float:
        """Mean over classes of intersection over union; classes that never occur are left out."""
        shares = [both / either for both, either in self.pixels.values() if either]
        return sum(shares) / len(shares) if shares else float("nan")
