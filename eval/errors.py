"""What evaluation raises; every message says what was given and what to do."""

from __future__ import annotations

from adhere.errors import GuidanceError


class EvaluationError(GuidanceError, ValueError):
    """A suite, experiment, manifest, output folder or reference that cannot be used as asked."""


class Busy(EvaluationError):
    """Another living process holds what was asked for."""
