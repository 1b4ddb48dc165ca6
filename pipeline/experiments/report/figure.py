"""A figure as numbers: what is drawn of it, and tabled beside it, comes from here."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Meaning = Literal["test", "train", "validation", "ensemble", "whole", "predicted"]
Rank = Literal["first", "second", "third", "fourth", "fifth", "sixth"]
Tone = Meaning | Rank
"""What a colour stands for, the same in every figure: a number's meaning, or where methods are compared one of them."""


PERCENT = (0.0, 100.0)
"""Limits of an axis."""


@dataclass(frozen=True)
class Point:
    """One number, or the mean of some runs'."""

    x: float
    y: float
    deviation: float | None = None
    """Standard deviation over the runs, n - 1 in its denominator; None of one run."""
    n: int = 1
    """Runs."""

    @property
    def low(self) -> float:
        return self.y - (self.deviation or 0.0)

    @property
    def high(self) -> float:
        return self.y + (self.deviation or 0.0)


@dataclass(frozen=True)
class Series:
    """A line, in pieces where it begins anew; or the bars, or the marks across them."""

    name: str
    tone: Tone
    segments: tuple[tuple[Point, ...], ...]

    @property
    def points(self) -> tuple[Point, ...]:
        return tuple(point for segment in self.segments for point in segment)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A chart with its axes in words. Of bars the first series is drawn as bars and the second as marks across them; of
    dots each x is a row, and y goes to the right."""

    name: str
    """Of letters and hyphens: its place in the page."""
    title: str
    description: str
    """What it shows, for whoever does not see it too."""
    kind: Literal["lines", "bars", "dots"] = "lines"
    x_name: str
    y_name: str
    x_range: tuple[float, float]
    """Ends of the axis."""
    y_limits: tuple[float, float] = (-math.inf, math.inf)
    """What the axis is never drawn past, as 0 and 100 for percent."""
    digits: int = 2
    """Decimals in the table."""
    label_digits: int = 2
    """Decimals at the end of a line, or above a bar."""
    divisions: tuple[tuple[float, str], ...] = ()
    """Where along x something begins, and its name."""
    rows: tuple[str, ...] = ()
    """Names of the rows of dots, x = 0 first."""
    series: tuple[Series, ...]

    @property
    def points(self) -> tuple[Point, ...]:
        return tuple(point for series in self.series for point in series.points)


def across(runs: Sequence[Mapping[float, float]]) -> tuple[Point, ...]:
    """The mean over runs at every x that one has, with the deviation of those that have it."""
    points = []
    for x in sorted({x for run in runs for x in run}):
        values = [run[x] for run in runs if x in run and math.isfinite(run[x])]
        if values:
            deviation = statistics.stdev(values) if len(values) > 1 else None
            points.append(Point(float(x), statistics.fmean(values), deviation, len(values)))
    return tuple(points)


def line(name: str, tone: Tone, *segments: Sequence[Point]) -> Series:
    """A series of these segments, empty ones left out."""
    return Series(name, tone, tuple(tuple(segment) for segment in segments if segment))


def ticks(low: float, high: float, *, most: int, whole: bool = False) -> list[float]:
    """At most `most` + 2 round numbers, the first <= low and the last >= high; `whole` ones where asked for."""
    step = _step((high - low) / most, whole=whole)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def _step(rough: float, *, whole: bool) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is no less."""
    if whole and rough <= 1:
        return 1.0
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def number(value: float, digits: int) -> str:
    """As in "1,234.5", with a minus sign that is one."""
    text = f"{value:,.{digits}f}"
    return text.replace("-", "−") if any(digit in text for digit in "123456789") else text.replace("-", "")


def step_digits(values: Sequence[float]) -> int:
    """Decimals that tell neighbouring ticks apart."""
    if len(values) < 2:
        return 0
    return max(0, -math.floor(math.log10(values[1] - values[0]) + 1e-9))


def unit_of(values: Sequence[float], units: Sequence[tuple[float, str]]) -> tuple[float, str]:
    """The largest unit, of ascending ones, that the greatest value has two of, or the first."""
    greatest = max(values, default=0.0)
    return next((unit for unit in reversed(units) if greatest >= 2 * unit[0]), units[0])


BYTES = ((1.0, "bytes"), (1e3, "KB"), (1e6, "MB"), (1e9, "GB"), (1e12, "TB"))
SECONDS = ((1.0, "seconds"), (60.0, "minutes"), (3600.0, "hours"))
