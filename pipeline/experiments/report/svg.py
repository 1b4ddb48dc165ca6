"""A figure as inline SVG that takes its colours and letters from the page it stands in.

Drawn 440 wide, so that letters stay legible where it is shrunk to a phone, and two fit beside each other elsewhere.
"""

from collections.abc import Sequence
from html import escape

from pipeline.experiments.report.bars import bars
from pipeline.experiments.report.dots import dots, height_of
from pipeline.experiments.report.figure import Figure, number, step_digits, ticks
from pipeline.experiments.report.frame import BOTTOM, HEIGHT, LETTER, RIGHT, TOP, WIDTH, Frame, text_at
from pipeline.experiments.report.lines import lines, room_of_labels

DIVIDED_FROM = 8
"""Pixels between divisions that lines are drawn at; where they are closer names are enough."""


def drawn(figure: Figure) -> str:
    """The figure as an <svg> element with a title and a description."""
    height, parts = (height_of(figure), dots(figure)) if figure.kind == "dots" else (HEIGHT, _framed(figure))
    name, title, description = figure.name, escape(figure.title), escape(figure.description)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="{name}-title {name}-description">'
        f'<title id="{name}-title">{title}</title><desc id="{name}-description">{description}</desc>'
        f"{''.join(parts)}</svg>"
    )


def _framed(figure: Figure) -> list[str]:
    """Lines or bars, with their axes."""
    y_ticks = _y_ticks(figure)
    digits = step_digits(y_ticks)
    names = [number(tick, digits) for tick in y_ticks]
    left = 12 + LETTER * max(map(len, names))
    right = WIDTH - RIGHT - (room_of_labels(figure) if figure.kind == "lines" else 0.0)
    frame = Frame(*figure.x_range, y_ticks[0], y_ticks[-1], left, right)
    inside = lines(figure, frame) if figure.kind == "lines" else bars(figure, frame)
    return [*_axes(figure, frame, list(zip(y_ticks, names, strict=True))), *inside]


def _y_ticks(figure: Figure) -> list[float]:
    """Of lines round the values, of bars from 0."""
    values = [value for point in figure.points for value in (point.low, point.high)]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if figure.kind == "bars":
        return ticks(min(low, 0.0), max(high, 0.0) if low < 0 or high > 0 else 1.0, most=5)
    room = 0.05 * (high - low) or 0.02 * abs(high) or 1.0
    floor, ceiling = figure.y_limits
    return ticks(max(low - room, floor), min(high + room, ceiling), most=5)


def _axes(figure: Figure, frame: Frame, y_ticks: Sequence[tuple[float, str]]) -> list[str]:
    bottom = HEIGHT - BOTTOM
    parts = []
    for value, name in y_ticks:
        y = frame.y(value)
        parts.append(f'<path class="grid" d="M{frame.left:.1f},{y:.1f}H{frame.right:.1f}"/>')
        parts.append(text_at(frame.left - 6, y + 5, name, anchor="end"))
    parts.append(f'<path class="axis" d="M{frame.left:.1f},{bottom}H{frame.right:.1f}"/>')
    parts += _divisions(figure, frame)
    low, high = figure.x_range
    room = LETTER * (len(f"{high:,.0f}") + 2)
    most = max(2, min(10, int((frame.right - frame.left) / room)))
    for value in ticks(low, high, most=most, whole=True):
        if low <= value <= high:
            parts.append(f'<path class="axis" d="M{frame.x(value):.1f},{bottom}v4"/>')
            parts.append(text_at(frame.x(value), bottom + 19, number(value, 0), anchor="middle"))
    parts.append(text_at((frame.left + frame.right) / 2, HEIGHT - 8, figure.x_name, anchor="middle", kind="name"))
    parts.append(text_at(2, 14, figure.y_name, kind="name"))
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
        parts.append(text_at(frame.right + 6, TOP - 7, names[0].partition(" ")[0]))
        names = [name.rpartition(" ")[2] for name in names]
    every = ticks(0, (LETTER * max(map(len, names)) + 8) / between, most=1, whole=True)[-1]
    for index, (x, name) in enumerate(zip(starts, names, strict=True)):
        end = starts[index + 1] if index + 1 < len(starts) else frame.right
        if index and between >= DIVIDED_FROM:
            parts.append(f'<path class="division" d="M{x:.1f},{TOP - 4}V{HEIGHT - BOTTOM}"/>')
        if index % max(int(every), 1) == 0:
            parts.append(text_at((x + end) / 2, TOP - 7, name, anchor="middle"))
    return parts
