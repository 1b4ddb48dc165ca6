"""Numbers of a figure: ticks, means, units."""

import math

import pytest

from pipeline.experiments.report.figure import BYTES, SECONDS, Point, across, line, number, step_digits, ticks, unit_of


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (97.1, 99.9, [97, 98, 99, 100]),
        (0, 0.013, [0, 0.005, 0.01, 0.015]),
        (-3, 4, [-4, -2, 0, 2, 4]),
        (61.4, 61.6, [61.4, 61.45, 61.5, 61.55, 61.6]),
    ],
)
def test_ticks_are_round_and_hold_what_they_are_for(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high, most=5) == pytest.approx(expected)


@pytest.mark.parametrize("high", [1e-9, 0.3, 1, 7, 63, 1e12])
def test_ticks_are_few_whatever_the_range(high: float) -> None:
    found = ticks(0, high, most=5)
    assert found[0] <= 0
    assert found[-1] >= high * (1 - 1e-9)
    assert 2 <= len(found) <= 7


def test_whole_ticks_are_whole() -> None:
    assert ticks(-0.3, 2.3, most=10, whole=True) == [-1, 0, 1, 2, 3]


def test_one_range_of_nothing_still_has_a_tick() -> None:
    assert ticks(5, 5, most=5) == [5]


def test_means_have_deviations_only_of_several_runs_and_say_how_many() -> None:
    assert across([{0: 1.0, 1: 5.0}, {0: 3.0}]) == (Point(0.0, 2.0, math.sqrt(2), 2), Point(1.0, 5.0, None, 1))


def test_what_is_no_number_is_left_out_of_a_mean() -> None:
    assert across([{0: math.nan, 1: 1.0}, {0: 3.0}]) == (Point(0.0, 3.0), Point(1.0, 1.0))


def test_a_line_has_no_empty_segments() -> None:
    assert line("train", "train", (), (Point(0, 1),), ()).segments == ((Point(0, 1),),)


@pytest.mark.parametrize(
    ("value", "digits", "text"), [(1234.5, 1, "1,234.5"), (-0.5, 1, "−0.5"), (-0.01, 1, "0.0"), (99.999, 2, "100.00")]
)
def test_numbers_as_they_are_read(value: float, digits: int, text: str) -> None:
    assert number(value, digits) == text


def test_ticks_are_told_apart_by_their_decimals() -> None:
    assert [step_digits(values) for values in ([0, 5], [0, 0.5], [0, 0.25], [7])] == [0, 1, 1, 0]
    assert step_digits([0, 0.05]) == 2


def test_units_leave_two_of_them_at_least_where_they_can() -> None:
    assert unit_of([0, 1999], BYTES) == (1.0, "bytes")
    assert unit_of([5e6, 3], BYTES) == (1e6, "MB")
    assert unit_of([119], SECONDS) == (1.0, "seconds")
    assert unit_of([120], SECONDS) == (60.0, "minutes")
    assert unit_of([], SECONDS) == (1.0, "seconds")
