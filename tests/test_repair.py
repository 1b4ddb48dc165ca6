"""Repair: what is damaged is computed again and put back byte for byte, or left as it is with the reason."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache import MANIFEST, Store
from pipeline.acceptance import accept_stale
from pipeline.progress import Reporter
from pipeline.repair import Repaired, repair
from pipeline.runfolder import RunFolder
from tests.conftest import BadSector, Outcome
from tests.runs import copied, reopened
from tests.trained import CPU, double_block, files_of, trained_run, whole

__all__ = ["whole"]


def repaired(run: RunFolder) -> dict[str, Repaired]:
    return {outcome.what: outcome for outcome in repair(reopened(run.path), CPU, Reporter())}


def flip(file: Path, position: int = -1) -> None:
    data = bytearray(file.read_bytes())
    data[position] ^= 1
    file.write_bytes(data)


def test_nothing_is_done_to_a_sound_run_folder(whole: RunFolder, tmp_path: Path) -> None:
    run = copied(whole, tmp_path / "run")
    assert repaired(run) == {}
    assert files_of(run.path) == files_of(whole.path)


FILES = (
    "x/c.0.1.0.0.0",
    "y/c.0",
    "sample_id/c.0",
    "scale/c.0",
    "zarr.json",
    "x/zarr.json",
    "scale/zarr.json",
    MANIFEST,
)


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize("damage", ["flip", "remove", "empty"])
def test_every_file_of_a_store_comes_back_byte_for_byte(
    whole: RunFolder, tmp_path: Path, index: int, damage: str
) -> None:
    run = copied(whole, tmp_path / "run")
    for name in FILES:
        file = run.store(index, "train") / name
        if damage == "flip":
            flip(file, 15)
        elif damage == "remove":
            file.unlink()
        else:
            file.write_bytes(b"")
        (outcome,) = repaired(run).values()
        assert (outcome.put_back, outcome.left) == ([name], {})
        assert files_of(run.path) == files_of(whole.path)


def test_all_damage_of_a_run_folder_is_repaired_parents_first(whole: RunFolder, tmp_path: Path) -> None:
    run = copied(whole, tmp_path / "run")
    for index in range(3):
        for split in run.splits:
            for file in run.store(index, split).glob("*/c.*"):
                file.unlink()
    shutil.rmtree(run.store(1, "train") / "y")
    (run.store(2, "test") / "zarr.json").write_bytes(b"{}")
    flip(run.store(1, "test") / MANIFEST)
    outcomes = repaired(run)
    assert len(outcomes) == 9
    assert not any(outcome.left for outcome in outcomes.values())
    assert files_of(run.path) == files_of(whole.path)


@pytest.mark.parametrize("settings", [("augment.policy=canvas", "augment.flip=true"), ("store.encoding=uint4",)])
@pytest.mark.parametrize("codec", ["none", "auto"])
def test_canvases_packed_numbers_and_any_codec_come_back_too(
    tmp_path: Path, settings: tuple[str, ...], codec: str
) -> None:
    run = trained_run(tmp_path / "run", *settings, f"store.codec={codec}", stages=1)
    before = files_of(run.path)
    for index in range(2):
        for split in run.splits:
            flip(next(run.store(index, split).glob("x/c.*")))
        flip(run.store(index, "train") / MANIFEST, 100)
    assert len(repaired(run)) == 6
    assert files_of(run.path) == before


def test_chunks_that_are_one_of_several_in_a_run_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cache.layout.CHUNK_BYTES", 2000)
    run = trained_run(tmp_path / "run", stages=1)
    before = files_of(run.path)
    assert Store(run.store(1, "train")).chunk_samples < 16
    for name in ("c.0.1.0.0.0", "c.0.2.0.0.0", "c.1.17.0.0.0"):
        flip(run.store(1, "train") / "x" / name)
    last = max((run.store(0, "train") / "x").glob("c.*"), key=lambda file: int(file.name.split(".")[2]))
    last.unlink()
    assert [len(outcome.put_back) for outcome in repaired(run).values()] == [1, 3]
    assert files_of(run.path) == before


def test_from_another_block_nothing_is_put_in_place(whole: RunFolder, tmp_path: Path) -> None:
    run = copied(whole, tmp_path / "run")
    double_block(run)
    flip(run.store(1, "train") / "x" / "c.1.0.0.0.0")
    before = files_of(run.path)
    (outcome,) = repaired(run).values()
    assert outcome.put_back == []
    assert (
        "what it was computed from has changed, or another machine wrote it\nnext: repair where"
        in outcome.left["x/c.1.0.0.0.0"]
    )
    assert files_of(run.path) == before


def test_from_another_block_no_store_whose_manifest_is_lost_is_replaced(whole: RunFolder, tmp_path: Path) -> None:
    run = copied(whole, tmp_path / "run")
    double_block(run)
    flip(run.store(1, "test") / MANIFEST)
    before = files_of(run.path)
    (outcome,) = repaired(run).values()
    assert "computed again it comes out different" in outcome.left[MANIFEST]
    assert files_of(run.path) == before


def test_damaged_chunks_do_not_keep_a_store_whose_manifest_is_lost_from_being_written_again(
    whole: RunFolder, tmp_path: Path
) -> None:
    run = copied(whole, tmp_path / "run")
    store = run.store(1, "train")
    flip(store / "x" / "c.0.1.0.0.0")
    (store / "x" / "c.0.2.0.0.0").unlink()
    (store / "x" / "c.0.3.0.0.0").write_bytes(b"")
    (store / MANIFEST).unlink()
    assert [outcome.put_back for outcome in repaired(run).values()] == [[MANIFEST]]
    assert files_of(run.path) == files_of(whole.path)


def test_on_another_machine_it_says_so(whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = copied(whole, tmp_path / "run")
    flip(run.store(1, "test") / "x" / "c.0.0.0.0.0")
    monkeypatch.setattr("pipeline.recompute.machine_record", lambda *_: {"torch": "0.0"})
    monkeypatch.setattr("pipeline.repair.put_back_chunk", lambda *_: False)
    (outcome,) = repaired(run).values()
    (reason,) = outcome.left.values()
    assert "comes out different: it was written on another machine or build: torch " in reason


def test_images_whose_source_is_gone_or_another_stay_damaged_with_the_next_action(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 255, (200, 8, 8), np.uint8), np.arange(200) % 3
    source, folder = tmp_path / "data.npz", tmp_path / "run"
    arrays: dict[str, Any] = {
        "train_images": pixels,
        "train_labels": labels,
        "test_images": pixels[:50],
        "test_labels": labels[:50],
    }
    np.savez(source, **arrays)
    run = trained_run(folder, f"data.source=npz:{source}", stages=1)
    sound = files_of(folder)
    flip(run.store(0, "train") / "x" / "c.0.1.0.0.0")
    damaged = files_of(folder)
    np.savez(source, **{**arrays, "train_images": pixels ^ 1})
    (outcome,) = repaired(run).values()
    reason = f"npz:{source} does not hold the images that were ingested\nnext: put the data set back"
    assert reason in outcome.left["x/c.0.1.0.0.0"]
    np.savez(source, **{**arrays, "train_images": pixels[1:], "train_labels": labels[1:]})
    (outcome,) = repaired(run).values()
    assert "is not the data set that x_0 was ingested from" in outcome.left["x/c.0.1.0.0.0"]
    source.unlink()
    (outcome,) = repaired(run).values()
    assert "is no file" in outcome.left["x/c.0.1.0.0.0"]
    assert files_of(folder) == damaged
    flip(run.store(1, "train") / "x" / "c.0.1.0.0.0")
    assert "x_0" in str(repaired(run)), "block 0 has no other parent"
    np.savez(source, **arrays)
    assert [outcome.left for outcome in repaired(run).values()] == [{}, {}]
    assert files_of(folder) == sound


def test_a_parent_that_stays_damaged_is_passed_over(
    whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(whole, tmp_path / "run")
    shutil.rmtree(run.store(1, "test"))
    run.store(1, "test").mkdir()
    (run.store(1, "test") / MANIFEST).write_text('{"format":3}\n')
    flip(run.store(2, "test") / "x" / "c.0.0.0.0.0")
    first, second = repaired(run).values()
    assert "format 3" in first.left[MANIFEST]
    assert (second.put_back, second.left) == (["x/c.0.0.0.0.0"], {})


def test_a_store_of_another_stage_is_not_mended_in_the_place_of_ones_own(whole: RunFolder, tmp_path: Path) -> None:
    run = copied(whole, tmp_path / "run")
    shutil.rmtree(run.store(1, "test"))
    shutil.copytree(run.store(2, "test"), run.store(1, "test"))
    (run.store(1, "test") / "zarr.json").unlink()
    before = files_of(run.path)
    (outcome,) = repaired(run).values()
    assert outcome.left[MANIFEST] == f"the store is of another stage\nnext: delete {run.store(1, 'test')}"
    assert files_of(run.path) == before


def test_images_are_not_written_anew_from_a_source_that_gives_others(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 255, (60, 8, 8), np.uint8), np.arange(60) % 3
    source = tmp_path / "data.npz"
    arrays: dict[str, Any] = {"train_labels": labels, "test_images": pixels, "test_labels": labels}
    np.savez(source, train_images=pixels, **arrays)
    run = trained_run(tmp_path / "run", f"data.source=npz:{source}", stages=0)
    shutil.rmtree(run.store(0, "train"))
    damaged = files_of(run.path)
    np.savez(source, train_images=pixels ^ 1, **arrays)
    (outcome,) = repaired(run).values()
    assert "does not hold the images that were ingested" in outcome.left[MANIFEST]
    assert files_of(run.path) == damaged


@pytest.mark.parametrize("left", ["chunks", "nothing"])
def test_a_stand_ins_store_of_other_views_is_not_written_anew_with_the_configs(
    whole: RunFolder, tmp_path: Path, left: str
) -> None:
    run = copied(whole, tmp_path / "run")
    path = run.store(1, "train")
    (path / MANIFEST).unlink()
    for chunk in (path / "x").glob("c.*") if left == "nothing" else ():
        chunk.unlink()
    before = files_of(run.path)
    stale = accept_stale(reopened(run.path, "seed=1"))
    assert stale.is_stand_in(0)
    (outcome,) = repair(stale, CPU, Reporter())
    assert outcome.left[MANIFEST].startswith("it holds the views of other settings\nnext: cascade repair --run ")
    assert outcome.left[MANIFEST].endswith(" --set seed=0 --accept-stale")
    assert files_of(run.path) == before


def test_that_a_store_was_written_anew_is_said_and_not_that_it_is_the_same(
    whole: RunFolder, tmp_path: Path, cascade: Callable[..., Outcome]
) -> None:
    run = copied(whole, tmp_path / "run")
    (run.store(1, "test") / MANIFEST).unlink()
    flip(run.store(2, "test") / "x" / "c.0.0.0.0.0")
    code, out, _ = cascade("repair", "--run", run.path)
    assert code == 0
    anew, mended = out.splitlines()
    assert anew.endswith(": written anew, since its manifest was lost; its chunks that were left agree")
    assert mended.endswith(": 1 file put back, byte for byte")


@pytest.mark.parametrize("damage", ["gone", "flipped", "of another"])
def test_what_an_earlier_repair_left_is_put_in_place_only_if_every_byte_of_it_is_right(
    whole: RunFolder, tmp_path: Path, damage: str
) -> None:
    run = copied(whole, tmp_path / "run")
    path = run.store(1, "train")
    beside = path.with_name(f".{path.name}.repair")
    shutil.copytree(run.store(2, "train") if damage == "of another" else path, beside)
    shutil.rmtree(path)
    if damage == "gone":
        (beside / "x" / "c.0.1.0.0.0").unlink()
    elif damage == "flipped":
        flip(beside / "x" / "c.0.1.0.0.0")
    (outcome,) = repaired(run).values()
    assert (outcome.put_back, outcome.left) == ([MANIFEST], {})
    assert files_of(run.path) == files_of(whole.path)


def test_what_repair_takes_back_leaves_its_place_first(
    whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(whole, tmp_path / "run")
    path, deleted = run.store(1, "train"), list[str]()
    shutil.copytree(path, path.with_name(f".{path.name}.repair"))
    (run.store(1, "test") / MANIFEST).unlink()
    rmtree = shutil.rmtree

    def noted(folder: Path) -> None:
        deleted.append(folder.name)
        rmtree(folder)

    monkeypatch.setattr("cache.removal.shutil.rmtree", noted)
    assert all(not outcome.left for outcome in repaired(run).values())
    assert deleted == [f".{path.name}.repair.removed", f".{run.store(1, 'test').name}.removed"]
    assert files_of(run.path) == files_of(whole.path)


@pytest.mark.parametrize("index", [0, 1])
def test_a_rewriting_that_was_interrupted_anywhere_goes_on(
    whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: int
) -> None:
    for step in ("cache.removal.shutil.rmtree", "pipeline.repair.os.rename", "cache.writer.drop_journal"):
        run = copied(whole, tmp_path / step)
        flip(run.store(index, "train") / MANIFEST)

        def interrupted(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(step, interrupted)
            with pytest.raises(KeyboardInterrupt):
                repaired(run)
        (outcome,) = repaired(run).values()
        assert (outcome.put_back, outcome.left) == ([MANIFEST], {})
        assert files_of(run.path) == files_of(whole.path)


@pytest.mark.parametrize("index", [0, 1])
def test_what_a_bad_sector_took_comes_back(whole: RunFolder, tmp_path: Path, bad_sector: BadSector, index: int) -> None:
    run = copied(whole, tmp_path / "run")
    first, second, third = (run.store(index, split) for split in run.splits)
    for path in (first / "x/c.0.0.0.0.0", second / MANIFEST, third / "x/c.0.0.0.0.0", third / "x/zarr.json"):
        bad_sector(path)
    (third / MANIFEST).unlink()
    put_back = [outcome.put_back for outcome in repaired(run).values()]
    assert put_back == [["x/c.0.0.0.0.0"], [MANIFEST], [MANIFEST]]
    assert files_of(run.path) == files_of(whole.path)


def test_where_no_codec_can_be_read_it_is_the_configs(whole: RunFolder, tmp_path: Path, bad_sector: BadSector) -> None:
    run = copied(whole, tmp_path / "run")
    for split in run.splits:
        bad_sector(run.store(1, split) / MANIFEST)
        bad_sector(run.store(1, split) / "x/zarr.json")
    assert [outcome.put_back for outcome in repaired(run).values()] == [[MANIFEST]] * 3
    assert files_of(run.path) == files_of(whole.path)


def test_a_file_in_the_place_of_images_is_replaced_by_them(whole: RunFolder, tmp_path: Path) -> None:
    run = copied(whole, tmp_path / "run")
    shutil.rmtree(run.store(0, "train"))
    run.store(0, "train").write_bytes(b"no store")
    assert [outcome.put_back for outcome in repaired(run).values()] == [[MANIFEST]]
    assert files_of(run.path) == files_of(whole.path)
