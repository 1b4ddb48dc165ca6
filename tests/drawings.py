"""Figures for tests, drawn and taken apart."""

import re
from xml.etree import ElementTree

from pipeline.experiments.report.figure import Figure, Point, Series, line
from pipeline.experiments.report.frame import LETTER
from pipeline.experiments.report.svg import drawn


def line_figure(*series: Series, stages: int = 3, **changes: object) -> Figure:
    """A chart of accuracies."""
    settings = {"x_range": (-0.3, stages - 0.7), "y_limits": (0.0, 100.0), "kind": "lines", **changes}
    return Figure(
        name="a",
        title="A & B",
        description="<c>",
        x_name="stage",
        y_name="%",
        series=series,
        **settings,  # type: ignore[arg-type]
    )


def points(*values: float, deviation: float | None = None) -> list[Point]:
    """A value for each stage."""
    return [Point(float(x), y, deviation) for x, y in enumerate(values)]


def bar_figure(measured: list[Point], predicted: list[Point], *, stages: int = 3) -> Figure:
    """A chart with marks across its bars."""
    series = (line("measured", "test", measured), line("predicted", "predicted", predicted))
    return line_figure(*series, stages=stages, kind="bars", x_range=(-0.6, stages - 0.4))


def parsed(figure: Figure) -> ElementTree.Element:
    """What is drawn of it."""
    return ElementTree.fromstring(drawn(figure))


def of_class(svg: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    """Elements of a class."""
    return [element for element in svg.iter() if name in element.get("class", "").split()]


def heights(path: str) -> list[float]:
    """The y of its points."""
    return [float(y) for _, y in re.findall(r"(-?[\d.]+),(-?[\d.]+)", path)]


def box(text: ElementTree.Element) -> tuple[float, float]:
    """Its left and right end."""
    x, width = float(text.get("x", "")), LETTER * len(text.text or "")
    left = x - width / 2 if text.get("text-anchor") == "middle" else x
    return left, left + width
