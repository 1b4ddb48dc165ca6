"""cascade gc: what it lists, what it deletes, and what it never touches."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cache import JOURNAL, MANIFEST, TRIAL
from pipeline.acceptance import accept_stale
from pipeline.device import choose_device
from pipeline.disk import folder_bytes
from pipeline.errors import LockedError
from pipeline.gc import Garbage, Kind, collect, find_garbage, remove
from pipeline.lock import lock_folder
from pipeline.progress import Reporter
from pipeline.runs import run_stages
from pipeline.training import train_stage
from tests.conftest import Outcome
from tests.runs import digits_run, reopened, tiny_run

CPU = choose_device("cpu")
ONE_VIEW, TWO_VIEWS, CANVAS = "augment.views=1", "augment.views=2", "augment.policy=canvas"


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


def unfinished(store: Path) -> None:
    """As an interruption before the commit leaves it."""
    (store / MANIFEST).rename(store / JOURNAL)


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
    unfinished(run.store(2, "validation"))  # is due, for stage 2
    unfinished(run.store(1, "test"))  # is not, for stage 1 is trained
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
    assert cascade("gc", "--run", folder) == (0, "nothing is to be freed\n", "")
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

    others = {reopened(folder).stages[2].path, reopened(folder, "train.lr=0.05").stages[0].path}
    assert branches(False) == set((folder / "stages").iterdir())
    assert branches(True) == others, "what does not lead to the stage that was trained so"


def test_stores_that_accept_stale_would_read_are_left_if_asked(folder: Path) -> None:
    """Stage 1 was trained on x_1 in another encoding, and stage 2 is to be trained on it, from an x_2 still to be
    written."""
    packed = reopened(folder, "stages.0.store.encoding=uint4")
    for j in range(2):
        train_stage(packed, j, CPU, Reporter())
    run = reopened(folder, "stages.2.train.lr=0.05")
    shutil.rmtree(run.stages[1].path)
    x_1 = {packed.store(1, split) for split in run.splits}

    def branches(*, accepting: bool) -> set[Path]:
        return {one.path for one in find_garbage(run, accept_stale=accepting) if one.kind == "branch"}

    assert x_1 <= branches(accepting=False)
    assert x_1 <= branches(accepting=True), "from x_2, which is there"
    shutil.rmtree(packed.stages[1].path / "x_2")
    assert x_1 <= branches(accepting=False)
    assert not x_1 & branches(accepting=True)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two stages, both trained with one view, and the first with x_1 in two views and in canvases too."""
    run = tiny_run(tmp_path_factory.mktemp("shared") / "run", "train.epochs=1")
    for policy in (ONE_VIEW, TWO_VIEWS, CANVAS):
        train_stage(reopened(run.path, policy), 0, CPU, Reporter())
    train_stage(reopened(run.path, ONE_VIEW), 1, CPU, Reporter())
    return run.path


def names(folder: Path, *settings: str, kind: Kind, keep_branches: bool = False) -> set[str]:
    listed = found(folder, *settings, keep_branches=keep_branches)
    return {Path(name).name for name, one in listed.items() if one.kind == kind}


def test_what_policies_share_is_left_to_the_one_that_still_needs_it(shared: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shared, tmp_path / "run"))
    plain = {"float16.validation", "float16.test"}
    canvases = {"float16.train.canvas", "float16.validation.canvas", "float16.test.canvas"}
    assert names(folder, ONE_VIEW, kind="store") == {"float16.train.views-1"}
    assert names(folder, ONE_VIEW, kind="branch") == {"float16.train.views-2", *plain, *canvases}
    other = reopened(folder, ONE_VIEW).stages[1].path.name
    assert names(folder, TWO_VIEWS, kind="branch") == {"float16.train.views-1", *canvases, other}
    assert not names(folder, TWO_VIEWS, kind="store")
    assert not names(folder, CANVAS, kind="store")
    collect(reopened(folder, ONE_VIEW), delete=True, keep_branches=True, accept_stale=False)
    assert reopened(folder, TWO_VIEWS).anchor(1) == reopened(folder, CANVAS).anchor(1) == 1

    shutil.rmtree(reopened(folder, TWO_VIEWS).store(1, "train"))
    assert names(folder, ONE_VIEW, kind="store") == plain, "canvases lie beside them, and share nothing with them"


