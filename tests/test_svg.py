"""Figures drawn: named, escaped, and no name of an axis over another."""

from itertools import pairwise

import pytest

from pipeline.experiments.report.figure import Point, line
from pipeline.experiments.report.frame import BOTTOM, HEIGHT, TOP, WIDTH
from tests.drawings import bar_figure, box, line_figure, of_class, parsed, points


def test_a_figure_is_named_and_described_and_escaped() -> None:
    svg = parsed(line_figure(line("test", "test", points(1, 2, 3))))
    assert (svg.get("role"), svg.get("aria-labelledby")) == ("img", "a-title a-description")
    assert [(child.get("id"), child.text) for child in svg[:2]] == [("a-title", "A & B"), ("a-description", "<c>")]


def test_percent_has_no_axis_past_a_hundred() -> None:
    svg = parsed(line_figure(line("test", "test", points(90, 99.9, 100))))
    assert max(float(text.text or "") for text in of_class(svg, "tick") if text.get("text-anchor") == "end") == 100


@pytest.mark.parametrize("stages", [2, 8, 64, 1000])
def test_names_of_divisions_and_ticks_do_not_overlap(stages: int) -> None:
    divisions = tuple((float(3 * j), f"stage {j}") for j in range(stages))
    epochs = [Point(float(x), 50.0) for x in range(3 * stages)]
    svg = parsed(line_figure(line("train", "train", epochs), x_range=(0.0, 3.0 * stages), divisions=divisions))
    assert len(of_class(svg, "division")) == (stages - 1 if stages < 40 else 0), "many would be a grey ground"
    for row in (TOP - 7, HEIGHT - BOTTOM + 19):
        boxes = sorted(box(text) for text in of_class(svg, "tick") if float(text.get("y", "")) == row)
        assert len(boxes) >= 2
        assert all(after[0] > before[1] for before, after in pairwise(boxes))
        assert boxes[-1][1] <= WIDTH


def test_a_figure_without_numbers_is_an_empty_frame() -> None:
    assert of_class(parsed(line_figure(line("test", "test"))), "line") == []
    assert of_class(parsed(bar_figure([], [])), "bar") == []
