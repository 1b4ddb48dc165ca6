"""What a stage takes beside its samples, taken apart."""

from pathlib import Path

import pytest

from cache import TRIAL
from pipeline import trial
from pipeline.config_file import load_config
from pipeline.presets import write_preset
from pipeline.trial import fixed_seconds
from tests.runs import SMALL
from tests.trained import CPU


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    write_preset("digits", tmp_path / "run", SMALL)
    return tmp_path / "run"


def test_costs_come_back_from_the_seconds_that_they_make(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock stands still, but for what each stage is said to take."""
    times = trial._times

    def priced(*arguments: object) -> list[tuple[float, ...]]:
        rows = times(*arguments)  # type: ignore[arg-type]
        return [(*counts, counts[0] * 8 + counts[1] * 4 + counts[2] * 2 + counts[3]) for *counts, _ in rows]

    monkeypatch.setattr(trial, "_times", priced)
    found = fixed_seconds(empty, load_config(empty), CPU)
    assert (found.stage, found.block, found.epoch, found.store) == pytest.approx((8, 4, 2, 1))


def test_of_each_stage_what_it_pays_is_counted_as_the_plan_counts_it(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, times = list[list[tuple[float, ...]]](), trial._times

    def watched(*arguments: object) -> list[tuple[float, ...]]:
        seen.append(times(*arguments))  # type: ignore[arg-type]
        return seen[-1]

    monkeypatch.setattr(trial, "_times", watched)
    monkeypatch.setattr(trial, "ROUNDS", 1)
    fixed_seconds(empty, load_config(empty), CPU)
    _, recomputed, cached = ([row[:-1] for row in rows] for rows in seen)
    own = [trial.EPOCHS if j == 1 else 1 for j in range(trial.TRAINED)]
    assert recomputed == [(1, 2 * j + 1, own[j], False) for j in range(trial.TRAINED)], "its prefix, and for its scale"
    assert cached == [(1, j + 1, own[j], True) for j in range(trial.TRAINED)]


def test_a_trial_takes_some_time_and_leaves_nothing(empty: Path) -> None:
    (empty / TRIAL / "run").mkdir(parents=True)  # of one that was interrupted
    found = fixed_seconds(empty, load_config(empty, ["data.validation=0"]), CPU)
    assert found.stage + found.epoch > 0
    assert [file.name for file in empty.iterdir()] == ["cascade.toml"]
