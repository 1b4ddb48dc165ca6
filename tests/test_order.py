"""The order of samples: every sample once an epoch, mixed within bounded windows, a pure function of its arguments."""

import hashlib
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cache import Window
from pipeline.order import sequential_windows, training_windows

SIZES = [1, 2, 7, 8, 9, 31, 32, 33, 100]


def windows(samples: int = 100, **changed: int) -> list[Window]:
    usual = {"run": 8, "window": 32, "views": 1, "seed": 0, "stage": 0, "epoch": 0}
    return list(training_windows(samples, **(usual | changed)))


def rows(drawn: list[Window]) -> NDArray[np.int64]:
    return np.concatenate([window.rows for window in drawn])


def pairs(drawn: list[Window]) -> list[tuple[int, int]]:
    """(row, view) as drawn."""
    views = np.concatenate([window.views for window in drawn])
    return list(zip(rows(drawn).tolist(), views.tolist(), strict=True))


@pytest.mark.parametrize("samples", SIZES)
@pytest.mark.parametrize(("run", "window"), [(8, 32), (8, 8), (1, 1), (1, 5), (64, 128)])
def test_every_sample_comes_exactly_once_an_epoch(samples: int, run: int, window: int) -> None:
    drawn = windows(samples, run=run, window=window)
    np.testing.assert_array_equal(np.sort(rows(drawn)), np.arange(samples))


@pytest.mark.parametrize("samples", SIZES)
def test_no_window_holds_more_samples_than_allowed(samples: int) -> None:
    drawn = [*windows(samples), *sequential_windows(samples, run=8, window=32)]
    assert all(len(window.draw) <= 32 for window in drawn)
    assert all(run.count <= 8 and run.first % 8 == 0 for window in drawn for run in window.runs)
    assert all(len(window.draw) == 32 for window in windows(samples)[:-1] if samples % 8 == 0)


def test_seed_stage_and_epoch_each_change_the_order_of_runs_and_within_windows() -> None:
    orders = [windows(seed=s, stage=j, epoch=e) for s, j, e in product((0, 1), (0, 1), (0, 1))]
    assert len({tuple(rows(drawn)) for drawn in orders}) == 8
    assert len({tuple(run.first for window in drawn for run in window.runs) for drawn in orders}) == 8
    assert len({tuple(drawn[0].draw) for drawn in orders}) == 8


def test_samples_of_a_window_are_mixed_across_its_runs() -> None:
    for window in windows(samples=96):
        neighbours = np.diff(window.rows)
        assert (np.abs(neighbours) >= 8).sum() > 10
        assert (neighbours == 1).sum() < 8


def test_order_is_the_same_whenever_and_beside_whatever_it_is_asked_for() -> None:
    first = training_windows(100, run=8, window=32, views=3, seed=1, stage=2, epoch=3)
    other = training_windows(50, run=4, window=8, views=2, seed=1, stage=2, epoch=4)
    interleaved = []
    for window in first:
        interleaved.append(window)
        next(other, None)
    assert pairs(interleaved) == pairs(windows(views=3, seed=1, stage=2, epoch=3))


def test_order_is_this_one_in_every_release() -> None:
    digest = hashlib.sha256()
    for samples, stage, epoch in product((1, 100, 1000), (0, 3), (0, 7)):
        for row, view in pairs(windows(samples, views=4, seed=5, stage=stage, epoch=epoch)):
            digest.update(f"{row} {view}\n".encode())
    assert digest.hexdigest() == "1c3c7e3fee0d9c0f62b974649c75a0ad97c2b8b32582675b785180bbed6a2311"
    assert rows(windows(12, run=4, window=8)).tolist() == [8, 1, 11, 9, 10, 2, 0, 3, 7, 6, 5, 4]


@pytest.mark.parametrize("views", [1, 2, 4, 5])
@pytest.mark.parametrize("start", [0, 3])
def test_after_as_many_epochs_as_views_each_view_of_each_sample_was_seen_once(views: int, start: int) -> None:
    seen = [pair for epoch in range(start, start + views) for pair in pairs(windows(50, views=views, epoch=epoch))]
    assert sorted(seen) == list(product(range(50), range(views)))


def test_the_samples_of_a_run_share_a_view_and_runs_differ_in_theirs() -> None:
    drawn = windows(samples=400, views=4)
    views = [run.view for window in drawn for run in window.runs]
    assert len(views) == 50
    assert np.bincount(views, minlength=4).min() >= 4
    for row, view in pairs(drawn):
        assert view == next(run.view for window in drawn for run in window.runs if 0 <= row - run.first < run.count)


@pytest.mark.parametrize("samples", SIZES)
def test_sequential_order_is_the_stored_one(samples: int) -> None:
    drawn = list(sequential_windows(samples, run=8, window=32, view=2))
    assert pairs(drawn) == [(row, 2) for row in range(samples)]


def test_number_of_views_does_not_change_which_samples_come_when() -> None:
    assert rows(windows(views=1)).tolist() == rows(windows(views=4)).tolist()


def test_size_of_the_window_does_not_change_the_order_of_runs() -> None:
    def firsts(**changed: Any) -> list[int]:
        return [run.first for window in windows(**changed) for run in window.runs]

    assert firsts(window=8) == firsts(window=32) == firsts(window=1024)
