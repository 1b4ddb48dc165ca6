"""Means and intervals over seeds, against scipy's own t test and a table of Student's t."""

import numpy as np
import pytest
from scipy import stats

from pipeline.experiments.statistics import interval_of, mean_of


def test_a_mean_carries_the_deviation_of_a_sample_and_n() -> None:
    found = mean_of([1.0, 2.0, 6.0])
    assert (found.mean, found.n) == (3.0, 3)
    assert found.deviation == pytest.approx(np.std([1, 2, 6], ddof=1))
    assert str(found) == "3.00 ± 2.65"


def test_one_number_has_no_deviation_and_no_interval() -> None:
    assert mean_of([4.0]).deviation is None
    assert str(mean_of([4.0])) == "4.00"
    assert interval_of([4.0]) is None


def test_an_interval_is_the_one_of_a_paired_t_test() -> None:
    a, b = np.random.default_rng(0).normal(90, 1, (2, 5))
    found, expected = interval_of((b - a).tolist()), stats.ttest_rel(b, a).confidence_interval(0.95)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_two_pairs_take_the_tables_quantile() -> None:
    found = interval_of([0.0, 2.0])
    assert found is not None
    assert found.high - 1 == pytest.approx(12.706, abs=1e-3)  # sqrt(2) / sqrt(2) times t of one degree of freedom
    assert found.holds_zero


def test_differences_that_are_all_the_same_are_no_noise() -> None:
    found = interval_of([0.5, 0.5, 0.5])
    assert found is not None
    assert not found.holds_zero
