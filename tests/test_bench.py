"""How work is timed: by a clock of its own, what is counted and what is not."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pipeline import bench
from pipeline.bench import Bench, Work
from pipeline.device import choose_device
from pipeline.outline import read_outline
from tests.configs import loaded


class Clock:
    """Seconds that pass only where they are said to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def passing(self, *seconds: float) -> Work:
        """Work that takes so long, one time after the other; to prepare it takes an hour."""
        times = iter(seconds)
        return Work(lambda: self.passes(next(times)), lambda: self.passes(3600.0))

    def passes(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(bench, "time", SimpleNamespace(perf_counter=lambda: made.seconds))
    return made


@pytest.fixture
def timing(tmp_path: Path) -> Bench:
    return Bench(read_outline(tmp_path, loaded(tmp_path)), choose_device("cpu"), torch.float32)


def test_work_takes_the_mean_of_its_runs_after_one_and_without_what_prepares_them(clock: Clock, timing: Bench) -> None:
    assert timing._seconds(clock.passing(50.0, 0.02, 0.06, 0.04)) == pytest.approx(0.04)


def test_work_is_repeated_for_a_tenth_of_a_second_at_least_twice_and_once_where_it_is_long(
    clock: Clock, timing: Bench
) -> None:
    assert timing._seconds(clock.passing(0.0, *[0.03] * 4)) == pytest.approx(0.03), "and a fifth time is not asked for"
    assert timing._seconds(clock.passing(0.0, 0.2, 0.4)) == pytest.approx(0.3)
    assert timing._seconds(clock.passing(0.0, 2.0)) == pytest.approx(2.0)


def test_seconds_of_a_sample_are_those_of_a_batch_that_is_not_too_long_over_its_samples(
    clock: Clock, timing: Bench
) -> None:
    counts: list[int] = []

    def of(count: int) -> Work:
        counts.append(count)
        return Work(lambda: clock.passes(0.01 * count))

    assert timing._per_sample(of, 128) == pytest.approx(0.01)
    assert counts == [8, 24], "a quarter of a second, in whole eights"
