"""Dots of a figure: rows, marks, and their numbers."""

from itertools import pairwise

from pipeline.experiments.report.dots import ROW
from pipeline.experiments.report.figure import Figure, Point, line
from pipeline.experiments.report.frame import BOTTOM, TOP, WIDTH
from pipeline.experiments.report.page import figure_table
from tests.drawings import box, line_figure, of_class, parsed

ROWS = ("k = 1", "k = 2", "k = 3")


def dots_figure(*last: Point, ensemble: tuple[Point, ...] = ()) -> Figure:
    series = (line("last stage", "test", last), line("ensemble", "ensemble", ensemble))
    return line_figure(*series, kind="dots", rows=ROWS)


def test_a_row_stands_for_each_thing_and_a_mark_for_each_number() -> None:
    figure = dots_figure(Point(0, 80.0), Point(1, 90.0), Point(2, 85.0), ensemble=(Point(1, 91.0),))
    svg = parsed(figure)
    assert svg.get("viewBox") == f"0 0 {WIDTH} {TOP + 3 * ROW + BOTTOM}"
    names = [text.text for text in of_class(svg, "label")]
    assert set(ROWS) < set(names)
    assert len(of_class(svg, "mark")) == 4 + 2, "and one of each in the key"
    shifts = [mark.get("transform", "")[10:-1].split(",") for mark in of_class(svg, "mark")][2:]
    xs = [float(x) for x, _ in shifts]
    assert xs[0] < xs[3] < xs[1] < xs[2], "80, 85, 90, 91: a larger number is farther right"


def test_numbers_of_one_row_are_pushed_apart() -> None:
    near = dots_figure(Point(0, 98.5), Point(1, 50.0), ensemble=(Point(0, 98.6),))
    texts = [text for text in of_class(parsed(near), "label") if text.text in ("98.50", "98.60")]
    boxes = sorted(box(text) for text in texts)
    assert len(boxes) == 2
    assert all(after[0] > before[1] for before, after in pairwise(boxes))
    assert boxes[-1][1] <= WIDTH


def test_a_deviation_is_drawn_and_no_axis_goes_past_a_hundred() -> None:
    svg = parsed(dots_figure(Point(0, 99.0, 3.0, 2), Point(1, 95.0)))
    assert len(of_class(svg, "spread")) == 1
    assert max(float(text.text or "") for text in of_class(svg, "tick")) == 100


def test_its_table_names_the_rows() -> None:
    assert "<td class=number>k = 3</td><td class=number>85.00</td>" in figure_table(dots_figure(Point(2.0, 85.0)))
