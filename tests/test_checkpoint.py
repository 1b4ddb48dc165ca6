"""Checkpoints: the newest that is whole is taken, and none goes before the next is safe."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.checkpoint import Progress, StageState, load_checkpoint, read_position, save_checkpoint, sweep
from pipeline.device import choose_device
from pipeline.errors import CorruptDataError
from pipeline.learner import Learner, make_learner
from pipeline.metrics import metrics_lines
from pipeline.problem import stage_problem
from pipeline.progress import Reporter
from pipeline.record import Session
from pipeline.runfolder import RunFolder
from pipeline.weights import load_tensors, save_tensors
from tests.conftest import BadSector
from tests.runs import epoch_record, reopened, tiny_run

CPU = choose_device("cpu")
HERE = Session(machine={"torch": "2", "threads": 1}, epoch=0, consumed=0)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = tiny_run(tmp_path / "run")
    run.stages[0].path.mkdir(parents=True)
    return run


def state_after(epochs: int, consumed: int = 0) -> StageState:
    progress = Progress.fresh(CPU)
    progress.consumed = consumed
    for value in (progress.seen, progress.sound):
        value += consumed
    progress.loss += consumed / 7
    return StageState([epoch_record(epoch) for epoch in range(epochs)], progress, [HERE])


def save(run: RunFolder, learner: Learner, state: StageState) -> None:
    """Metrics, and a learner whose weights are the number of samples."""
    run.stages[0].metrics.write_bytes(metrics_lines(state.epochs))
    with torch.no_grad():
        for parameter in learner.block.parameters():
            parameter.fill_(27 * len(state.epochs) + state.under_way.consumed)
    save_checkpoint(run.stages[0], learner, state)


def load(run: RunFolder) -> tuple[Learner, StageState]:
    learner = make_learner(run, stage_problem(run, 0), CPU)
    return learner, load_checkpoint(run.stages[0], learner, Reporter(), batch_size=8, epoch_samples=24)


def flip(path: Path, place: int = -5) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize(("epochs", "consumed"), [(0, 8), (0, 24), (1, 0), (2, 16)])
def test_a_state_comes_back_as_it_was(run: RunFolder, epochs: int, consumed: int) -> None:
    save(run, make_learner(run, stage_problem(run, 0), CPU), state_after(epochs, consumed))
    learner, state = load(run)
    assert next(learner.block.parameters()).max() == 27 * epochs + consumed
    assert state.epochs == state_after(epochs).epochs
    assert state.sessions == [HERE]
    assert state.under_way.consumed == consumed
    for name, tensor in state_after(epochs, consumed).under_way.tensors().items():
        assert torch.equal(state.under_way.tensors()[name], tensor)


def test_a_stage_that_has_not_begun_has_no_position(run: RunFolder) -> None:
    _, state = load(run)
    assert (state.epochs, state.under_way.consumed, state.sessions) == ([], 0, [])
    assert read_position(run.stages[0]) is None


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    learner, folder = make_learner(run, stage_problem(run, 0), CPU), run.stages[0]
    for state in (state_after(0, 8), state_after(0, 16), state_after(1)):
        save(run, learner, state)
    flip(folder.checkpoint)
    again, state = load(run)
    assert (len(state.epochs), state.under_way.consumed) == (0, 16)
    assert next(again.block.parameters()).max() == 16
    err = capsys.readouterr().err
    assert f"{folder.checkpoint} is damaged" in err
    assert "going on from the checkpoint before it" in err
    save(run, again, state_after(0, 24))
    flip(folder.checkpoint)
    assert load(run)[1].under_way.consumed == 16, "the damaged one did not take the place of the good one"


def test_a_checkpoint_on_a_bad_sector_gives_way_to_the_one_before_it(run: RunFolder, bad_sector: BadSector) -> None:
    learner, folder = make_learner(run, stage_problem(run, 0), CPU), run.stages[0]
    for consumed in (8, 16):
        save(run, learner, state_after(0, consumed))
    bad_sector(folder.checkpoint)
    assert load(run)[1].under_way.consumed == 8
    assert not folder.checkpoint.exists()


def test_two_damaged_checkpoints_are_refused(run: RunFolder) -> None:
    learner, folder = make_learner(run, stage_problem(run, 0), CPU), run.stages[0]
    for consumed in (8, 16):
        save(run, learner, state_after(0, consumed))
    flip(folder.checkpoint)
    flip(folder.previous_checkpoint)
    for _ in range(2):
        with pytest.raises(CorruptDataError, match=r"checkpoint\..* is damaged.*\nnext: delete the folder"):
            load(run)
    assert folder.checkpoint.exists(), "nothing is removed where nothing is gained"


@pytest.mark.parametrize("failing", ["write", "fsync", "first rename", "second rename"])
def test_a_crash_anywhere_in_saving_leaves_the_state_before_or_after(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    learner = make_learner(run, stage_problem(run, 0), CPU)
    for consumed in (8, 16):
        save(run, learner, state_after(0, consumed))
    done, replace = 0, os.replace

    def breaks(*arguments: object) -> None:
        raise KeyboardInterrupt

    def replaced(source: Path, target: Path) -> None:
        nonlocal done
        done += 1
        if done == (1 if failing == "first rename" else 2):
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        if failing in ("write", "fsync"):
            patch.setattr(os, failing, breaks)
        else:
            patch.setattr(os, "replace", replaced)
        with pytest.raises(KeyboardInterrupt):
            save(run, learner, state_after(0, 24))
    position = read_position(run.stages[0])
    assert position is not None
    assert position.consumed == load(run)[1].under_way.consumed == 16
    save(run, learner, state_after(1))
    assert len(load(run)[1].epochs) == 1
    sweep(run.stages[0])
    assert [path.name for path in run.stages[0].path.iterdir()] == ["metrics.jsonl"]


def test_the_new_checkpoint_is_durable_before_the_old_one_moves_and_its_name_before_the_return(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, folder = make_learner(run, stage_problem(run, 0), CPU), run.stages[0]
    save(run, learner, state_after(0, 8))
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(descriptor: int) -> None:
        events.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def watched_replace(source: Path, target: Path) -> None:
        events.append(f"-> {target.name}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    save_checkpoint(folder, learner, state_after(0, 16))
    assert events == [
        ".checkpoint.safetensors.new",
        "-> checkpoint.previous.safetensors",
        "-> checkpoint.safetensors",
        folder.path.name,
    ]


def test_a_full_disk_keeps_both_checkpoints_and_nothing_of_the_third(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, folder = make_learner(run, stage_problem(run, 0), CPU), run.stages[0]
    for consumed in (8, 16):
        save(run, learner, state_after(0, consumed))
    before = {path.name: path.read_bytes() for path in folder.path.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space left"):
            save_checkpoint(folder, learner, state_after(0, 24))
    assert before == {path.name: path.read_bytes() for path in folder.path.iterdir()}


DAMAGE: dict[str, tuple[int, dict[str, Tensor]]] = {
    "no whole batch": (12, {}),
    "more than there is": (32, {}),
    "other sums": (16, {"epoch.seen": torch.tensor(8.0, dtype=torch.float64)}),
    "sums of another shape": (16, {"epoch.loss": torch.zeros(3, dtype=torch.float64)}),
    "momentum of another shape": (16, {"momentum.block.conv.weight": torch.zeros(3)}),
    "no sums": (0, {}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_checkpoint_whose_parts_do_not_fit_is_refused(run: RunFolder, damage: str) -> None:
    folder, (consumed, changed) = run.stages[0], DAMAGE[damage]
    save(run, make_learner(run, stage_problem(run, 0), CPU), state_after(0, consumed or 16))
    tensors, metadata = load_tensors(folder.checkpoint)
    if not consumed:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("epoch.")}
    save_tensors(folder.checkpoint, {**tensors, **changed}, metadata)
    with pytest.raises(CorruptDataError, match="and train the stage again"):
        load(run)


def test_metrics_that_are_not_the_checkpoints_are_refused(run: RunFolder) -> None:
    folder = run.stages[0]
    save(run, make_learner(run, stage_problem(run, 0), CPU), state_after(2))
    whole = folder.metrics.read_bytes()
    shorter, other = whole.splitlines(keepends=True)[0], metrics_lines([epoch_record(0), epoch_record(2)])
    for damaged in (shorter, b"", whole[:-9], b"{}\n", other, whole.replace(b"50.0", b"90.0")):
        folder.metrics.write_bytes(damaged)
        with pytest.raises(CorruptDataError, match=r"\nnext: delete .* and train the stage again"):
            load(run)
    folder.metrics.write_bytes(whole + metrics_lines([epoch_record(2)]))
    assert load(run)[1].epochs == state_after(2).epochs, "a line ahead of the checkpoint is cut back"


def test_a_checkpoint_of_other_settings_is_refused(run: RunFolder) -> None:
    save(run, make_learner(run, stage_problem(run, 0), CPU), state_after(1, 8))
    other = reopened(run.path, "train.lr=0.05")
    shutil.copytree(run.stages[0].path, other.stages[0].path)
    with pytest.raises(CorruptDataError, match="do not belong together, or not to this stage"):
        load(other)
