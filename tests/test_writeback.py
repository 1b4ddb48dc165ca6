"""Write-back that was interrupted goes on at the next run of samples, and ends in the same bytes."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from cache import JOURNAL, CodecChoice, Store, StoreWriter
from pipeline import device, writeback
from pipeline.feed import Feed
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.training import train_stage
from pipeline.writeback import write_output
from tests.runs import copied, reopened
from tests.trained import CPU, files_of, trained_run, whole

__all__ = ["whole"]


def without_output(run: RunFolder, folder: Path, *settings: str) -> RunFolder:
    """A copy whose x_1 is still to be written."""
    copy = copied(run, folder, *settings)
    shutil.rmtree(copy.stages[0].path / "x_1")
    return copy


def write(run: RunFolder) -> None:
    write_output(run, 0, Feed(run, 0, CPU), Reporter())


def stopped_after(monkeypatch: pytest.MonkeyPatch, run: RunFolder, runs: int) -> list[tuple[int, int]]:
    """Write until so many runs of samples are written; returns which these were, and stays quiet at the end."""
    written: list[tuple[int, int]] = []
    handed_over = StoreWriter.write

    def interrupted(self: StoreWriter, view: int, first: int, x: Any) -> None:
        if len(written) == runs:
            for future in self._waiting:
                future.result()
            raise KeyboardInterrupt
        handed_over(self, view, first, x)
        written.append((view, first))

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "write", interrupted)
        try:
            write(reopened(run.path))
        except KeyboardInterrupt:
            return written
    return written


@pytest.mark.parametrize("each", [1, 2, 5, 7])
def test_stopped_after_every_few_runs_no_run_is_computed_twice_and_every_byte_is_the_same(
    whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, each: int
) -> None:
    run = without_output(whole, tmp_path / "run")
    sessions = []
    while not run.is_stored(1):
        sessions.append(stopped_after(monkeypatch, run, each))
    written = [place for session in sessions for place in session]
    runs = {split: -(-Store(run.store(1, split)).samples // 64) for split in run.splits}
    assert len(written) == 2 * runs["train"] + runs["validation"] + runs["test"]
    assert len(sessions) >= len(written) // each
    assert files_of(run.path) == files_of(whole.path)


def test_a_chunk_that_was_lost_meanwhile_is_all_that_is_computed_again(
    whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = without_output(whole, tmp_path / "run")
    stopped_after(monkeypatch, run, 10)
    (run.store(1, "train") / "x" / "c.0.2.0.0.0").unlink()
    assert stopped_after(monkeypatch, run, 10**6)[0] == (0, 128)
    assert files_of(run.path) == files_of(whole.path)


def test_what_another_stage_began_at_the_place_is_not_gone_on_with(
    whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = without_output(whole, tmp_path / "run")
    stopped_after(monkeypatch, run, 3)
    journal = run.store(1, "train") / JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(lines[0].replace(run.stages[0].key.encode(), b"0" * 64) + b"".join(lines[1:]))
    assert stopped_after(monkeypatch, run, 10**6)[0] == (0, 0)
    assert files_of(run.path) == files_of(whole.path)


@pytest.mark.parametrize("stop", [5, 20])
def test_the_codec_that_was_chosen_once_holds_for_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    choices = iter([CodecChoice("zstd", "it was measured so"), CodecChoice("none", "measured otherwise")])
    run = trained_run(tmp_path / "run", "store.codec=auto", stages=0)
    monkeypatch.setattr(writeback, "choose_codec", lambda *_, **__: next(choices))
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.training.write_output", lambda *_: None)
        train_stage(run, 0, CPU, Reporter())
    stopped_after(monkeypatch, run, stop)
    write(reopened(run.path))
    for split in run.splits:
        store = Store(run.store(1, split))
        assert (store.codec, store.attributes["codec_reason"]) == ("zstd", "it was measured so")


def test_a_codec_is_chosen_without_the_speed_of_a_training_whose_metrics_are_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained_run(tmp_path / "run", "store.codec=auto", stages=0)
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.training.write_output", lambda *_: None)
        train_stage(run, 0, CPU, Reporter())
    seconds = []

    def chosen(*_: object, training_seconds: float | None, **__: object) -> CodecChoice:
        seconds.append(training_seconds)
        return CodecChoice("lz4", "as wished")

    monkeypatch.setattr(writeback, "choose_codec", chosen)
    metrics = run.stages[0].metrics.read_bytes()
    run.stages[0].metrics.write_bytes(metrics[:-20])
    write(reopened(run.path))
    assert seconds == [None]
    said = f"codec chosen without the speed of training: {run.stages[0].metrics} is damaged"
    assert said in capsys.readouterr().err
    assert run.is_stored(1)
    run.stages[0].metrics.write_bytes(metrics)
    shutil.rmtree(run.stages[0].path / "x_1")
    write(reopened(run.path))
    assert seconds[1] is not None


def test_what_a_kill_left_of_a_store_that_was_being_deleted_is_swept(whole: RunFolder, tmp_path: Path) -> None:
    run = copied(whole, tmp_path / "run")
    store = run.store(1, "train")
    shutil.copytree(store, store.with_name(f".{store.name}.removed"))
    assert not train_stage(run, 0, CPU, Reporter())
    assert files_of(run.path) == files_of(whole.path)


def test_a_journal_left_by_a_kill_right_after_the_commit_is_swept(whole: RunFolder, tmp_path: Path) -> None:
    run = copied(whole, tmp_path / "run")
    (run.store(1, "train") / JOURNAL).write_bytes(b"of the store that is committed")
    assert not train_stage(run, 0, CPU, Reporter())
    assert files_of(run.path) == files_of(whole.path)


def test_going_on_on_another_machine_is_said_and_recorded(
    whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = without_output(whole, tmp_path / "run")
    stopped_after(monkeypatch, run, 3)
    record = device.machine_record
    monkeypatch.setattr(writeback, "machine_record", lambda *_: {**record(*_), "torch": "0.0"})
    capsys.readouterr()
    write(reopened(run.path))
    err = capsys.readouterr().err
    assert "x_1 train: 192 samples are written already, going on" in err
    assert "x_1 train was begun on another machine or build" in err
    machines = Store(run.store(1, "train")).attributes["machines"]
    assert [machine["torch"] == "0.0" for machine in machines] == [False, True]
    assert len(Store(run.store(1, "test")).attributes["machines"]) == 1


def test_a_feed_begins_at_any_run_and_gives_the_same_numbers(whole: RunFolder) -> None:
    feed = Feed(whole, 1, CPU)
    everything = [x.clone() for x, _ in feed.sequential("train", view=1)]
    for start in (0, 64, 192, 64 * (len(everything) - 1)):
        some = [x.clone() for x, _ in feed.sequential("train", view=1, start=start)]
        assert [x.tolist() for x in some] == [x.tolist() for x in everything[start // 64 :]]
    limited = [x.clone() for x, _ in feed.sequential("train", view=1, start=64, limit=192)]
    assert [x.tolist() for x in limited] == [x.tolist() for x in everything[1:3]]
