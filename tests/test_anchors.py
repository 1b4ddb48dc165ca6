"""The cheapest set of stores, against all sets."""

import time
from itertools import combinations

import numpy as np
import pytest

from pipeline.anchors import Choices, Route, route_of, shortest_route


def random_choices(seed: int, stages: int) -> Choices:
    """Costs without any pattern, and stores of all sizes."""
    random = np.random.default_rng(seed)
    return Choices(
        train_seconds=random.exponential(size=(stages, stages)),
        write_seconds=random.exponential(0.3, size=(stages, stages)),
        store_bytes=random.integers(1, 100, stages),
        may_store=random.random(stages) < 0.9,
    )


def simulated(choices: Choices, stores: tuple[int, ...], budget: int) -> tuple[float, int]:
    """Seconds, and bytes on disk at their peak, of a run that keeps these stores, stage by stage."""
    together = int(choices.store_bytes[0]) + sum(int(choices.store_bytes[i]) for i in stores)
    there, seconds, peak = {0}, 0.0, int(choices.store_bytes[0])
    for j in range(choices.stages):
        anchor = max(there)
        seconds += choices.train_seconds[anchor, j]
        if j + 1 in stores:
            seconds += choices.write_seconds[anchor, j + 1]
            there.add(j + 1)
            peak = max(peak, sum(int(choices.store_bytes[i]) for i in there))
            if together > budget:
                there -= {anchor} - {0}
    return seconds, peak


def best_of_all(choices: Choices, budget: int) -> float | None:
    """Least seconds of all subsets of stores that stay within the budget; None where not even the images do."""
    allowed = [i for i in range(1, choices.stages) if choices.may_store[i]]
    subsets = [stores for count in range(len(allowed) + 1) for stores in combinations(allowed, count)]
    outcomes = [simulated(choices, stores, budget) for stores in subsets]
    return min((seconds for seconds, peak in outcomes if peak <= budget), default=None)


@pytest.mark.parametrize("seed", range(60))
def test_no_set_of_stores_is_faster_within_the_budget(seed: int) -> None:
    choices = random_choices(seed, stages=1 + seed % 8)
    for budget in np.random.default_rng(seed).integers(0, 300, 6).tolist():
        route, best = shortest_route(choices, budget), best_of_all(choices, budget)
        assert (route is None) == (best is None)
        if route is not None and best is not None:
            assert route.seconds == pytest.approx(best)
            assert (route.seconds, route.peak_bytes) == pytest.approx(simulated(choices, route.anchors[1:], budget))
            assert route.peak_bytes <= budget
            assert all(choices.may_store[i] for i in route.anchors[1:])


@pytest.mark.parametrize("seed", range(20))
def test_the_price_of_a_given_set_is_that_of_its_run(seed: int) -> None:
    choices = random_choices(seed, stages=6)
    stores = tuple(np.flatnonzero(np.random.default_rng(seed).random(6) < 0.5).tolist())
    anchors = (0, *(i for i in stores if i))
    for budget in (50, 200, 1000):
        route = route_of(choices, anchors, budget)
        assert (route.seconds, route.peak_bytes) == pytest.approx(simulated(choices, anchors[1:], budget))


def flat_choices(sizes: list[int], *, slow: float = 10.0) -> Choices:
    """Replaying any block takes `slow` seconds, nothing else takes any."""
    stages = len(sizes)
    replayed = slow * np.maximum(np.arange(stages)[None] - np.arange(stages)[:, None], 0)
    return Choices(
        train_seconds=replayed,
        write_seconds=np.zeros((stages, stages)),
        store_bytes=np.array(sizes),
        may_store=np.ones(stages, bool),
    )


def test_where_everything_fits_everything_worth_it_is_stored_and_nothing_deleted() -> None:
    route = shortest_route(flat_choices([5, 10, 10, 10]), budget_bytes=35)
    assert route == Route((0, 1, 2, 3), 0.0, 35, frees=False)
    assert [route.last_reader(i) for i in (0, 1, 2, 3)] == [None] * 4


def test_a_byte_less_and_each_store_goes_when_the_next_is_written() -> None:
    route = shortest_route(flat_choices([5, 10, 10, 10]), budget_bytes=34)
    assert route == Route((0, 1, 2, 3), 0.0, 25, frees=True)
    assert [route.last_reader(i) for i in (0, 1, 2, 3)] == [None, 1, 2, None]


def test_two_neighbours_that_do_not_fit_side_by_side_are_not_both_stored() -> None:
    route = shortest_route(flat_choices([5, 10, 10, 4]), budget_bytes=24)
    assert route is not None
    assert route.anchors == (0, 1, 3)
    assert [route.anchor(j) for j in range(4)] == [0, 1, 1, 3]


def test_where_no_store_fits_all_is_recomputed_from_the_images() -> None:
    assert shortest_route(flat_choices([5, 10, 10, 10]), budget_bytes=14) == Route((0,), 60.0, 5, frees=False)


def test_where_the_images_do_not_fit_there_is_no_route() -> None:
    assert shortest_route(flat_choices([5, 1, 1]), budget_bytes=4) is None


def test_what_the_policy_forbids_is_no_anchor() -> None:
    choices = flat_choices([1, 1, 1, 1])
    choices.may_store[1:] = False
    assert shortest_route(choices, 100) == Route((0,), 60.0, 1, frees=False)


def test_a_thousand_blocks_are_planned_in_a_second() -> None:
    choices = random_choices(0, stages=1000)
    began = time.process_time()
    assert shortest_route(choices, 150) is not None
    assert time.process_time() - began < 1
