"""cascade gc: what it lists, what it deletes, and what it never touches."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cache import TRIAL
from pipeline.acceptance import accept_stale
from pipeline.device import choose_device
from pipeline.disk import folder_bytes
from pipeline.errors import LockedError
from pipeline.gc import Garbage, collect, find_garbage, remove
from pipeline.lock import lock_folder
from pipeline.progress import Reporter
from pipeline.runs import run_stages
from pipeline.training import train_stage
from tests.conftest import Outcome
from tests.runs import digits_run, reopened

CPU = choose_device("cpu")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three stages trained, x_1 and x_2 stored, and stage 0 once more with another lr."""
    run = digits_run(tmp_path_factory.mktemp("gc") / "run", "train.epochs=1")
    run_stages(run, None, None, "cpu", Reporter())
    train_stage(reopened(run.path, "train.lr=0.05"), 0, CPU, Reporter())
    return run.path


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def found(folder: Path, *settings: str, keep_branches: bool = False) -> dict[str, Garbage]:
    run = reopened(folder, *settings)
    garbage = find_garbage(run, keep_branches=keep_branches)
    return {str(one.path.relative_to(folder)): one for one in garbage}


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def test_another_branch_and_stores_that_nothing_will_read_are_listed_with_their_bytes(folder: Path) -> None:
    listed = found(folder)
    branch = reopened(folder, "train.lr=0.05").stages[0].path
    run = reopened(folder)
    stores = [run.store(index, split) for index in (1, 2) for split in run.splits]
    assert {folder / name for name in listed} == {branch, *stores}
    assert "stage 0 with other settings, test " in listed[f"stages/{branch.name}"].why
    assert listed[f"stages/{branch.name}"].why.endswith("%: train.lr 0.05 -> 0.1")
    assert {one.nbytes == folder_bytes(one.path) > 1000 for one in listed.values()} == {True}
    assert set(found(folder, keep_branches=True)) == {str(store.relative_to(folder)) for store in stores}


def test_what_a_stage_to_train_will_read_is_not_listed(folder: Path) -> None:
    run = reopened(folder)
    shutil.rmtree(run.stages[2].path)
    assert {name.split("/")[2] for name, one in found(folder).items() if one.kind == "store"} == {"x_1"}


def test_stores_of_another_encoding_or_policy_are_of_another_branch(folder: Path) -> None:
    settings = ("stages.1.store.encoding=uint8", "stages.2.train.epochs=1")
    listed = {name: one for name, one in found(folder, *settings).items() if "/x_2/" in name}
    assert {name.split("/")[-1] for name in listed} == {f"float16.{s}" for s in ("train.views-2", "validation", "test")}
    assert {one.kind for one in listed.values()} == {"branch"}


def test_leftovers_of_interrupted_commands_are_listed_and_a_write_back_that_goes_on_is_not(folder: Path) -> None:
    run = reopened(folder)
    shutil.rmtree(run.stages[2].path)
    (run.store(2, "validation") / "manifest.json").unlink()  # is due, for stage 2
    (run.store(1, "test") / "manifest.json").unlink()  # is not, for stage 1 is trained
    beside = [folder / ".cascade.toml.new", run.stages[0].path / ".head.safetensors.new", folder / ".disk-speed"]
    for path in beside:
        path.write_bytes(b"x" * 1000)
    (folder / "x_0.partial" / "train").mkdir(parents=True)
    (folder / "x_0.partial" / "train" / "c").write_bytes(b"x" * 10)
    (folder / TRIAL / "x").mkdir(parents=True)
    listed = {name for name, one in found(folder).items() if one.kind == "leftover"}
    expected = [*beside, folder / "x_0.partial", folder / TRIAL, run.store(1, "test")]
    assert listed == {str(path.relative_to(folder)) for path in expected}


def test_an_unfinished_store_of_a_stage_that_is_gone_is_a_leftover(folder: Path) -> None:
    run = reopened(folder)
    (run.stages[2].path / "stage.json").unlink()
    store = run.stages[2].output("train")
    store.mkdir(parents=True)
    assert found(folder)[str(store.relative_to(folder))].why == "x_3, not finished, of a stage that is gone"


