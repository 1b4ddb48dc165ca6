"""A figure as inline SVG that takes its colours and letters from the page it stands in.

Drawn 440 wide, so that letters stay legible where it is shrunk to a phone, and two fit beside each other elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from pipeline.experiments.figure import Figure, Point, Series, number, step_digits, ticks

WIDTH, HEIGHT = 440, 300
TOP, BOTTOM, RIGHT = 40, 48, 12
LETTER = 8.2
"""Width of a letter at 14 pixels, on average and rather too much than too little."""
LINE = 17
"""Between two labels."""
MOST_MARKED = 24
"""Points of a line that are marked; of more the line says enough."""
DIVIDED_FROM = 8
"""Pixels between divisions that lines are drawn at; where they are closer names are enough."""
MOST_VALUED = 10
"""Bars whose value stands above them."""
MARKS = {
    "test": "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z",
    "train": "M-3.5,-3.5h7v7h-7z",
    "validation": "M0,-4.6L4.4,3.4H-4.4z",
    "ensemble": "M0,-5L5,0L0,5L-5,0z",
}
"""A shape for each tone that stands at single points, for whoever does not tell the colours apart."""


@dataclass(frozen=True)
class Frame:
    """Where in the drawing numbers lie."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    left: float
    right: float

    def x(self, value: float) -> float:
        return self.left + (value - self.x_low) / (self.x_high - self.x_low) * (self.right - self.left)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value - self.y_low) / (self.y_high - self.y_low) * (HEIGHT - BOTTOM - TOP)

    def y_within(self, value: float) -> float:
        """The same of a value that may lie past the axis: at its end."""
        return self.y(min(max(value, self.y_low), self.y_high))


def drawn(figure: Figure) -> str:
    """The figure as an <svg> element with a title and a description."""
    y_ticks = _y_ticks(figure)
    digits = step_digits(y_ticks)
    names = [number(tick, digits) for tick in y_ticks]
    left = 12 + LETTER * max(map(len, names))
    labels = [_label(series, figure) for series in figure.series] if figure.kind == "lines" else []
    right = WIDTH - RIGHT - (LETTER * max(map(len, labels)) + 6 if labels else 0)
    frame = Frame(*figure.x_range, y_ticks[0], y_ticks[-1], left, right)
    parts = [*_axes(figure, frame, list(zip(y_ticks, names, strict=True)))]
    parts += _lines(figure, frame) if figure.kind == "lines" else _bars(figure, frame)
    name, title, description = figure.name, escape(figure.title), escape(figure.description)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{name}-title {name}-description">'
        f'<title id="{name}-title">{title}</title><desc id="{name}-description">{description}</desc>'
        f"{''.join(parts)}</svg>"
    )


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


def _y_ticks(figure: Figure) -> list[float]:
    """Of lines round the values, of bars from 0."""
    values = [value for point in figure.points for value in (point.low, point.high)]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if figure.kind == "bars":
        return ticks(0.0, high if high > 0 else 1.0, most=5)
    room = 0.05 * (high - low) or 0.02 * abs(high) or 1.0
    floor, ceiling = figure.y_limits
    return ticks(max(low - room, floor), min(high + room, ceiling), most=5)


def _axes(figure: Figure, frame: Frame, y_ticks: Sequence[tuple[float, str]]) -> list[str]:
    bottom = HEIGHT - BOTTOM
    parts = []
    for value, name in y_ticks:
        y = frame.y(value)
        parts.append(f'<path class="grid" d="M{frame.left:.1f},{y:.1f}H{frame.right:.1f}"/>')
        parts.append(_text(frame.left - 6, y + 5, name, anchor="end"))
    parts.append(f'<path class="axis" d="M{frame.left:.1f},{bottom}H{frame.right:.1f}"/>')
    parts += _divisions(figure, frame)
    low, high = figure.x_range
    room = LETTER * (len(f"{high:,.0f}") + 2)
    most = max(2, min(10, int((frame.right - frame.left) / room)))
    for value in ticks(low, high, most=most, whole=True):
        if low <= value <= high:
            parts.append(f'<path class="axis" d="M{frame.x(value):.1f},{bottom}v4"/>')
            parts.append(_text(frame.x(value), bottom + 19, number(value, 0), anchor="middle"))
    parts.append(_text((frame.left + frame.right) / 2, HEIGHT - 8, figure.x_name, anchor="middle", kind="name"))
    parts.append(_text(2, 14, figure.y_name, kind="name"))
    return parts


def _divisions(figure: Figure, frame: Frame) -> list[str]:
    """A line where each begins; its name where it has room, else those of every second, fifth and so on."""
    if not figure.divisions:
        return []
    starts = [frame.x(x) for x, _ in figure.divisions]
    between = (frame.right - starts[0]) / len(starts)
    names = [name for _, name in figure.divisions]
    parts = []
    if between < LETTER * max(map(len, names)) + 6:
        parts.append(_text(frame.right + 6, TOP - 7, names[0].partition(" ")[0]))
        names = [name.rpartition(" ")[2] for name in names]
    every = ticks(0, (LETTER * max(map(len, names)) + 8) / between, most=1, whole=True)[-1]
    for index, (x, name) in enumerate(zip(starts, names, strict=True)):
        end = starts[index + 1] if index + 1 < len(starts) else frame.right
        if index and between >= DIVIDED_FROM:
            parts.append(f'<path class="division" d="M{x:.1f},{TOP - 4}V{HEIGHT - BOTTOM}"/>')
        if index % max(int(every), 1) == 0:
            parts.append(_text((x + end) / 2, TOP - 7, name, anchor="middle"))
    return parts


