"""`cascade plan --measure`: what real steps take corrects the predicted peak, of whoever asks from then on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import measured_steps
from pipeline.config_file import load_config
from pipeline.device import choose_device
from pipeline.ledger import Program
from pipeline.measured_steps import measure_steps
from pipeline.ondevice import OnDevice, choose_for, choose_on_device
from pipeline.outline import Outline
from pipeline.peak import predicted_step, stage_work
from pipeline.problem import stage_problem
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.stepmemory import STEPS, read_steps
from tests.conftest import Outcome
from tests.test_ondevice import budget_of, outline, peak
from tests.trained import whole

__all__ = ["whole"]
CPU = choose_device("cpu")


def measured(folder: Path, found: Outline, *stages: int) -> Outline:
    return measure_steps(folder, found, stages or (1,), CPU, Reporter())


def chosen(found: Outline) -> OnDevice:
    return choose_on_device(found, 1, anchor=1, device=CPU)


def taking(monkeypatch: pytest.MonkeyPatch, nbytes: Callable[[int], int]) -> list[int]:
    """Steps that take what is said of their number of samples; those that were run."""
    asked: list[int] = []

    def took(_: Program, samples: int, device: torch.device) -> int:
        asked.append(samples)
        return nbytes(samples)

    monkeypatch.setattr(measured_steps, "measured_peak", took)
    return asked


def step_bytes(found: Outline, micro_batch: int) -> int:
    work = stage_work(found, 1, anchor=1, device_type="cpu", dtype=torch.bfloat16)
    return predicted_step(work, micro_batch)


def test_a_real_step_on_a_cpu_takes_what_is_predicted(tmp_path: Path) -> None:
    before = outline(tmp_path, "budget.device=1 TB", "machine.recompute=never")
    after = measured(tmp_path, before, 0, 1, 2)
    assert [one.micro_batch for one in after.steps.steps] == [64, 64], "stages 1 and 2 are of one shape"
    for one in after.steps.steps:
        assert abs(one.beside_bytes) < 0.03 * one.predicted_bytes
    assert read_steps(tmp_path) == after.steps


def test_what_a_step_takes_beside_belongs_to_the_peak_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = outline(tmp_path, "budget.device=1 TB", "machine.recompute=never")
    measured(tmp_path, before)
    taking(monkeypatch, lambda samples: step_bytes(before, samples) + 10_000_000)
    now, then = chosen(measured(tmp_path, before)), chosen(before)
    assert (now.beside_bytes, then.beside_bytes) == (10_000_000, None)
    assert (now.peak_bytes or 0) - (then.peak_bytes or 0) == 10_000_000


def test_a_step_that_takes_more_than_there_is_makes_the_parts_smaller_and_theirs_is_run_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tight = outline(tmp_path, budget_of(peak(tmp_path, "machine.micro_batch=64")), "machine.recompute=never")
    asked = taking(monkeypatch, lambda samples: step_bytes(tight, samples) + 1_000_000 * (samples == 64))
    after = measured(tmp_path, tight)
    assert asked == [64, 32]
    assert (chosen(tight).micro_batch, chosen(after).micro_batch, chosen(after).beside_bytes) == (64, 32, 0)


def test_a_step_that_the_device_has_no_room_for_is_not_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tight = outline(tmp_path, budget_of(peak(tmp_path, "machine.micro_batch=64")), "machine.recompute=never")

    def refused(samples: int) -> int:
        if samples == 64:
            raise torch.OutOfMemoryError
        return step_bytes(tight, samples)

    taking(monkeypatch, refused)
    assert chosen(measured(tmp_path, tight)).micro_batch == 32


def test_a_micro_batch_that_was_not_run_is_held_to_take_what_the_nearest_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def within(micro_batch: int, **changes: Any) -> Outline:
        settings = (f"machine.micro_batch={micro_batch}", "budget.device=1 TB", "machine.recompute=never")
        return replace(outline(tmp_path, *settings), **changes)

    taking(monkeypatch, lambda samples: step_bytes(within(64), samples) + 2_000_000 // samples)
    steps = measured(tmp_path, measured(tmp_path, within(64))).steps
    steps = measured(tmp_path, within(16, steps=steps)).steps
    corrected = (chosen(within(32, steps=steps)).peak_bytes or 0) - (chosen(within(32)).peak_bytes or 0)
    assert corrected in (2_000_000 // 64, 2_000_000 // 16)
    assert chosen(within(32, steps=steps)).beside_bytes is None, "it is a guess"


def test_another_machine_has_steps_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = outline(tmp_path, "budget.device=1 TB")
    taking(monkeypatch, lambda samples: 10**9)
    after = measured(tmp_path, before)
    monkeypatch.setattr("pipeline.corrected.machine_record", lambda *_: {"device": "another"})
    assert chosen(after) == chosen(before)


def test_nothing_is_measured_where_nothing_limits_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = taking(monkeypatch, lambda samples: 0)
    measured(tmp_path, outline(tmp_path))
    assert (asked, (tmp_path / STEPS).exists()) == ([], False)


def test_a_training_takes_the_parts_that_a_measured_plan_chose(
    whole: RunFolder, cascade: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measured_steps, "measured_peak", lambda *_: 10**8)
    budget = ("--run", whole.path, "--device", "cpu", "--device-memory", "60 MB", "--set", "seed=1")
    code, _, err = cascade("plan", *budget)
    assert code == 0
    code, out, err = cascade("plan", *budget, "--measure")
    assert (code, "device memory" in err) == (6, True), "no part of a batch fits beside so much"
    monkeypatch.setattr(measured_steps, "measured_peak", lambda *_: 10**6)
    code, out, err = cascade("plan", *budget, "--measure")
    assert code == 0
    assert "device peaks are corrected by real steps: stage 0 " in out
    assert "a real step on " in err
    run = RunFolder(whole.path, load_config(whole.path, ["budget.device=60 MB"]))
    found = choose_for(run, stage_problem(run, 0), anchor=0, device=CPU)
    assert found.beside_bytes == 10**6 - read_steps(whole.path).steps[-1].predicted_bytes