def test_an_unfinished_store_that_another_policy_goes_on_with_is_of_a_branch(shared: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shared, tmp_path / "run"))
    for store in (reopened(folder, TWO_VIEWS).store(1, split) for split in ("train", "test")):
        unfinished(store)
    assert names(folder, ONE_VIEW, kind="store") == {"float16.train.views-1"}
    assert not names(folder, ONE_VIEW, kind="leftover")
    assert not names(folder, TWO_VIEWS, kind="leftover"), "it goes on with both"


@pytest.mark.parametrize("kind", ["branch", "store"])
def test_a_deletion_that_is_interrupted_leaves_nothing_but_leftovers(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    some = [one for one in found(folder).values() if one.kind == kind]
    with monkeypatch.context() as patch:
        patch.setattr("cache.removal.shutil.rmtree", interrupted)
        for one in some:
            with pytest.raises(KeyboardInterrupt):
                remove(one)
    assert not any(one.path.exists() for one in some)
    left = [one.path.with_name(f".{one.path.name}.removed") for one in some]
    listed = found(folder)
    assert {listed[str(path.relative_to(folder))].kind for path in left} == {"leftover"}
    collect(reopened(folder), delete=True, keep_branches=True, accept_stale=False)
    assert not any(path.exists() for path in left)


def test_what_repairs_left_is_listed_but_for_what_will_take_its_place(folder: Path) -> None:
    run = reopened(folder)
    begun, needless, due = (run.store(2, split) for split in run.splits)
    for store in (begun, needless, due):
        shutil.copytree(store, beside(store))
    (beside(begun) / "manifest.json").unlink()
    for store in (begun, due):
        (store / "manifest.json").unlink()
    shutil.copytree(run.store(0, "test"), beside(run.store(0, "test")))
    listed = {folder / name for name, one in found(folder).items() if "a repair that did not end" in one.why}
    assert listed == {beside(begun), beside(needless), beside(run.store(0, "test"))}


def beside(store: Path) -> Path:
    return store.with_name(f".{store.name}.repair")


class Killed(BaseException):
    """In the place of a process's end."""


class Calls:
    """Counts the calls of `os` that delete, rename and sync; from number `at` on, none of them is made any more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int = -1) -> None:
        self.names: list[str] = []
        self.at = at
        for name in ("rename", "unlink", "rmdir", "fsync"):
            monkeypatch.setattr(os, name, self._counting(name, getattr(os, name)))

    def _counting(self, name: str, call: Callable[..., None]) -> Callable[..., None]:
        def counted(*arguments: object, **keywords: object) -> None:
            self.names.append(name)
            if 0 <= self.at < len(self.names):
                raise Killed
            call(*arguments, **keywords)

        return counted


@pytest.fixture(scope="module")
def littered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two stages, the first with x_1, which nothing will read, and once more with another lr; and leftovers."""
    run = tiny_run(tmp_path_factory.mktemp("littered") / "run", "train.epochs=1", "data.validation=0")
    for j in range(2):
        train_stage(run, j, CPU, Reporter())
    train_stage(reopened(run.path, "train.lr=0.05"), 0, CPU, Reporter())
    store = run.store(1, "train")
    shutil.copytree(store, beside(store))
    shutil.copytree(store, store.with_name(f".{store.name}.removed"))
    shutil.copytree(run.path / "x_0", run.path / "x_0.partial")
    return run.path


def test_a_kill_at_any_call_of_gc_leaves_a_folder_in_which_all_commands_work(
    littered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cascade: Callable[..., Outcome]
) -> None:
    whole = Path(shutil.copytree(littered, tmp_path / "whole"))
    with monkeypatch.context() as patch:
        calls = Calls(patch).names
        collect(reopened(whole), delete=True, keep_branches=False, accept_stale=False)
    renames = [number for number, name in enumerate(calls) if name == "rename"]
    points = sorted({number for rename in renames for number in (rename, rename + 1, rename + 2, rename + 12)})
    assert len(renames) >= 5
    for at in points:
        path = Path(shutil.copytree(littered, tmp_path / f"{at}"))
        with monkeypatch.context() as patch:
            Calls(patch, at)
            with pytest.raises(Killed):
                collect(reopened(path), delete=True, keep_branches=False, accept_stale=False)
        commands = (("status",), ("verify",), ("gc", "--yes"), ("train-stage", "--j", 1))
        assert [cascade(*command, "--run", path)[0] for command in commands] == [0] * 4, f"killed at call {at}"
        assert files(path) == files(whole), f"killed at call {at}"
        shutil.rmtree(path)


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