def _lines(figure: Figure, frame: Frame) -> list[str]:
    bands = [_band(segment, series, frame) for series in figure.series for segment in series.segments]
    parts = [*filter(None, bands)]
    for series in figure.series:
        is_marked = len(series.points) <= MOST_MARKED and series.tone in MARKS
        for segment in series.segments:
            path = "L".join(f"{frame.x(point.x):.1f},{frame.y(point.y):.1f}" for point in segment)
            parts.append(
                f'<path class="line {series.tone}{" dense" if len(series.points) > MOST_MARKED else ""}" d="M{path}"/>'
            )
        alone = [segment[0] for segment in series.segments if len(segment) == 1]
        parts += [_mark(point, series, frame) for point in (series.points if is_marked else alone)]
    return parts + _labels(figure, frame)


def _band(segment: Sequence[Point], series: Series, frame: Frame) -> str:
    """The mean and a deviation on both sides, as far as the axis goes; "" of one run."""
    if all(point.deviation is None for point in segment):
        return ""
    if len(segment) == 1:
        return _whisker(segment[0], series, frame)
    above = [f"{frame.x(point.x):.1f},{frame.y_within(point.high):.1f}" for point in segment]
    below = [f"{frame.x(point.x):.1f},{frame.y_within(point.low):.1f}" for point in reversed(segment)]
    return f'<path class="band {series.tone}" d="M{"L".join([*above, *below])}Z"/>'


def _mark(point: Point, series: Series, frame: Frame) -> str:
    place = f"translate({frame.x(point.x):.1f},{frame.y(point.y):.1f})"
    return f'<path class="mark {series.tone}" transform="{place}" d="{MARKS.get(series.tone, MARKS["test"])}"/>'


def _label(series: Series, figure: Figure) -> str:
    """The name of a line and its last value."""
    return f"{series.name} {number(series.points[-1].y, figure.label_digits)}" if series.points else ""


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
        parts.append(_text(column, place + 5, _label(series, figure), kind=f"label {series.tone}"))
    return parts


def _bars(figure: Figure, frame: Frame) -> list[str]:
    measured, predicted = figure.series
    x_low, x_high = figure.x_range
    width = (frame.right - frame.left) / (x_high - x_low)
    bar, across = min(0.66 * width, 34.0), min(0.86 * width, 46.0)
    parts = []
    for point in measured.points:
        x, y = frame.x(point.x), frame.y(point.y)
        parts.append(_bar(x - bar / 2, y, bar, HEIGHT - BOTTOM - y, measured))
        if point.deviation is not None:
            parts.append(_whisker(point, measured, frame))
    for point in predicted.points:
        parts.append(_across(frame.x(point.x) - across / 2, frame.y(point.y), across, predicted))
    return parts + _values(figure, frame, width) + _key(figure)


def _values(figure: Figure, frame: Frame, width: float) -> list[str]:
    """Above each bar what it is high, where all have room for it; above the mark across it where they would touch."""
    measured, predicted = figure.series
    marks = {point.x: frame.y(point.y) for point in predicted.points}
    texts = [number(point.y, figure.label_digits) for point in measured.points]
    if len(texts) > MOST_VALUED or any(LETTER * len(text) > width for text in texts):
        return []
    parts = []
    for point, text in zip(measured.points, texts, strict=True):
        y = frame.y(point.high) - 5
        mark = marks.get(point.x, 0.0)
        if y - LINE < mark < y + 4:
            y = mark - 5
        parts.append(_text(frame.x(point.x), y, text, anchor="middle", kind="label"))
    return parts


def _key(figure: Figure) -> list[str]:
    """What bars and marks are, where there are both, above the drawing on the right."""
    shown = [series for series in figure.series if series.points]
    if len(shown) < 2:
        return []
    parts, x = [], float(WIDTH - RIGHT)
    for series in reversed(shown):
        x -= LETTER * len(series.name)
        parts.append(_text(x, 14, series.name))
        x -= 18
        is_bar = series is figure.series[0]
        parts.append(_bar(x + 2, 3, 11, 11, series) if is_bar else _across(x, 9, 13, series))
        x -= 12
    return parts


def _bar(x: float, y: float, width: float, height: float, series: Series) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="bar {series.tone}" {place}/>'


def _across(x: float, y: float, width: float, series: Series) -> str:
    return f'<path class="across {series.tone}" d="M{x:.1f},{y:.1f}h{width:.1f}"/>'


def _whisker(point: Point, series: Series, frame: Frame) -> str:
    """A deviation on both sides of a point."""
    x, low, high = frame.x(point.x), frame.y_within(point.low), frame.y_within(point.high)
    return f'<path class="whisker {series.tone}" d="M{x:.1f},{low:.1f}V{high:.1f}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", kind: str = "tick") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