def test_a_dry_run_deletes_nothing_and_yes_deletes_what_it_listed(
    folder: Path, cascade: Callable[..., Outcome]
) -> None:
    before, size = files(folder), folder_bytes(folder)
    code, out, err = cascade("gc", "--run", folder)
    assert code == 0
    assert "would be freed" in out
    assert f"nothing is deleted yet\nnext: cascade gc --yes --run {folder}" in err
    listed = json.loads(cascade("gc", "--run", folder, "--json")[1])
    assert listed["deleted"] is False
    assert list(listed["garbage"][0]) == ["path", "kind", "why", "bytes"]
    assert files(folder) == before

    deleted = json.loads(cascade("gc", "--run", folder, "--json", "--yes")[1])
    assert deleted == {**listed, "deleted": True}
    assert not any(Path(one["path"]).exists() for one in listed["garbage"])
    assert size - folder_bytes(folder) == pytest.approx(listed["total_bytes"], abs=200), "but for the lock"
    assert json.loads(cascade("gc", "--run", folder, "--json")[1])["garbage"] == []
    stages = json.loads(cascade("status", "--run", folder, "--json")[1])["stages"]
    assert [stage["state"] for stage in stages] == ["done"] * 3
    assert cascade("evaluate", "--run", folder)[0] == 0


def test_images_are_never_deleted_whatever_the_config(folder: Path) -> None:
    before = {path for path in files(folder) if path.parts[0] == "x_0"}
    for settings in ((), ("seed=5",), ("cache.keep=none",), ("augment.policy=recompute",)):
        collect(reopened(folder, *settings), delete=True, keep_branches=False, accept_stale=False)
        assert {path for path in files(folder) if path.parts[0] == "x_0"} == before


def test_only_deleting_takes_the_lock(folder: Path, cascade: Callable[..., Outcome]) -> None:
    with lock_folder(folder, "stage 0"):
        assert cascade("gc", "--run", folder)[0] == 0
        code, _, err = cascade("gc", "--run", folder, "--yes")
        assert code == 5
        assert "in use by process" in err
        with pytest.raises(LockedError):
            collect(reopened(folder), delete=True, keep_branches=True, accept_stale=False)


def test_what_accept_stale_would_start_from_is_left_if_asked(folder: Path) -> None:
    run = reopened(folder, "train.lr=0.02")
    train_stage(accept_stale(run, 2), 2, CPU, Reporter())

    def branches(accepting: bool) -> set[Path]:
        return {one.path for one in find_garbage(run, accept_stale=accepting) if one.kind == "branch"}

    third = reopened(folder).stages[2].path
    assert branches(False) == set((folder / "stages").iterdir())
    assert branches(True) == {third}, "both stages 0 are left: the one with lr = 0.05 is the newest for stage 1"


@pytest.mark.parametrize("kind", ["branch", "store"])
def test_a_deletion_that_is_interrupted_leaves_nothing_that_counts_as_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cache.removal.shutil.rmtree", interrupted)
    for one in found(folder).values():
        if one.kind == kind:
            with pytest.raises(KeyboardInterrupt):
                remove(one)
            assert one.path.is_dir()
            assert not (one.path / "manifest.json").exists()
            assert not (one.path / "stage.json").exists()


def test_the_record_of_a_branch_is_durably_gone_before_any_store_of_it_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    branch = reopened(folder, "train.lr=0.05").stages[0].path
    synced: list[Path] = []

    def interrupted(store: Path) -> None:
        assert synced == [branch]
        assert not (branch / "stage.json").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.gc.sync", synced.append)
    monkeypatch.setattr("pipeline.gc.remove_store", interrupted)
    with pytest.raises(KeyboardInterrupt):
        remove(found(folder)[f"stages/{branch.name}"])


def test_links_and_names_that_are_not_cascades_are_left_alone(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere"
    shutil.copytree(reopened(folder, "train.lr=0.05").stages[0].path, outside)
    (folder / "stages" / "0-01234567").symlink_to(outside)
    (folder / "stages" / "notes").mkdir()
    (folder / "stages" / "notes" / "mine.txt").write_text("mine")
    store = reopened(folder).stages[0].path / "x_1"
    store.rename(tmp_path / "x_1")
    store.symlink_to(tmp_path / "x_1")
    listed = found(folder)
    assert not any("01234567" in name or "notes" in name or "/x_1/" in name for name in listed)
    collect(reopened(folder), delete=True, keep_branches=False, accept_stale=False)
    assert (outside / "stage.json").exists()
    assert (tmp_path / "x_1" / "float16.test" / "manifest.json").exists()


def test_stages_that_the_network_has_no_more_are_a_branch(folder: Path) -> None:
    listed = [one.why for one in found(folder, "network.stages=2").values() if one.kind == "branch"]
    assert any(why.endswith("the network has 2 stages") for why in listed)
