"""Lines drawn: within their frame, their names apart, marked where they are few."""

import math
from itertools import pairwise

import pytest

from pipeline.experiments.report.figure import line
from pipeline.experiments.report.frame import BOTTOM, HEIGHT, LETTER, LINE, TOP, WIDTH
from pipeline.experiments.report.lines import spread
from pipeline.experiments.report.svg import drawn
from tests.drawings import heights, line_figure, of_class, parsed, points


@pytest.mark.parametrize("values", [(50,), (50, 50, 50), (0, 0, 0), (100, 100, 100), (61.40, 61.41, 61.42)])
def test_lines_stay_within_their_frame(values: tuple[float, ...]) -> None:
    svg = parsed(
        line_figure(line("test", "test", points(*values, deviation=0.5)), line("train", "train", points(*values)))
    )
    for path in [*of_class(svg, "line"), *of_class(svg, "band")]:
        assert all(TOP - 0.1 <= y <= HEIGHT - BOTTOM + 0.1 for y in heights(path.get("d", "")))
    assert "nan" not in drawn(line_figure(line("test", "test", points(*values))))


def test_labels_of_lines_that_end_together_do_not_overlap_and_stay_in_the_drawing() -> None:
    names = ("train", "validation", "test", "ensemble", "end to end")
    tones = ("train", "validation", "test", "ensemble", "whole")
    series = [line(name, tone, points(99, 99, 99.9)) for name, tone in zip(names, tones, strict=True)]  # type: ignore[arg-type]
    labels = of_class(parsed(line_figure(*series)), "label")
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
    assert of_class(parsed(line_figure(line("test", "test", many), stages=40)), "mark") == []
    assert len(of_class(parsed(line_figure(line("test", "test", *([one] for one in many)), stages=40)), "mark")) == 40
