"""A stage that was interrupted, stopped or killed ends as if it had not been."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cache import StoreWriter
from pipeline import fit
from pipeline.checkpoint import read_position, sweep
from pipeline.device import choose_device, machine_record
from pipeline.errors import RefusedError, Stopped
from pipeline.learner import make_learner
from pipeline.metrics import EpochRecord, read_metrics
from pipeline.problem import stage_problem
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.sieve import Sieve
from pipeline.stage_folder import StageFolder
from pipeline.step import train_step
from pipeline.training import train_stage
from pipeline.weights import load_tensors
from tests.conftest import Outcome
from tests.runs import bytes_of, copied, reopened, tiny_run

CPU = choose_device("cpu")
STEPS = 3
"""In an epoch, of two."""


class Killed(BaseException):
    """What nothing in the program catches."""


@pytest.fixture(scope="module", params=[0, 1])
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, int]:
    """A run folder in which a stage comes next, and the stage."""
    run = tiny_run(tmp_path_factory.mktemp("begun") / "run", "machine.checkpoint_minutes=1000")
    for i in range(request.param):
        train_stage(run, i, CPU, Reporter())
    return run, request.param


@pytest.fixture
def last_states(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """Weights, buffers and momentum of each stage as it ends."""
    states: list[dict[str, Tensor]] = []

    def swept(folder: StageFolder) -> None:
        states.append(load_tensors(folder.checkpoint)[0])
        sweep(folder)

    monkeypatch.setattr(fit, "sweep", swept)
    return states


def without_times(records: list[EpochRecord]) -> list[tuple[Any, ...]]:
    return [(r.epoch, r.lr, r.train_loss, r.train_accuracy, r.validation_accuracy) for r in records]


def assert_same_end(ours: RunFolder, theirs: RunFolder, j: int) -> None:
    """Every byte but for times."""
    assert bytes_of(ours, j) == bytes_of(theirs, j)
    assert without_times(read_metrics(ours.stages[j])) == without_times(read_metrics(theirs.stages[j]))
    records = [run.stages[j].record for run in (ours, theirs)]
    assert all(records)
    names = ("key", "test_accuracy", "validation_accuracy", "train_accuracy", "machine", "sessions", "content")
    first, second = ([getattr(record, name) for name in names] for record in records)
    assert first == second


def test_a_stage_asked_to_stop_at_any_point_ends_in_the_same_bytes(
    tmp_path: Path, stage: tuple[RunFolder, int], last_states: list[dict[str, Tensor]]
) -> None:
    begun, j = stage
    whole, asked = copied(begun, tmp_path / "whole"), 0

    def count() -> bool:
        nonlocal asked
        asked += 1
        return False

    train_stage(whole, j, CPU, Reporter(), should_stop=count)
    points, expected = asked, last_states.pop()
    assert points >= 2 * STEPS + 2 + 2, "steps, validations, two runs of test samples"
    for point in range(1, points + 1):
        asked = 0

        def stop(point: int = point) -> bool:
            nonlocal asked
            asked += 1
            return asked >= point

        broken = copied(begun, tmp_path / str(point))
        with pytest.raises(Stopped, match=rf"^stage {j}"):
            train_stage(broken, j, CPU, Reporter(), should_stop=stop)
        assert asked == point, "the first wish is heard"
        steps = point if point <= STEPS else max(STEPS, min(point - 1, 2 * STEPS))
        position = read_position(broken.stages[j])
        if broken.stages[j].record is None:
            assert position is not None
            assert position.epochs * STEPS + position.consumed // 8 == steps, "the step at hand was kept"
        assert train_stage(reopened(broken.path), j, CPU, Reporter())
        assert_same_end(whole, broken, j)
        state = last_states.pop()
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[name], expected[name]) for name in state)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_an_epoch_whose_last_batch_is_short_is_stopped_and_ends_like_any(tmp_path: Path, step: int) -> None:
    whole = tiny_run(tmp_path / "whole", "train.batch_size=16")
    broken = copied(whole, tmp_path / "broken")
    train_stage(whole, 0, CPU, Reporter())
    stopped_after(broken, step)
    position = read_position(broken.stages[0])
    assert position is not None
    assert (position.epochs, position.consumed) == [(0, 16), (0, 24), (0, 24)][step - 1], "the third is its validation"
    train_stage(broken, 0, CPU, Reporter())
    assert_same_end(whole, broken, 0)


@pytest.mark.parametrize("minutes", [0, 1000])
def test_a_stage_killed_at_any_step_goes_on_at_its_last_checkpoint_and_ends_in_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: tuple[RunFolder, int], minutes: int
) -> None:
    begun, j = stage
    whole = copied(begun, tmp_path / "whole")
    train_stage(whole, j, CPU, Reporter())
    for killed_at in range(2 * STEPS):
        broken = copied(begun, tmp_path / str(killed_at))
        broken = reopened(broken.path, f"machine.checkpoint_minutes={minutes}")
        steps = 0

        def killed(logits: Tensor, y: Tensor, killed_at: int = killed_at, **how: Any) -> Tensor:
            nonlocal steps
            steps += 1
            if steps == killed_at + 1:
                raise Killed
            return torch.nn.functional.cross_entropy(logits, y, **how)

        with monkeypatch.context() as patch:
            patch.setattr("pipeline.step.cross_entropy", killed)
            with pytest.raises(Killed):
                train_stage(broken, j, CPU, Reporter())
            train_stage(broken, j, CPU, Reporter())
        again = 1 if minutes == 0 else 1 + killed_at % STEPS
        assert steps == 2 * STEPS + again, "the step that was killed, and those since the last checkpoint"
        assert_same_end(whole, broken, j)


def test_a_stage_killed_while_it_writes_back_writes_the_same_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tiny_run(tmp_path / "whole")
    broken = copied(whole, tmp_path / "broken")
    train_stage(whole, 0, CPU, Reporter())
    write = StoreWriter.write

    def killed(self: StoreWriter, view: int, first: int, x: Any) -> None:
        if view == 1 and first > 8:
            raise Killed
        write(self, view, first, x)

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "write", killed)
        with pytest.raises(Killed):
            train_stage(broken, 0, CPU, Reporter())
    assert broken.stages[0].record is not None
    assert not broken.is_stored(1)
    assert train_stage(reopened(broken.path), 0, CPU, Reporter())
    assert_same_end(whole, broken, 0)


def test_checkpoints_left_by_a_process_killed_after_its_record_are_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(fit, "sweep", lambda folder: None)
        train_stage(run, 0, CPU, Reporter())
    assert run.stages[0].checkpoint.exists()
    assert not train_stage(run, 0, CPU, Reporter())
    assert not list(run.stages[0].path.glob("*checkpoint*"))


def test_momentum_is_part_of_the_checkpoint(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run")
    learner, again = make_learner(run, stage_problem(run, 0), CPU), make_learner(run, stage_problem(run, 0), CPU)
    x, y = torch.randn(8, 1, 8, 8), torch.arange(8) % 3
    learner.optimiser.begin()
    torch.nn.functional.cross_entropy(learner.logits(x), y).backward()  # type: ignore[no-untyped-call]
    learner.optimiser.step()
    again.restore(learner.tensors(), run.stages[0].checkpoint)
    torch.testing.assert_close(again.optimiser.parameters, learner.optimiser.parameters, rtol=0, atol=0)
    torch.testing.assert_close(again.optimiser.momentum, learner.optimiser.momentum, rtol=0, atol=0)
    assert all(v.any() for v in again.optimiser.momentum)


def stopped_after(run: RunFolder, step: int) -> None:
    asked = iter(range(1, 100))
    with pytest.raises(Stopped):
        train_stage(run, 0, CPU, Reporter(), should_stop=lambda: next(asked) >= step)


def test_another_machine_in_the_middle_of_a_stage_is_said_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tiny_run(tmp_path / "run")
    stopped_after(run, 2)
    monkeypatch.setattr(fit, "machine_record", lambda *of: {**machine_record(*of), "threads": 7, "torch": "9.9"})
    train_stage(run, 0, CPU, Reporter())
    assert "stage 0 was begun on another machine: threads 1 -> 7; torch" in capsys.readouterr().err
    record = run.stages[0].record
    assert record is not None
    assert [(session.epoch, session.consumed) for session in record.sessions] == [(0, 0), (0, 16)]
    assert [session.machine["threads"] for session in record.sessions] == [1, 7]
    assert record.machine == record.sessions[-1].machine
    assert {"device", "precision", "instructions", "compiled", "deterministic"} <= record.machine.keys()


def test_the_same_machine_is_one_session_and_no_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tiny_run(tmp_path / "run")
    stopped_after(run, 2)
    train_stage(run, 0, CPU, Reporter(), strict=True)
    assert "machine" not in capsys.readouterr().err
    record = run.stages[0].record
    assert record is not None
    assert len(record.sessions) == 1


def test_another_machine_is_refused_if_that_is_to_be_strict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tiny_run(tmp_path / "run")
    stopped_after(run, 2)
    before = run.stages[0].checkpoint.read_bytes()
    changed = reopened(run.path, "machine.deterministic=true")
    with pytest.raises(RefusedError, match=r"--strict is given: deterministic False -> True\nnext: "):
        train_stage(changed, 0, CPU, Reporter(), strict=True)
    assert run.stages[0].checkpoint.read_bytes() == before
    train_stage(changed, 0, CPU, Reporter())


Patch = Callable[[pytest.MonkeyPatch, Callable[[], None]], None]


def in_step(patch: pytest.MonkeyPatch, signals: Callable[[], None]) -> None:
    step = train_step

    def signalled(*arguments: Any) -> None:
        signals()
        step(*arguments)

    patch.setattr(fit, "train_step", signalled)


def in_write_back(patch: pytest.MonkeyPatch, signals: Callable[[], None]) -> None:
    write = StoreWriter.write

    def signalled(self: StoreWriter, *arguments: Any) -> None:
        if "x_1" in str(self.path):
            signals()
        write(self, *arguments)

    patch.setattr(StoreWriter, "write", signalled)


def in_ingest(patch: pytest.MonkeyPatch, signals: Callable[[], None]) -> None:
    image = Sieve.image

    def signalled(self: Sieve, *arguments: Any) -> Any:
        signals()
        return image(self, *arguments)

    patch.setattr(Sieve, "image", signalled)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("phase", [in_step, in_write_back, in_ingest])
def test_a_signal_ends_the_command_with_its_code_and_the_command_that_goes_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cascade: Callable[..., Outcome],
    number: signal.Signals,
    code: int,
    phase: Patch,
) -> None:
    whole, folder = tiny_run(tmp_path / "whole"), tmp_path / "broken"
    for j in range(2):
        train_stage(whole, j, CPU, Reporter())
    folder.mkdir()
    shutil.copy(tmp_path / "whole/cascade.toml", folder)
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    sent = 0

    def once() -> None:
        nonlocal sent
        if not sent:
            os.kill(os.getpid(), number)
        sent += 1

    with monkeypatch.context() as patch:
        phase(patch, once)
        actual, _, err = cascade("run", "--run", folder, "--set", "machine.threads=1")
    assert (actual, sent > 0) == (code, True)
    assert err.splitlines()[-2].startswith("interrupted: ")
    assert err.splitlines()[-1] == f"next: cascade run --run {folder} --set machine.threads=1"
    assert handlers == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    assert cascade("run", "--run", folder, "--set", "machine.threads=1")[0] == 0
    broken = reopened(folder)
    for j in range(2):
        assert_same_end(whole, broken, j)
