"""Bars drawn: from 0, their values beside the marks across them."""

import pytest

from pipeline.experiments.report.figure import Point
from tests.drawings import bar_figure, heights, of_class, parsed, points


def test_bars_stand_on_0_and_say_what_they_are() -> None:
    svg = parsed(bar_figure(points(2, 4), [Point(0.0, 3.0), Point(2.0, 1.0)]))
    key, heights_of_bars = of_class(svg, "bar")[-1], [float(bar.get("height", "")) for bar in of_class(svg, "bar")[:2]]
    assert key.get("height") == "11.0"
    assert heights_of_bars[1] == pytest.approx(2 * heights_of_bars[0], abs=0.1)
    assert len(of_class(svg, "across")) == 3, "two predictions and the key"
    assert {"measured", "predicted"} <= {text.text for text in svg.iter() if text.text}


def test_the_value_of_a_bar_is_not_written_over_the_mark_across_it() -> None:
    svg = parsed(bar_figure(points(10), [Point(0.0, 10.5)]))
    (value,) = of_class(svg, "label")
    mark = min(heights(path.get("d", ""))[0] for path in of_class(svg, "across") if "h46" in path.get("d", ""))
    assert float(value.get("y", "")) < mark


def test_many_bars_have_no_values_above_them_and_one_series_no_key() -> None:
    svg = parsed(bar_figure(points(*range(1, 65)), [], stages=64))
    assert (len(of_class(svg, "bar")), of_class(svg, "label")) == (64, [])


def test_a_bar_of_less_than_nothing_hangs_from_0() -> None:
    svg = parsed(bar_figure(points(2, -2), []))
    above, below = of_class(svg, "bar")
    assert float(above.get("y", "")) + float(above.get("height", "")) == pytest.approx(float(below.get("y", "")))
    assert above.get("height") == below.get("height")
