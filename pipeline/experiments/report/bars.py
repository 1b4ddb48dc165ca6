"""Bars of a figure, with marks across them."""

from pipeline.experiments.report.figure import Figure, Series, number
from pipeline.experiments.report.frame import LETTER, LINE, RIGHT, WIDTH, Frame, text_at, whisker

MOST_VALUED = 10
"""Bars whose value stands above them."""


def bars(figure: Figure, frame: Frame) -> list[str]:
    """The first series as bars, from 0, and the second as marks across them."""
    measured, predicted = figure.series
    x_low, x_high = figure.x_range
    width = (frame.right - frame.left) / (x_high - x_low)
    bar, across = min(0.66 * width, 34.0), min(0.86 * width, 46.0)
    parts, ground = [], frame.y(0.0)
    for point in measured.points:
        x, y = frame.x(point.x), frame.y(point.y)
        parts.append(_bar(x - bar / 2, min(y, ground), bar, abs(ground - y), measured))
        if point.deviation is not None:
            parts.append(whisker(point, measured, frame))
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
        parts.append(text_at(frame.x(point.x), y, text, anchor="middle", kind="label"))
    return parts


def _key(figure: Figure) -> list[str]:
    """What bars and marks are, where there are both, above the drawing on the right."""
    shown = [series for series in figure.series if series.points]
    if len(shown) < 2:
        return []
    parts, x = [], float(WIDTH - RIGHT)
    for series in reversed(shown):
        x -= LETTER * len(series.name)
        parts.append(text_at(x, 14, series.name))
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
