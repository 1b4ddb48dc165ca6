"""Lines of a figure, with bands, marks, and their names at their ends."""

from collections.abc import Mapping, Sequence

from pipeline.experiments.report.figure import Figure, Point, Series, Tone, number
from pipeline.experiments.report.frame import BOTTOM, HEIGHT, LETTER, LINE, TOP, Frame, text_at, whisker

MOST_MARKED = 24
"""Points of a line that are marked; of more the line says enough."""
CIRCLE = "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z"
SQUARE = "M-3.5,-3.5h7v7h-7z"
TRIANGLE = "M0,-4.6L4.4,3.4H-4.4z"
DIAMOND = "M0,-5L5,0L0,5L-5,0z"
CROSS = "M-5,-1.6h3.4v-3.4h3.2v3.4h3.4v3.2h-3.4v3.4h-3.2v-3.4h-3.4z"
TIP = "M0,4.6L4.4,-3.4H-4.4z"
MARKS: Mapping[Tone, str] = {
    "test": CIRCLE,
    "train": SQUARE,
    "validation": TRIANGLE,
    "ensemble": DIAMOND,
    "whole": CROSS,
    "first": CIRCLE,
    "second": SQUARE,
    "third": TRIANGLE,
    "fourth": DIAMOND,
    "fifth": CROSS,
    "sixth": TIP,
}
"""A shape for each tone that stands at single points, for whoever does not tell the colours apart."""
LEVELS: tuple[Tone, ...] = ("whole",)
"""Tones of lines that are of no stage, and have no marks."""


def room_of_labels(figure: Figure) -> float:
    """Pixels that the names take beside the frame."""
    return LETTER * max((len(_label(series, figure)) for series in figure.series), default=0) + 6


def lines(figure: Figure, frame: Frame) -> list[str]:
    """All of them, the bands below."""
    bands = [_band(segment, series, frame) for series in figure.series for segment in series.segments]
    parts = [*filter(None, bands)]
    for series in figure.series:
        is_marked = len(series.points) <= MOST_MARKED and series.tone not in LEVELS
        for segment in series.segments:
            path = "L".join(f"{frame.x(point.x):.1f},{frame.y(point.y):.1f}" for point in segment)
            parts.append(
                f'<path class="line {series.tone}{" dense" if len(series.points) > MOST_MARKED else ""}" d="M{path}"/>'
            )
        alone = [segment[0] for segment in series.segments if len(segment) == 1]
        marked = series.points if is_marked else alone
        parts += [mark(series, frame.x(point.x), frame.y(point.y)) for point in marked]
    return parts + _labels(figure, frame)


def _band(segment: Sequence[Point], series: Series, frame: Frame) -> str:
    """The mean and a deviation on both sides, as far as the axis goes; "" of one run."""
    if all(point.deviation is None for point in segment):
        return ""
    if len(segment) == 1:
        return whisker(segment[0], series, frame)
    above = [f"{frame.x(point.x):.1f},{frame.y_within(point.high):.1f}" for point in segment]
    below = [f"{frame.x(point.x):.1f},{frame.y_within(point.low):.1f}" for point in reversed(segment)]
    return f'<path class="band {series.tone}" d="M{"L".join([*above, *below])}Z"/>'


def mark(series: Series, x: float, y: float) -> str:
    """The shape of a series at a place."""
    shape = MARKS.get(series.tone, CIRCLE)
    return f'<path class="mark {series.tone}" transform="translate({x:.1f},{y:.1f})" d="{shape}"/>'


def _label(series: Series, figure: Figure) -> str:
    """The name of a line and its last value, told apart where the name ends in a number."""
    if not series.points:
        return ""
    between = ": " if series.name[-1:].isdigit() else " "
    return f"{series.name}{between}{number(series.points[-1].y, figure.label_digits)}"


def _labels(figure: Figure, frame: Frame) -> list[str]:
    """The names of the lines beside their ends, pushed apart where these are close."""
    shown = [series for series in figure.series if series.points]
    ends = [(frame.x(series.points[-1].x), frame.y(series.points[-1].y)) for series in shown]
    if not ends:
        return []
    column = max(x for x, _ in ends) + 10
    places = spread([y for _, y in ends], low=TOP + 6, high=HEIGHT - BOTTOM - 4)
    parts = []
    for series, (x, y), place in zip(shown, ends, places, strict=True):
        if abs(place - y) > 3 or column - x > 11:
            parts.append(f'<path class="leader" d="M{x + 5:.1f},{y:.1f}L{column - 2:.1f},{place:.1f}"/>')
        parts.append(text_at(column, place + 5, _label(series, figure), kind=f"label {series.tone}"))
    return parts


def spread(wanted: Sequence[float], *, low: float, high: float, gap: float = LINE) -> list[float]:
    """Places as near to those wanted as lets neighbours be `gap` apart, in the same order, within low..high if they
    fit there."""
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    blocks: list[tuple[float, list[int]]] = []
    for index in order:
        blocks.append((wanted[index], [index]))
        while len(blocks) > 1 and _first(blocks[-1], gap) < _last(blocks[-2], gap) + gap:
            (after, some), (before, others) = blocks.pop(), blocks.pop()
            members = [*others, *some]
            centre = (before * len(others) + after * len(some)) / len(members)
            blocks.append((_within(centre, len(members), low, high, gap), members))
    places = [0.0] * len(wanted)
    for centre, members in blocks:
        first = _within(centre, len(members), low, high, gap) - gap * (len(members) - 1) / 2
        for rank, index in enumerate(members):
            places[index] = first + gap * rank
    return places


def _first(block: tuple[float, list[int]], gap: float) -> float:
    return block[0] - gap * (len(block[1]) - 1) / 2


def _last(block: tuple[float, list[int]], gap: float) -> float:
    return block[0] + gap * (len(block[1]) - 1) / 2


def _within(centre: float, count: int, low: float, high: float, gap: float) -> float:
    """The centre of a column of `count` labels, moved to where all are within low..high."""
    half = gap * (count - 1) / 2
    return max(min(centre, high - half), low + half)
