"""Means over seeds, and paired differences with their intervals."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev

import msgspec

CONFIDENCE = 0.95


class Mean(msgspec.Struct, frozen=True, kw_only=True):
    """Of some numbers."""

    mean: float
    deviation: float | None
    """Of the sample, over n - 1; None of one number."""
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.2f}" + (f" ± {self.deviation:.2f}" if self.deviation is not None else "")


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """Where the mean of paired differences lies, with the confidence that CONFIDENCE says."""

    low: float
    high: float

    @property
    def holds_zero(self) -> bool:
        """Whether the difference is within noise."""
        return self.low <= 0 <= self.high


def mean_of(numbers: Sequence[float]) -> Mean:
    """Of one number or more."""
    deviation = stdev(numbers) if len(numbers) > 1 else None
    return Mean(mean=fmean(numbers), deviation=deviation, n=len(numbers))


def interval_of(differences: Sequence[float]) -> Interval | None:
    """Student's t interval of the mean of paired differences; None of less than two."""
    if len(differences) < 2:
        return None
    from scipy.special import stdtrit

    found = mean_of(differences)
    assert found.deviation is not None, "there are two"
    quantile = float(stdtrit(len(differences) - 1, (1 + CONFIDENCE) / 2))
    half = quantile * found.deviation / math.sqrt(len(differences))
    return Interval(low=found.mean - half, high=found.mean + half)
