"""cascade status: what is lost or missing is not taken for deleted, unfinished, or sound."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cache import JOURNAL, MANIFEST
from pipeline.device import choose_device
from pipeline.gc import find_garbage
from pipeline.progress import Reporter
from pipeline.runs import run_stages
from pipeline.status import status
from pipeline.training import train_stage
from tests.conftest import Outcome
from tests.runs import reopened, tiny_run

CPU = choose_device("cpu")
LOST = "x_1 test: manifest.json is missing: cascade repair --run "


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two stages trained, x_1 stored."""
    run = tiny_run(tmp_path_factory.mktemp("status") / "run", "train.epochs=1")
    run_stages(run, None, None, "cpu", Reporter())
    return run.path


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def test_a_store_without_its_manifest_is_damage_to_status_and_gc_and_never_garbage(
    folder: Path, cascade: Callable[..., Outcome]
) -> None:
    run = reopened(folder)
    assert len(find_garbage(run)) == len(run.splits)
    (run.store(1, "test") / MANIFEST).unlink()
    assert status(run)[0].reason.endswith(f"{LOST}{folder}")
    assert find_garbage(run) == [], "the repair asks the other splits for the codec"
    code, out, err = cascade("gc", "--yes", "--run", folder)
    assert (code, "freed" in out, f"not listed: {LOST}{folder}" in err) == (0, True, True)
    assert (run.store(1, "test") / "x" / "zarr.json").exists()
    assert cascade("repair", "--run", folder)[0] == 0
    assert run.is_stored(1)


@pytest.mark.parametrize("state", ["deleted", "unfinished"])
def test_a_store_that_was_deleted_or_never_finished_is_not_said_to_be_lost(folder: Path, state: str) -> None:
    run = reopened(folder)
    (run.store(1, "test") / MANIFEST).unlink()
    if state == "deleted":
        shutil.rmtree(run.store(1, "test"))
    else:
        (run.store(1, "test") / JOURNAL).touch()
    assert run.lost(1) == ""
    assert "x_1 was deleted" in status(run)[0].reason


def test_a_stage_to_be_trained_from_a_lost_store_says_so_and_what_it_starts_from(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = reopened(folder)
    shutil.rmtree(run.stages[1].path)
    (run.store(1, "test") / MANIFEST).unlink()
    row = status(run)[0]
    assert (row.state, row.reason) == ("trained", f"{LOST}{folder}")
    train_stage(run, 1, CPU, Reporter())
    assert f"stage 1  {LOST}{folder}; till then it starts from x_0" in capsys.readouterr().err
    train_stage(run, 0, CPU, Reporter(), output_asked_for=True)
    assert f"stage 0  {LOST}{folder}, which compares with what is left; now it is written anew" in (
        capsys.readouterr().err
    )
    assert run.lost(1) == ""


def test_a_stage_trained_anew_says_that_its_output_is_not_written_and_what_writes_it(
    folder: Path, cascade: Callable[..., Outcome]
) -> None:
    run = reopened(folder)
    (run.stages[0].block).unlink()
    remedy = status(run)[0].reason.partition("delete ")[2]
    shutil.rmtree(remedy.partition(" ")[0])
    err = cascade("run", "--run", folder)[2]
    command = f"train-stage --j 0 --run {folder}"
    assert f"stage 0  x_1 is not written: stage 1 is trained already; cascade {command} writes it\n" in err
    assert "is not written" not in cascade(*command.split())[2]
    assert run.is_stored(1)
    assert "is not written" not in cascade("run", "--run", folder)[2]


@pytest.mark.parametrize("name", ["block", "head", "test_logits", "metrics"])
def test_a_finished_stage_without_one_of_its_files_is_damaged(folder: Path, name: str) -> None:
    stage = reopened(folder).stages[0]
    path: Path = getattr(stage, name)
    path.unlink()
    rows = status(reopened(folder))
    assert [row.state for row in rows] == ["damaged", "done"]
    remedy = f"delete {stage.path} and cascade train-stage --j 0 --run {folder}"
    assert rows[0].reason == f"{path.name} missing: {remedy}"


@pytest.mark.parametrize("name", ["plan.json", "steps.json", "rates.json"])
@pytest.mark.parametrize("keep", ["auto", "all"])
def test_the_stages_are_shown_whatever_is_damaged_of_a_plan(
    tmp_path: Path, cascade: Callable[..., Outcome], name: str, keep: str
) -> None:
    run = tiny_run(tmp_path / "run", "train.epochs=1", f"cache.keep={keep}")
    (run.path / name).write_bytes(b"{}")
    for option in ((), ("--json",)):
        code, out, err = cascade("status", "--run", run.path, *option)
        assert (code, "todo" in out) == (0, True)
        assert ("plan.json is damaged" in err and "\nnext: delete it" in err) == (name == "plan.json")
