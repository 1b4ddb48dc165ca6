"""Figures drawn: within their frame, nothing over another, whatever there is of numbers."""

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from pipeline.experiments.report.figure import Figure, Point, Series, line
from pipeline.experiments.report.frame import BOTTOM, HEIGHT, LETTER, LINE, TOP, WIDTH
from pipeline.experiments.report.lines import spread
from pipeline.experiments.report.svg import drawn


def lines(*series: Series, stages: int = 3, **changes: object) -> Figure:
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
    return [Point(float(x), y, deviation) for x, y in enumerate(values)]


def bars(measured: list[Point], predicted: list[Point], *, stages: int = 3) -> Figure:
    series = (line("measured", "test", measured), line("predicted", "predicted", predicted))
    return lines(*series, stages=stages, kind="bars", x_range=(-0.6, stages - 0.4))


def parsed(figure: Figure) -> ElementTree.Element:
    return ElementTree.fromstring(drawn(figure))


def of_class(svg: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [element for element in svg.iter() if name in element.get("class", "").split()]


def heights(path: str) -> list[float]:
    return [float(y) for _, y in re.findall(r"(-?[\d.]+),(-?[\d.]+)", path)]


def box(text: ElementTree.Element) -> tuple[float, float]:
    """Its left and right end."""
    x, width = float(text.get("x", "")), LETTER * len(text.text or "")
    left = x - width / 2 if text.get("text-anchor") == "middle" else x
    return left, left + width


def test_a_figure_is_named_and_described_and_escaped() -> None:
    svg = parsed(lines(line("test", "test", points(1, 2, 3))))
    assert (svg.get("role"), svg.get("aria-labelledby")) == ("img", "a-title a-description")
    assert [(child.get("id"), child.text) for child in svg[:2]] == [("a-title", "A & B"), ("a-description", "<c>")]


@pytest.mark.parametrize("values", [(50,), (50, 50, 50), (0, 0, 0), (100, 100, 100), (61.40, 61.41, 61.42)])
def test_lines_stay_within_their_frame(values: tuple[float, ...]) -> None:
    svg = parsed(lines(line("test", "test", points(*values, deviation=0.5)), line("train", "train", points(*values))))
    for path in [*of_class(svg, "line"), *of_class(svg, "band")]:
        assert all(TOP - 0.1 <= y <= HEIGHT - BOTTOM + 0.1 for y in heights(path.get("d", "")))
    assert "nan" not in drawn(lines(line("test", "test", points(*values))))


def test_percent_has_no_axis_past_a_hundred() -> None:
    svg = parsed(lines(line("test", "test", points(90, 99.9, 100))))
    assert max(float(text.text or "") for text in of_class(svg, "tick") if text.get("text-anchor") == "end") == 100


def test_labels_of_lines_that_end_together_do_not_overlap_and_stay_in_the_drawing() -> None:
    names = ("train", "validation", "test", "ensemble", "end to end")
    tones = ("train", "validation", "test", "ensemble", "whole")
    series = [line(name, tone, points(99, 99, 99.9)) for name, tone in zip(names, tones, strict=True)]  # type: ignore[arg-type]
    labels = of_class(parsed(lines(*series)), "label")
    ys = sorted(float(label.get("y", "")) for label in labels)
    assert len(labels) == 5
    assert all(after - before >= LINE - 0.2 for before, after in pairwise(ys))
    assert all(float(label.get("x", "")) + LETTER * len(label.text or "") <= WIDTH for label in labels)
    assert TOP <= ys[0] < ys[-1] <= HEIGHT - BOTTOM + 5


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([50.0], [50]),
        ([50.0, 80.0], [50, 80]),
        ([50.0, 50.0], [42, 58]),
        ([50.0, 49.0, 90.0], [57.5, 41.5, 90]),
        ([2.0, 1.0], [16, 0]),
        ([100.0, 100.0], [84, 100]),
        ([50.0, 50.0, 60.0, 60.0], [31, 47, 63, 79]),
    ],
)
def test_labels_are_spread_about_where_they_belong(wanted: list[float], expected: list[float]) -> None:
    assert spread(wanted, low=0, high=100, gap=16) == pytest.approx(expected)


def test_a_line_of_many_points_has_no_marks_and_single_epochs_have() -> None:
    many = points(*(math.sin(x) for x in range(40)))
    assert of_class(parsed(lines(line("test", "test", many), stages=40)), "mark") == []
    assert len(of_class(parsed(lines(line("test", "test", *([one] for one in many)), stages=40)), "mark")) == 40


@pytest.mark.parametrize("stages", [2, 8, 64, 1000])
def test_names_of_divisions_and_ticks_do_not_overlap(stages: int) -> None:
    divisions = tuple((float(3 * j), f"stage {j}") for j in range(stages))
    epochs = [Point(float(x), 50.0) for x in range(3 * stages)]
    svg = parsed(lines(line("train", "train", epochs), x_range=(0.0, 3.0 * stages), divisions=divisions))
    for row in (TOP - 7, HEIGHT - BOTTOM + 19):
        boxes = sorted(box(text) for text in of_class(svg, "tick") if float(text.get("y", "")) == row)
        assert len(boxes) >= 2
        assert all(after[0] > before[1] for before, after in pairwise(boxes))
        assert boxes[-1][1] <= WIDTH


def test_bars_stand_on_0_and_say_what_they_are() -> None:
    svg = parsed(bars(points(2, 4), [Point(0.0, 3.0), Point(2.0, 1.0)]))
    key, heights_of_bars = of_class(svg, "bar")[-1], [float(bar.get("height", "")) for bar in of_class(svg, "bar")[:2]]
    assert key.get("height") == "11.0"
    assert heights_of_bars[1] == pytest.approx(2 * heights_of_bars[0], abs=0.1)
    assert len(of_class(svg, "across")) == 3, "two predictions and the key"
    assert {"measured", "predicted"} <= {text.text for text in svg.iter() if text.text}


def test_the_value_of_a_bar_is_not_written_over_the_mark_across_it() -> None:
    svg = parsed(bars(points(10), [Point(0.0, 10.5)]))
    (value,) = of_class(svg, "label")
    mark = min(heights(path.get("d", ""))[0] for path in of_class(svg, "across") if "h46" in path.get("d", ""))
    assert float(value.get("y", "")) < mark


def test_many_bars_have_no_values_above_them_and_one_series_no_key() -> None:
    svg = parsed(bars(points(*range(1, 65)), [], stages=64))
    assert (len(of_class(svg, "bar")), of_class(svg, "label")) == (64, [])


def test_a_figure_without_numbers_is_an_empty_frame() -> None:
    assert of_class(parsed(lines(line("test", "test"))), "line") == []
    assert of_class(parsed(bars([], [])), "bar") == []
