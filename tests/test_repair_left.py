"""What repair leaves as it is, and says why: what is not damaged, not its own, or not to be believed."""

import json
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from cache import MANIFEST, Manifest, Store, read_manifest
from cache.codecs import pack
from cache.manifest import Chunks, encode_manifest
from pipeline.errors import LockedError, Stopped
from pipeline.lock import lock_folder
from pipeline.progress import Reporter
from pipeline.repair import repair
from pipeline.runfolder import RunFolder
from tests.conftest import Outcome
from tests.runs import copied, reopened
from tests.stores import put_small, reseal
from tests.test_metadata import CHUNK_SHAPE, put
from tests.test_repair import repaired
from tests.trained import CPU, files_of, trained_run, whole

__all__ = ["whole"]


def test_what_may_not_be_read_is_not_taken_for_damaged(
    whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(whole, tmp_path / "run")
    path = run.store(1, "train") / MANIFEST

    def refused(store: Path) -> Manifest:
        if store == path.parent:
            raise PermissionError(13, "Permission denied", str(path))
        return read_manifest(store)

    monkeypatch.setattr("pipeline.repair.read_manifest", refused)
    with pytest.raises(PermissionError, match="Permission denied"):
        repaired(run)
    assert files_of(run.path) == files_of(whole.path)


@pytest.mark.parametrize("left", ["nothing", "chunks"])
def test_a_split_of_x_0_of_which_nothing_shows_that_it_was_committed_comes_back(
    whole: RunFolder, tmp_path: Path, left: str
) -> None:
    run = copied(whole, tmp_path / "run")
    path = run.store(0, "validation")
    if left == "nothing":
        shutil.rmtree(path)
    else:
        (path / MANIFEST).unlink()
        (path / "x" / "zarr.json").unlink()
    assert [outcome.put_back for outcome in repaired(run).values()] == [[MANIFEST]]
    assert files_of(run.path) == files_of(whole.path)


def test_what_the_files_of_a_store_say_of_its_codec_without_a_manifest_is_never_committed(
    tmp_path: Path,
) -> None:
    run = trained_run(tmp_path / "run", "store.codec=auto", stages=1)
    sound = files_of(run.path)
    for split in run.splits:
        group = run.store(1, split) / "zarr.json"
        group.write_text(group.read_text().replace('"codec_reason": "', '"codec_reason": "a lie, '))
    (run.store(1, "train") / MANIFEST).unlink()
    assert all(not outcome.left for outcome in repaired(run).values())
    assert files_of(run.path) == sound, "the manifest of another split vouches for codec and reason"
    for split in run.splits:
        group = run.store(1, split) / "zarr.json"
        group.write_text(group.read_text().replace('"codec_reason": "', '"codec_reason": "a lie, '))
        (run.store(1, split) / MANIFEST).unlink()
    assert all(not outcome.left for outcome in repaired(run).values())
    assert not any(b"a lie" in data for data in files_of(run.path).values())


def test_a_codec_that_is_a_lie_is_refused(whole: RunFolder, tmp_path: Path) -> None:
    run = copied(whole, tmp_path / "run")
    for split in run.splits:
        (run.store(1, split) / MANIFEST).unlink()
        zstd = (run.store(1, split) / "y" / "zarr.json").read_text()
        x = json.loads((run.store(1, split) / "x" / "zarr.json").read_text())
        x["codecs"] = json.loads(zstd)["codecs"]
        (run.store(1, split) / "x" / "zarr.json").write_text(json.dumps(x))
    before = files_of(run.path)
    assert all("comes out different" in outcome.left[MANIFEST] for outcome in repaired(run).values())
    assert files_of(run.path) == before


@pytest.mark.parametrize(("name", "calls"), [(MANIFEST, 60), ("x/c.0.0.0.0.0", 60), (MANIFEST, 1)])
def test_asked_to_stop_it_leaves_nothing_half_written_and_ends_the_next_time(
    whole: RunFolder, tmp_path: Path, name: str, calls: int
) -> None:
    run, asked = copied(whole, tmp_path / "run"), count()
    for file in (run.store(2, "train") / "x").glob("c.*") if name != MANIFEST else [run.store(2, "train") / name]:
        file.unlink()
    with pytest.raises(Stopped):
        list(repair(reopened(run.path), CPU, Reporter(), should_stop=lambda: next(asked) >= calls))
    assert not list(run.path.rglob("*.new"))
    assert not any(outcome.left for outcome in repaired(run).values())
    assert files_of(run.path) == files_of(whole.path)


def test_a_store_that_is_being_written_is_left_to_that(whole: RunFolder, tmp_path: Path) -> None:
    run = copied(whole, tmp_path / "run")
    path = run.store(2, "train")
    (path / MANIFEST).unlink()
    (path / "journal").write_bytes(b"")
    shutil.rmtree(run.store(1, "test"))
    (run.store(1, "test") / "x").mkdir(parents=True)  # as a kill before the journal leaves it
    assert repaired(run) == {}


def test_another_process_on_the_run_folder_is_not_disturbed(whole: RunFolder, tmp_path: Path) -> None:
    run = copied(whole, tmp_path / "run")
    with lock_folder(run.path, "stage 1"), pytest.raises(LockedError, match="stage 1"):
        repaired(run)


def test_a_store_whose_chunks_divide_no_run_is_named_by_every_command_and_left(
    whole: RunFolder, tmp_path: Path, cascade: Callable[..., Outcome]
) -> None:
    run = copied(whole, tmp_path / "run")
    path = run.store(1, "test")
    put(path / "x" / "zarr.json", f"{CHUNK_SHAPE}.1", Store(path).chunk_samples - 1)
    reseal(path)
    Store(path)  # for which it is whole
    for command in ("verify", "repair", "train-stage --j 1 --set stages.1.train.lr=0.05"):
        code, out, err = cascade(*command.split(), "--run", run.path)
        assert code == 4, (command, out, err)
        assert "has chunks of 63 samples, and order.run = 64 is no multiple" in out + err
        assert "delete it; it is made again" in out + err


def test_a_sound_store_of_another_key_is_left_with_what_to_do(
    whole: RunFolder, tmp_path: Path, cascade: Callable[..., Outcome]
) -> None:
    run = copied(whole, tmp_path / "run")
    path = run.store(1, "test")
    manifest = read_manifest(path)
    fingerprint = {**manifest.summary.fingerprint, "key": "another"}
    (path / MANIFEST).write_bytes(encode_manifest(fingerprint, manifest.summary.metadata, manifest.arrays))
    for command in ("verify", "repair"):
        code, out, _ = cascade(command, "--run", run.path)
        assert code == 4
        assert "is not x_1 test of the stage whose folder it is in: another key" in out
        assert "delete it; it is made again" in out


def test_images_of_another_ingest_are_left_with_what_to_do(whole: RunFolder, tmp_path: Path) -> None:
    run = copied(whole, tmp_path / "run")
    path = run.store(0, "test")
    images = Store(path)
    put_small(path, "y", bytes(pack(images.y[::-1].copy(), "zstd")))
    (outcome,) = repair(run, CPU, Reporter())
    assert outcome.what == "x_0/test"
    assert outcome.left.keys() == {MANIFEST}
    assert "is whole, but not the test images that were ingested here\nnext: put those back" in outcome.left[MANIFEST]


@pytest.mark.parametrize("name", ["zarr.json", "x/zarr.json", "y/c.0", "x/c.0.0.0.0.0"])
def test_a_folder_in_the_place_of_a_file_is_left_with_what_to_do(whole: RunFolder, tmp_path: Path, name: str) -> None:
    run = copied(whole, tmp_path / "run")
    file = run.store(1, "train") / name
    file.unlink()
    (file / "kept").mkdir(parents=True)
    (outcome,) = repaired(run).values()
    assert outcome.left == {
        name: f"{file} is a folder, and a file belongs there\nnext: move it away, and {run.command('repair')}"
    }
    assert (file / "kept").is_dir()


def test_a_file_in_the_place_of_an_arrays_folder_is_left_with_what_to_do(whole: RunFolder, tmp_path: Path) -> None:
    run = copied(whole, tmp_path / "run")
    folder = run.store(1, "train") / "y"
    shutil.rmtree(folder)
    folder.write_text("mine")
    (outcome,) = repaired(run).values()
    assert outcome.left["y/zarr.json"].startswith(f"{folder} is a file, and a folder belongs there\nnext: move it away")
    assert folder.read_text() == "mine"


def test_a_store_of_another_shape_is_named_by_every_command_and_left(
    whole: RunFolder, tmp_path: Path, cascade: Callable[..., Outcome]
) -> None:
    run = copied(whole, tmp_path / "run")
    path = run.store(1, "test")
    side = 2**20
    for place in ("shape", CHUNK_SHAPE):
        put(path / "x" / "zarr.json", f"{place}.3", side)
    put(path / "x" / "zarr.json", "shape.1", 1)
    put(path / "x" / "zarr.json", f"{CHUNK_SHAPE}.1", 1)
    for array in ("y", "sample_id"):
        put(path / array / "zarr.json", "shape.0", 1)
        put(path / array / "zarr.json", f"{CHUNK_SHAPE}.0", 1)
        put_small(path, array, bytes(pack(np.zeros(1, np.int64), "zstd")))
    reseal(path, x=Chunks.of([read_manifest(path).arrays["x"][0]]))
    Store(path)  # for which it is whole
    for command in ("verify", "repair", "train-stage --j 1 --set stages.1.train.lr=0.05"):
        code, out, err = cascade(*command.split(), "--run", run.path)
        assert code == 4, (command, out, err)
        assert (
            f"{path} has shape (1, 1, 4, {side}, 8), and (1, {run.info.samples['test']}, 4, 8, 8) belongs" in out + err
        )
