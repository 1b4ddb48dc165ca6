"""cache.keep = "needed": each x_i goes once nothing will read it again, and never before."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cache import CorruptStoreError, remove_folder
from pipeline.device import choose_device
from pipeline.errors import CorruptDataError
from pipeline.needed import free_stores, is_needed
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.runs import run_stages
from pipeline.training import train_stage
from tests.conftest import Outcome
from tests.runs import bytes_of, digits_run, reopened

CPU = choose_device("cpu")
NEEDED = "cache.keep=needed"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All three stages trained, x_1 and x_2 stored."""
    run = digits_run(tmp_path_factory.mktemp("needed") / "run", "train.epochs=1")
    run_stages(run, None, None, "cpu", Reporter())
    return run.path


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def stored(run: RunFolder) -> list[int]:
    return [index for index in range(len(run.stages) + 1) if run.is_stored(index)]


def untrain(run: RunFolder, *stages: int) -> RunFolder:
    for j in stages:
        shutil.rmtree(run.stages[j].path)
    return run


def test_results_do_not_depend_on_it(whole: Path, tmp_path: Path) -> None:
    freed = digits_run(tmp_path / "run", "train.epochs=1", NEEDED)
    run_stages(freed, None, None, "cpu", Reporter())
    assert stored(freed) == [0]
    kept = reopened(whole)
    assert stored(kept) == [0, 1, 2]
    for j in range(3):
        files = {name: data for name, data in bytes_of(kept, j).items() if not name.startswith("x_")}
        assert files == bytes_of(freed, j)


def test_what_is_read_instead_is_durable_before_a_store_goes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = reopened(folder, NEEDED)
    synced: list[Path] = []
    monkeypatch.setattr("pipeline.needed.sync", synced.append)
    monkeypatch.setattr("pipeline.needed.remove_folder", lambda path: synced.append(path))
    free_stores(run, Reporter())
    first, second = ([run.store(index, split) for split in run.splits] for index in (1, 2))
    assert synced[: len(second)] == second
    assert set(synced[len(second) :]) == {*first, *second}


@pytest.mark.parametrize(("untrained", "needed"), [((), []), ((2,), [2]), ((1, 2), [1, 2]), ((0, 1, 2), [1, 2])])
def test_a_store_is_needed_while_a_stage_is_to_be_trained_from_it(
    folder: Path, untrained: tuple[int, ...], needed: list[int]
) -> None:
    run = untrain(reopened(folder), *untrained)
    assert [index for index in (1, 2) if is_needed(run, index)] == needed


def test_under_recompute_nothing_past_the_images_is_needed(folder: Path) -> None:
    run = reopened(folder, "augment.policy=recompute", "cache.keep=all")
    assert run.stages[1].record is None
    assert not any(is_needed(run, index) for index in (1, 2))


def test_without_x_2_stage_2_still_needs_x_1(folder: Path) -> None:
    run = untrain(reopened(folder, "cache.keep=[1]"), 2)
    shutil.rmtree(run.stages[1].path / "x_2")
    assert is_needed(run, 1)


def test_x_1_is_needed_to_write_x_2(folder: Path) -> None:
    run = untrain(reopened(folder), 2)
    shutil.rmtree(run.store(2, "validation"))
    assert is_needed(run, 1)


def test_a_last_output_that_was_asked_for_stays(folder: Path) -> None:
    run = reopened(folder, "cache.keep=[3]").following([3], frees=True)
    train_stage(run, 2, CPU, Reporter())
    free_stores(run, Reporter())
    assert stored(run) == [0, 3]


def test_a_damaged_successor_keeps_the_store_before_it(folder: Path) -> None:
    run = untrain(reopened(folder, NEEDED), 2)
    chunk = run.store(2, "train") / "x" / "c.1.3.0.0.0"
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
    with pytest.raises(CorruptStoreError, match=r"chunk x/c.1.3.0.0.0 of .* fails its checksum"):
        free_stores(run, Reporter())
    assert stored(run) == [0, 1, 2]
    chunk.write_bytes(whole)
    free_stores(run, Reporter())
    assert stored(run) == [0, 2]


@pytest.mark.parametrize("after", range(3))
def test_an_interruption_between_two_splits_is_finished_by_the_next_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    run = untrain(reopened(folder, NEEDED), 2)
    removed = 0

    def interrupted(path: Path) -> None:
        nonlocal removed
        if removed == after:
            path.rename(path.with_name(f".{path.name}.removed"))
            raise KeyboardInterrupt
        removed += 1
        remove_folder(path)

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.needed.remove_folder", interrupted)
        with pytest.raises(KeyboardInterrupt):
            free_stores(run, Reporter())
    assert run.anchor(2) == 2
    run_stages(reopened(folder, NEEDED), 1, 1, "cpu", Reporter())
    assert list(run.store(1, "train").parent.iterdir()) == []


@pytest.mark.parametrize("linked", ["", "x_1", "x_1/float16.train.views-2"])
def test_behind_a_link_nothing_is_deleted(folder: Path, tmp_path: Path, linked: str) -> None:
    run = untrain(reopened(folder, NEEDED), 2)
    inside, outside = run.stages[0].path / linked, tmp_path / "outside"
    inside.rename(outside)
    inside.symlink_to(outside)
    (outside / ".anything.removed").mkdir()
    before = sorted(outside.rglob("*"))
    with pytest.raises(CorruptDataError, match=r"is a link, which is not followed inside a run folder\nnext: put what"):
        free_stores(run, Reporter())
    assert sorted(outside.rglob("*")) == before


def test_what_another_policy_reads_goes_with_the_last_that_does(folder: Path) -> None:
    run, other = reopened(folder, NEEDED), reopened(folder, NEEDED, "augment.views=1")
    train_stage(other, 0, CPU, Reporter())
    free_stores(run, Reporter())
    assert {path.name for path in run.store(1, "train").parent.iterdir()} == {
        *(f"float16.{split}" for split in ("train.views-1", "validation", "test"))
    }
    assert other.anchor(1) == 1
    run_stages(other, 1, 2, "cpu", Reporter())
    assert list(run.store(1, "train").parent.iterdir()) == []


def test_it_is_said_with_the_bytes_that_are_freed(folder: Path, cascade: Callable[..., Outcome]) -> None:
    code, _, err = cascade("run", "--run", folder, "--set", NEEDED)
    assert code == 0
    assert "x_1 deleted, " in err
    assert "x_2 deleted, " in err
    assert "freed: nothing will read it again" in err
    code, out, err = cascade("status", "--run", folder, "--set", NEEDED)
    assert "x_1 was deleted: it is replayed where it is read" in " ".join(out.split())
    code, _, err = cascade("train-stage", "--j", 0, "--run", folder, "--set", NEEDED)
    assert (code, "written" in err) == (0, False), "nor is it written only to be deleted"
