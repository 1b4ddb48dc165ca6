"""Dots of a figure: a row for each of some things, and in it a mark for each of their numbers."""

from collections.abc import Sequence

from pipeline.experiments.report.figure import Figure, Point, Series, number, step_digits, ticks
from pipeline.experiments.report.frame import BOTTOM, LETTER, RIGHT, TOP, WIDTH, text_at
from pipeline.experiments.report.lines import mark, spread

ROW = 46
"""Pixels of a row."""
ROOM = 26
"""Pixels beside the outermost marks, for half of the number above one."""


def height_of(figure: Figure) -> int:
    """Pixels of the whole drawing."""
    return TOP + ROW * len(figure.rows) + BOTTOM


def dots(figure: Figure) -> list[str]:
    """All rows, with the axis below."""
    values = [value for point in figure.points for value in (point.low, point.high)]
    low, high = min(values), max(values)
    room = 0.08 * (high - low) or 0.02 * abs(high) or 1.0
    floor, ceiling = figure.y_limits
    marks = ticks(max(low - room, floor), min(high + room, ceiling), most=4)
    left, right = 16 + LETTER * max(map(len, figure.rows)) + ROOM, float(WIDTH - RIGHT - ROOM)

    def across(value: float) -> float:
        part = (min(max(value, marks[0]), marks[-1]) - marks[0]) / (marks[-1] - marks[0])
        return left + part * (right - left)

    bottom, digits = height_of(figure) - BOTTOM, step_digits(marks)
    parts = _key(figure)
    for value in marks:
        parts.append(f'<path class="grid" d="M{across(value):.1f},{TOP - 6}V{bottom}"/>')
        parts.append(text_at(across(value), bottom + 19, number(value, digits), anchor="middle"))
    parts.append(f'<path class="axis" d="M{left - ROOM:.1f},{bottom}H{right + ROOM:.1f}"/>')
    parts.append(text_at((left + right) / 2, height_of(figure) - 8, figure.y_name, anchor="middle", kind="name"))
    for row, name in enumerate(figure.rows):
        y = TOP + ROW * row + 0.62 * ROW
        parts.append(text_at(2, y + 5, name, kind="label"))
        parts.append(f'<path class="grid" d="M{left - ROOM:.1f},{y:.1f}H{right + ROOM:.1f}"/>')
        found = [(series, point) for series in figure.series for point in series.points if point.x == row]
        xs = [across(point.y) for _, point in found]
        for (series, point), x in zip(found, xs, strict=True):
            parts += [*_whisker(point, series, across(point.low), across(point.high), y), mark(series, x, y)]
        parts += _values(figure, found, xs, y)
    return parts


def _values(figure: Figure, found: Sequence[tuple[Series, Point]], xs: Sequence[float], y: float) -> list[str]:
    """The numbers of a row above its marks, pushed apart where these are close."""
    texts = [number(point.y, figure.label_digits) for _, point in found]
    gap = LETTER * max(map(len, texts), default=0) + 10
    places = spread(xs, low=0.0, high=WIDTH - gap / 2, gap=gap)
    return [
        text_at(place, y - 11, text, anchor="middle", kind=f"label {series.tone}")
        for place, text, (series, _) in zip(places, texts, found, strict=True)
    ]


def _whisker(point: Point, series: Series, low: float, high: float, y: float) -> list[str]:
    """A deviation on both sides of a mark; of one run none."""
    if point.deviation is None:
        return []
    return [f'<path class="spread {series.tone}" d="M{low:.1f},{y:.1f}H{high:.1f}"/>']


def _key(figure: Figure) -> list[str]:
    """What the marks are, above the rows."""
    parts, x = [], 8.0
    for series in figure.series:
        if series.points:
            parts += [mark(series, x, 10), text_at(x + 11, 15, series.name, kind=f"label {series.tone}")]
            x += LETTER * len(series.name) + 40
    return parts
