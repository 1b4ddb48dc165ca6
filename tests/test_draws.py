"""Randomness: a pure function of (seed, purpose, indices), with numbers that no release may change."""

from itertools import combinations

import numpy as np
import pytest

from pipeline.draws import Purpose, below, draw, permutation


def reference(*words: int) -> int:
    """The same hash in Python's integers."""
    state = 0
    for word in words:
        state = splitmix(state ^ word)
    return state


def splitmix(x: int) -> int:
    mask = 2**64 - 1
    x = (x + 0x9E3779B97F4A7C15) & mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


def test_draws_are_these_numbers_in_every_release() -> None:
    assert draw(0, Purpose.INGEST_ORDER, np.arange(3)).tolist() == [
        4964578127960768432,
        5067554077270220563,
        6768782832058643234,
    ]
    assert draw(2**63 - 1, Purpose.STORED_VIEW, 1, 2, 3).tolist() == [1300987169159531275]
    assert permutation(10, 0, Purpose.RUN_ORDER, 1, 2).tolist() == [5, 6, 9, 2, 1, 7, 3, 8, 4, 0]
    assert below(100, draw(1, Purpose.RUN_VIEW, np.arange(6))).tolist() == [1, 71, 90, 88, 99, 53]


def test_purposes_keep_their_numbers_in_every_release() -> None:
    assert {purpose.name: purpose.value for purpose in Purpose} == {
        "INGEST_ORDER": 1,
        "HOLD_OUT": 2,
        "WEIGHTS": 3,
        "RUN_ORDER": 4,
        "SAMPLE_ORDER": 5,
        "RUN_VIEW": 6,
        "FRESH_AUGMENTATION": 7,
        "STORED_VIEW": 8,
        "CANVAS_WINDOW": 9,
        "VERIFY": 10,
        "TRANSFER_SPLIT": 11,
    }


def test_splitmix_is_the_published_one() -> None:
    assert splitmix(0) == 0xE220A8397B1DCDAF  # first output of SplitMix64 with seed 0 (Vigna's splitmix64.c)


@pytest.mark.parametrize("words", [(0, 1), (5, 3, 0), (2**63 - 1, 8, 7, 2**62, 0)])
def test_a_draw_is_the_hash_of_its_words(words: tuple[int, ...]) -> None:
    seed, purpose, *indices = words
    assert draw(seed, Purpose(purpose), *indices).tolist() == [reference(*words)]


def test_indices_broadcast_and_each_number_is_the_one_drawn_alone() -> None:
    grid = draw(3, Purpose.SAMPLE_ORDER, 9, np.arange(4)[:, None], np.arange(5))
    assert grid.shape == (4, 5)
    for i in range(4):
        for k in range(5):
            assert grid[i, k] == draw(3, Purpose.SAMPLE_ORDER, 9, i, k)[0]


def test_type_and_byte_order_of_an_index_change_nothing() -> None:
    numbers = draw(0, Purpose.WEIGHTS, np.arange(5))
    for dtype in ("uint8", "int32", ">i8", "uint64"):
        np.testing.assert_array_equal(draw(0, Purpose.WEIGHTS, np.arange(5).astype(dtype)), numbers)


def test_seeds_purposes_and_indices_differ_everywhere() -> None:
    streams = [draw(seed, purpose, np.arange(100)) for seed in (0, 1, 2**63 - 1) for purpose in Purpose]
    streams += [draw(0, Purpose.WEIGHTS, index, np.arange(10, 110)) for index in (0, 1)]
    streams += [draw(0, Purpose.WEIGHTS, np.arange(10, 110), index) for index in (0, 1)]
    for one, other in combinations(streams, 2):
        assert not np.intersect1d(one, other).size


def test_streams_of_neighbouring_seeds_purposes_and_indices_do_not_correlate() -> None:
    streams = [draw(seed, purpose, np.arange(4000)) for seed in range(4) for purpose in Purpose]
    correlation = np.corrcoef(np.stack(streams) / 2.0**64) - np.eye(len(streams))
    assert np.abs(correlation).max() < 5 / np.sqrt(4000)


@pytest.mark.parametrize("n", [1, 2, 17, 1000])
def test_a_permutation_holds_each_number_once(n: int) -> None:
    order = permutation(n, 7, Purpose.INGEST_ORDER, 3)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(np.sort(order), np.arange(n))


def test_every_element_comes_to_every_place_about_equally_often() -> None:
    trials = 6000
    places = np.stack([permutation(6, seed, Purpose.INGEST_ORDER) for seed in range(trials)])
    counts = np.stack([np.bincount(places[:, place], minlength=6) for place in range(6)])
    assert np.abs(counts - trials / 6).max() < 5 * np.sqrt(trials / 6)


@pytest.mark.parametrize("bound", [1, 2, 3, 7, 9, 33])
def test_draws_below_a_bound_are_even(bound: int) -> None:
    trials = 30_000
    numbers = below(bound, draw(0, Purpose.FRESH_AUGMENTATION, np.arange(trials)))
    counts = np.bincount(numbers, minlength=bound)
    assert len(counts) == bound
    assert np.abs(counts - trials / bound).max() < 5 * np.sqrt(trials / bound)


def test_the_extreme_draws_stay_below_the_bound() -> None:
    extremes = np.array([0, 2**64 - 1], np.uint64)
    assert below(10, extremes).tolist() == [0, 9]
    assert below(2**32, extremes).tolist() == [0, 2**32 - 1]
