"""Verify: every stored byte of a run folder is looked at, and what is damaged is named with what repairs it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cache import MANIFEST
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.verify import DEEP_CHUNKS, Checked, verify
from tests.conftest import Outcome
from tests.runs import copied, reopened
from tests.test_repair import flip
from tests.trained import CPU, double_block, files_of, whole

__all__ = ["whole"]


def verified(run: RunFolder, *, deep: bool = False) -> dict[str, Checked]:
    rows = verify(reopened(run.path), Reporter(), deep_on=CPU if deep else None)
    return {row.what: row for row in rows}


def test_a_sound_run_folder_is_looked_at_as_a_whole_and_left_as_it_is(whole: RunFolder) -> None:
    before = files_of(whole.path)
    rows = verified(whole)
    assert not any(row.damage for row in rows.values())
    stores = {str(whole.store(i, split).relative_to(whole.path)) for i in range(3) for split in whole.splits}
    stages = {str(stage.path.relative_to(whole.path)) for stage in whole.stages[:2]}
    assert rows.keys() == stores | stages
    chunks = sum(row.files for what, row in rows.items() if what in stores)
    assert chunks == sum("/c." in name for name in before)
    assert files_of(whole.path) == before


def test_damage_anywhere_is_named_and_hides_no_other(whole: RunFolder, tmp_path: Path) -> None:
    run = copied(whole, tmp_path / "run")
    flip(run.store(0, "train") / "x" / "c.0.2.0.0.0")
    flip(run.store(1, "train") / MANIFEST)
    (run.store(1, "test") / MANIFEST).unlink()
    (run.store(2, "train") / "x" / "c.1.3.0.0.0").unlink()
    (run.store(2, "train") / "y" / "zarr.json").write_bytes(b"")
    run.stages[0].head.write_bytes(b"no weights")
    run.stages[1].test_logits.unlink()
    (run.stages[1].path / "stage.json").write_bytes(b"{")
    run.stages[0].scale.write_bytes(b"[]")
    damage = {found.file: found for row in verified(run).values() for found in row.damage}
    x_1, x_2 = (str(run.store(i, "train").relative_to(run.path)) for i in (1, 2))
    stage_0, stage_1 = (str(stage.path.relative_to(run.path)) for stage in run.stages[:2])
    reasons = {
        "x_0/train/x/c.0.2.0.0.0": "fails its checksum",
        f"{x_1}/{MANIFEST}": "damaged",
        f"{stage_0}/x_1/float16.test/{MANIFEST}": "is missing",
        f"{x_2}/x/c.1.3.0.0.0": "is missing",
        f"{x_2}/y/zarr.json": "damaged",
        f"{stage_0}/head.safetensors": "cannot be read",
        f"{stage_0}/{run.stages[0].scale.name}": "does not end in a checksum",
        f"{stage_1}/stage.json": "damaged",
        f"{stage_1}/test_logits.safetensors": "is missing",
    }
    assert damage.keys() == reasons.keys()
    for file, reason in reasons.items():
        assert reason in damage[file].reason
        store = any(f"{part}/" in file for part in ("x_0", "x_1", "x_2"))
        assert (damage[file].remedy == run.command("repair")) == store


def test_a_store_that_is_being_written_is_no_damage(whole: RunFolder, tmp_path: Path) -> None:
    run = copied(whole, tmp_path / "run")
    (run.store(2, "train") / MANIFEST).unlink()
    (run.store(2, "train") / "journal").write_bytes(b"")
    assert not any(row.damage for row in verified(run).values())


def test_stores_of_other_branches_are_looked_at_too(whole: RunFolder, tmp_path: Path) -> None:
    run = copied(whole, tmp_path / "run")
    flip(run.store(1, "train") / "x" / "c.0.0.0.0.0")
    other = reopened(run.path, "train.lr=0.05")
    found = [damage for row in verify(other, Reporter()) for damage in row.damage]
    assert [damage.remedy for damage in found] == [f"{other.command('repair')} with the settings of that branch"]


def test_deep_computes_some_chunks_of_every_store_again(whole: RunFolder) -> None:
    rows = verified(whole, deep=True)
    assert not any(row.damage or row.note for row in rows.values())
    for index in range(3):
        for split in whole.splits:
            row = rows[str(whole.store(index, split).relative_to(whole.path))]
            chunks = row.files - 3
            assert row.recomputed == min(chunks, DEEP_CHUNKS)


def test_deep_finds_a_store_that_does_not_follow_from_its_parent(whole: RunFolder, tmp_path: Path) -> None:
    run = copied(whole, tmp_path / "run")
    double_block(run, pinned=False)
    row = verified(run)[str(run.stages[0].path.relative_to(run.path))]
    assert ["not the file that the stage's record names" in damage.reason for damage in row.damage] == [True]
    double_block(run)  # doubled again
    assert not any(row.damage for row in verified(run).values())
    damaged = {what for what, row in verified(run, deep=True).items() if row.damage}
    assert damaged == {str(run.store(1, split).relative_to(run.path)) for split in run.splits}


def test_deep_says_where_another_machine_wrote_and_what_it_could_not_compute(
    whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(whole, tmp_path / "run")
    run.stages[1].block.write_bytes(b"")
    monkeypatch.setattr("pipeline.recompute.machine_record", lambda *_: {"torch": "0.0"})
    monkeypatch.setattr("pipeline.verify.gives_chunk", lambda *_: False)
    rows = verified(run, deep=True)
    x_0, x_1, x_2 = (rows[str(run.store(i, "train").relative_to(run.path))] for i in range(3))
    assert x_0.damage, "images do not depend on the machine's arithmetic"
    assert x_1.note.startswith("4 of 4 chunks computed again differ: it was written on another machine or build: torch")
    assert not x_1.damage
    assert x_2.note.startswith("not computed again: ")


def test_by_command_damage_is_shown_repaired_and_gone(
    whole: RunFolder, tmp_path: Path, cascade: Callable[..., Outcome]
) -> None:
    run = copied(whole, tmp_path / "run")
    chunk = run.store(1, "train") / "x" / "c.0.3.0.0.0"
    flip(chunk)
    code, out, _ = cascade("verify", "--run", run.path)
    assert code == 4
    assert f"x/c.0.3.0.0.0 of {run.store(1, 'train')} fails its checksum\nnext: {run.command('repair')}" in out
    code, out, _ = cascade("verify", "--json", "--run", run.path)
    assert (code, json.loads(out)["damaged"]) == (4, 1)
    code, out, _ = cascade("repair", "--run", run.path)
    assert code == 0
    assert "1 files put back" in out
    code, out, _ = cascade("verify", "--deep", "--run", run.path)
    assert code == 0, out
    assert "computed again" in out
    assert cascade("repair", "--run", run.path)[:2] == (0, "no store is damaged\n")
    flip(chunk)
    run.stages[0].block.write_bytes(b"")
    code, out, _ = cascade("repair", "--json", "--run", run.path)
    assert code == 4
    assert list(json.loads(out)["stores"][0]["left"]) == ["x/c.0.3.0.0.0"]
