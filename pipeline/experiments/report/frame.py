"""Where in a drawing numbers lie, and what is drawn there in more than one kind of it."""

from dataclasses import dataclass
from html import escape

from pipeline.experiments.report.figure import Point, Series

WIDTH, HEIGHT = 440, 300
TOP, BOTTOM, RIGHT = 40, 48, 12
LETTER = 8.2
"""Width of a letter at 14 pixels, on average and rather too much than too little."""
LINE = 17
"""Between two labels."""


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


def whisker(point: Point, series: Series, frame: Frame) -> str:
    """A deviation on both sides of a point."""
    x, low, high = frame.x(point.x), frame.y_within(point.low), frame.y_within(point.high)
    return f'<path class="whisker {series.tone}" d="M{x:.1f},{low:.1f}V{high:.1f}"/>'


def text_at(x: float, y: float, words: str, *, anchor: str = "start", kind: str = "tick") -> str:
    """Words at a place, of a class."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
