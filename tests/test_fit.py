"""What a stage leaves on the disk while it is fitted, and in which order."""

import os
from pathlib import Path

import pytest

from pipeline.device import choose_device
from pipeline.feed import Feed
from pipeline.fit import fit
from pipeline.problem import stage_problem
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.stopping import never
from tests.runs import tiny_run

CPU = choose_device("cpu")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return tiny_run(tmp_path / "run", "machine.checkpoint_minutes=1000")


def fit_first(run: RunFolder) -> None:
    fit(run, stage_problem(run, 0), Feed(run, 0, CPU), Reporter(), strict=False, should_stop=never)


def test_each_file_of_a_stage_comes_once_those_that_it_counts_on_are_there(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    replace, unlink = os.replace, os.unlink

    def watched_replace(source: Path, target: Path) -> None:
        replace(source, target)
        events.append(target.name)

    def watched_unlink(path: Path) -> None:
        unlink(path)
        events.append(f"no {path.name}")

    monkeypatch.setattr(os, "replace", watched_replace)
    monkeypatch.setattr(os, "unlink", watched_unlink)
    fit_first(run)
    newest, older = "checkpoint.safetensors", "checkpoint.previous.safetensors"
    weights = ["block.safetensors", "head.safetensors", "test_logits.safetensors"]
    assert events == [
        *("metrics.jsonl", newest),
        *("metrics.jsonl", older, newest),
        *weights,
        "stage.json",
        *(f"no {older}", f"no {newest}"),
    ]


def test_the_folder_of_a_stage_is_durable_before_anything_is_in_it(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    fit_first(run)
    first = next(number for number, path in enumerate(synced) if run.stages[0].path in path.parents)
    assert synced[:first] == [run.path, run.path / "stages"]  # that of the run folder's own was the ingest's
