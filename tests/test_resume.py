"""Checkpoints: a stage that was interrupted ends as if it had not been, and what is damaged is refused."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor

from pipeline import training
from pipeline.device import choose_device
from pipeline.errors import CascadeError, CorruptDataError
from pipeline.learner import Learner, make_learner
from pipeline.metrics import EpochRecord
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.training import train_stage
from pipeline.weights import load_tensors, save_tensors
from tests.runs import bytes_of, digits_run, reopened

CPU = choose_device("cpu")


def metrics(run: RunFolder, j: int) -> list[EpochRecord]:
    lines = run.stages[j].metrics.read_bytes().splitlines()
    return [msgspec.json.decode(line, type=EpochRecord) for line in lines]


@pytest.mark.parametrize("killed_in_epoch", [0, 1, 2, 3])
def test_an_interrupted_stage_goes_on_at_its_epoch_and_ends_in_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_in_epoch: int
) -> None:
    settings = ["train.epochs=4", "train.lr_drop_every=2"]
    whole = digits_run(tmp_path / "whole", *settings)
    train_stage(whole, 0, CPU, Reporter())

    broken = digits_run(tmp_path / "broken", *settings)
    epoch = training._epoch

    def interrupted(run, feed, learner, number, lr, progress, report):  # type: ignore[no-untyped-def]
        if number == killed_in_epoch:
            raise KeyboardInterrupt
        return epoch(run, feed, learner, number, lr, progress, report)

    with monkeypatch.context() as patch:
        patch.setattr(training, "_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_stage(broken, 0, CPU, Reporter())
    assert broken.stages[0].checkpoint.exists() == (killed_in_epoch > 0)
    train_stage(reopened(broken.path), 0, CPU, Reporter())

    assert bytes_of(whole, 0) == bytes_of(broken, 0)
    same = [(line.epoch, line.train_loss, line.train_accuracy, line.validation_accuracy) for line in metrics(whole, 0)]
    assert same == [(m.epoch, m.train_loss, m.train_accuracy, m.validation_accuracy) for m in metrics(broken, 0)]


@pytest.mark.parametrize("step", [1, 7, 20, 21, 33, 41])
@pytest.mark.parametrize("j", [0, 1])
def test_a_stage_interrupted_within_an_epoch_goes_on_at_its_last_checkpoint_and_ends_in_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, j: int
) -> None:
    whole, broken = digits_run(tmp_path / "whole"), digits_run(tmp_path / "broken", "machine.checkpoint_minutes=0")
    for i in range(j + 1):
        train_stage(whole, i, CPU, Reporter())
    for i in range(j):
        train_stage(broken, i, CPU, Reporter())
    steps = 0

    def interrupted(logits, y):  # type: ignore[no-untyped-def]
        nonlocal steps
        steps += 1
        if steps > step:
            raise KeyboardInterrupt
        return torch.nn.functional.cross_entropy(logits, y)

    with monkeypatch.context() as patch:
        patch.setattr(training, "cross_entropy", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_stage(broken, j, CPU, Reporter())
        steps = -(10**9)
        checkpoint = load_tensors(broken.stages[j].checkpoint)[1]
        assert int(checkpoint["epochs"]) * 21 + int(checkpoint["consumed"]) // 64 == step
        train_stage(reopened(broken.path), j, CPU, Reporter())
    assert steps + 10**9 == 42 - step, "no step was made twice"
    assert bytes_of(whole, j) == bytes_of(broken, j)
    same = [(line.epoch, line.train_loss, line.train_accuracy, line.validation_accuracy) for line in metrics(whole, j)]
    assert same == [(m.epoch, m.train_loss, m.train_accuracy, m.validation_accuracy) for m in metrics(broken, j)]


def test_momentum_is_part_of_the_checkpoint(tmp_path: Path) -> None:
    run = digits_run(tmp_path / "run")
    learner, again = make_learner(run, 0, CPU), make_learner(run, 0, CPU)
    x, y = torch.randn(8, 1, 8, 8), torch.arange(8)
    torch.nn.functional.cross_entropy(learner.logits(x), y).backward()  # type: ignore[no-untyped-call]
    learner.optimiser.step()
    again.restore(learner.tensors(), run.stages[0].checkpoint)
    for ours, theirs in zip(
        learner.optimiser.param_groups[0]["params"], again.optimiser.param_groups[0]["params"], strict=True
    ):
        assert torch.equal(ours, theirs)
        assert torch.equal(
            learner.optimiser.state[ours]["momentum_buffer"], again.optimiser.state[theirs]["momentum_buffer"]
        )


def test_metrics_shorter_than_the_checkpoint_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = digits_run(tmp_path / "run", "train.epochs=3")
    with monkeypatch.context() as patch:
        patch.setattr(training, "_finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train_stage(run, 0, CPU, Reporter())
    folder = run.stages[0]
    whole = folder.metrics.read_bytes()
    for damaged in (whole.splitlines(keepends=True)[0], b"", whole[:-9], b"{}\n"):
        folder.metrics.write_bytes(damaged)
        with pytest.raises(CorruptDataError, match=r"\nnext: delete .* and train the stage again"):
            train_stage(run, 0, CPU, Reporter())
    folder.metrics.write_bytes(whole)
    train_stage(run, 0, CPU, Reporter())
    assert [line.epoch for line in metrics(run, 0)] == [0, 1, 2]


@pytest.mark.parametrize("what", ["block.norm.running_var", "head.linear.weight", "momentum.block.conv.weight"])
def test_weights_that_are_no_numbers_are_not_kept_though_the_loss_still_was_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    run = digits_run(tmp_path / "run")
    tensors = Learner.tensors

    def poisoned(learner: Learner) -> dict[str, torch.Tensor]:
        found = tensors(learner)
        return {**found, what: torch.full_like(found[what], torch.nan)}

    monkeypatch.setattr(Learner, "tensors", poisoned)
    with pytest.raises(
        CascadeError, match="epoch 1: the weights are no longer finite; nothing since the last checkpoint was kept"
    ):
        train_stage(run, 0, CPU, Reporter())
    assert not run.stages[0].checkpoint.exists()


DAMAGE: dict[str, tuple[dict[str, str], dict[str, Tensor]]] = {
    "no whole batch": ({"consumed": "100"}, {}),
    "more than there is": ({"consumed": "6400"}, {}),
    "other sums": ({}, {"epoch.seen": torch.zeros((), dtype=torch.float64)}),
    "sums of another shape": ({}, {"epoch.loss": torch.zeros(3, dtype=torch.float64)}),
    "momentum of another shape": ({}, {"momentum.block.conv.weight": torch.zeros(3)}),
    "a part of an epoch without its sums": ({"epochs": "1", "consumed": "0"}, {}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    run = digits_run(tmp_path / "run", "machine.checkpoint_minutes=0")
    step, steps = training.train_step, 0

    def interrupted(*arguments: Any) -> None:
        nonlocal steps
        steps += 1
        if steps > 5:
            raise KeyboardInterrupt
        step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(training, "train_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_stage(run, 0, CPU, Reporter())
    checkpoint = run.stages[0].checkpoint
    tensors, metadata = load_tensors(checkpoint)
    changed_metadata, changed_tensors = DAMAGE[damage]
    save_tensors(checkpoint, {**tensors, **changed_tensors}, {**metadata, **changed_metadata})
    with pytest.raises(CorruptDataError, match="and train the stage again"):
        train_stage(run, 0, CPU, Reporter())


def test_a_checkpoint_within_an_epoch_takes_no_weights_in_that_are_no_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = digits_run(tmp_path / "run", "machine.checkpoint_minutes=0")
    step, steps = training.train_step, 0

    def poisoned(learner, x, y, dtype, progress):  # type: ignore[no-untyped-def]
        nonlocal steps
        steps += 1
        step(learner, x * torch.nan if steps == 5 else x, y, dtype, progress)

    monkeypatch.setattr(training, "train_step", poisoned)
    with pytest.raises(CascadeError, match="epoch 1: the loss is nan; nothing since the last checkpoint was kept"):
        train_stage(run, 0, CPU, Reporter())
    tensors, metadata = load_tensors(run.stages[0].checkpoint)
    assert int(metadata["consumed"]) == 4 * 64
    assert all(tensor.isfinite().all() for tensor in tensors.values())
