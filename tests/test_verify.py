"""Verify: every stored byte of a run folder is looked at, and what is damaged is named with what repairs it."""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from cache import MANIFEST, Inspected, Manifest, inspect, read_manifest, remove_folder
from pipeline.acceptance import accept_stale
from pipeline.bad_images import SKIPPED
from pipeline.branches import read_records
from pipeline.checked import GONE, Checked
from pipeline.errors import CorruptDataError
from pipeline.progress import Reporter
from pipeline.repair import repair
from pipeline.runfolder import RunFolder
from pipeline.verify import verify
from pipeline.weights import load_tensors
from tests.conftest import Outcome
from tests.images import config, ingested
from tests.runs import copied, reopened
from tests.test_repair import flip
from tests.test_sieve import damaged
from tests.trained import CPU, files_of, whole

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


@pytest.mark.parametrize("content", [b"garbage", b"{}\n"])
def test_a_damaged_record_of_a_fault_is_named_and_costs_no_stage(
    whole: RunFolder, tmp_path: Path, content: bytes
) -> None:
    run = copied(whole, tmp_path / "run")
    fault = run.stages[1].fault
    fault.write_bytes(content)
    (damage,) = [damage for row in verified(run).values() for damage in row.damage]
    assert damage.file == str(fault.relative_to(run.path))
    assert (damage.reason, damage.remedy) == (
        "it does not end in a checksum",
        f"delete {fault}, which is for people alone",
    )


def test_a_store_that_is_being_written_is_no_damage(whole: RunFolder, tmp_path: Path) -> None:
    run = copied(whole, tmp_path / "run")
    (run.store(2, "train") / MANIFEST).unlink()
    (run.store(2, "train") / "journal").write_bytes(b"")
    assert not any(row.damage for row in verified(run).values())


def test_what_gc_takes_back_meanwhile_is_gone_and_not_damaged(
    whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(whole, tmp_path / "run")
    first, second, stage = run.store(1, "test"), run.store(1, "train"), run.stages[1].path
    flip(run.store(2, "train") / "x" / "c.0.3.0.0.0")

    def read(path: Path) -> Manifest:
        if path == first:
            remove_folder(path)
        return read_manifest(path)

    def looked_at(path: Path, manifest: Manifest, *, threads: int) -> Iterator[Inspected]:
        files = inspect(path, manifest, threads=threads)
        if path == second:
            yield next(files)
            remove_folder(path)
        yield from files

    def loaded(path: Path, *, content: str | None) -> object:
        if path.parent == stage and stage.exists():
            remove_folder(stage)
        return load_tensors(path, content=content)

    monkeypatch.setattr("pipeline.verify.read_manifest", read)
    monkeypatch.setattr("pipeline.verify.inspect", looked_at)
    monkeypatch.setattr("pipeline.stage_files.load_tensors", loaded)
    rows = verified(run, deep=True)
    gone = {what for what, row in rows.items() if row.note == GONE}
    assert gone == {str(path.relative_to(run.path)) for path in (first, second, stage)}
    assert [found.file for row in rows.values() for found in row.damage] == [
        str((run.store(2, "train") / "x" / "c.0.3.0.0.0").relative_to(run.path))
    ]


def test_what_is_being_taken_back_is_not_looked_at(whole: RunFolder, tmp_path: Path) -> None:
    run = copied(whole, tmp_path / "run")
    for path in (run.store(1, "train"), run.stages[1].path):
        removed = Path(shutil.copytree(path, path.with_name(f".{path.name}.removed")))
        next(removed.rglob("c.0.0.0.0.0")).unlink()
    assert verified(run).keys() == verified(whole).keys()
    assert len(run.committed_stores()) == len(whole.committed_stores())
    assert read_records(run.path / "stages").keys() == read_records(whole.path / "stages").keys()


def test_stores_of_other_branches_are_looked_at_too(whole: RunFolder, tmp_path: Path) -> None:
    run = copied(whole, tmp_path / "run")
    flip(run.store(1, "train") / "x" / "c.0.0.0.0.0")
    other = reopened(run.path, "train.lr=0.05")
    found = [damage for row in verify(other, Reporter()) for damage in row.damage]
    remedy = f"settings of that branch (then and now: train.lr 0.1 -> 0.05): {other.command('repair')} --set KEY=VALUE"
    assert [damage.remedy for damage in found] == [f"give the {remedy}"]


def test_by_command_damage_is_shown_repaired_and_gone(
    whole: RunFolder, tmp_path: Path, cascade: Callable[..., Outcome]
) -> None:
    run = copied(whole, tmp_path / "run")
    chunk = run.store(1, "train") / "x" / "c.0.3.0.0.0"
    flip(chunk)
    code, out, _ = cascade("verify", "--run", run.path)
    assert code == 4
    what = run.store(1, "train").relative_to(run.path)
    assert (
        f"{what}:\n  chunk x/c.0.3.0.0.0 fails its checksum\nnext: {run.command('repair')}\nchecked: 9 stores, " in out
    )
    assert out.endswith("; 1 file damaged\n")
    code, out, _ = cascade("verify", "--json", "--run", run.path)
    assert (code, json.loads(out)["damaged"]) == (4, 1)
    code, out, _ = cascade("repair", "--run", run.path)
    assert code == 0
    assert "1 file put back" in out
    code, out, _ = cascade("verify", "--deep", "--run", run.path)
    assert code == 0, out
    assert "computed again" in out
    assert "checked: 9 stores, 2 stages, " in out
    assert out.endswith("; no damage\n")
    assert cascade("repair", "--run", run.path)[:2] == (0, "no store is damaged\n")
    flip(chunk)
    run.stages[0].block.write_bytes(b"")
    code, out, _ = cascade("repair", "--json", "--run", run.path)
    assert code == 4
    assert list(json.loads(out)["stores"][0]["left"]) == ["x/c.0.3.0.0.0"]


def test_a_split_of_x_0_is_missed_though_nothing_of_it_shows_that_it_was_committed(
    whole: RunFolder, tmp_path: Path
) -> None:
    run = copied(whole, tmp_path / "run")
    (run.store(0, "test") / MANIFEST).unlink()
    (run.store(0, "test") / "x" / "zarr.json").unlink()
    shutil.rmtree(run.store(0, "validation"))
    rows = verified(run)
    for split in ("test", "validation"):
        (found,) = rows[f"x_0/{split}"].damage
        assert (found.reason, found.remedy) == ("manifest.json is missing", run.command("repair"))
    with pytest.raises(CorruptDataError, match="is not complete\nnext: cascade repair"):
        run.anchor(0)


def test_a_newer_format_is_told_with_the_version_that_reads_it_and_not_with_repair(
    whole: RunFolder, tmp_path: Path
) -> None:
    run = copied(whole, tmp_path / "run")
    (run.store(1, "test") / MANIFEST).write_text('{"format":9}\n')
    (found,) = [damage for row in verified(run).values() for damage in row.damage]
    assert "has format 9" in found.reason
    assert found.remedy.startswith("use the version of cascade that wrote it")


def test_a_scale_that_a_later_stage_started_from_is_missed(whole: RunFolder, tmp_path: Path) -> None:
    run = copied(whole, tmp_path / "run")
    for stage in run.stages[:2]:
        stage.scale.unlink()
    (found,) = [damage for row in verified(run).values() for damage in row.damage]
    assert (found.file, found.reason) == (str(run.stages[0].scale.relative_to(run.path)), "it is missing")
    assert found.remedy == f"delete {run.stages[0].scale} and {run.command('train-stage --j 0')}"


@pytest.mark.parametrize("name", ["chunk", "manifest"])
def test_a_file_that_may_not_be_read_is_no_damage(
    whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cascade: Callable[..., Outcome], name: str
) -> None:
    run, opened = copied(whole, tmp_path / "run"), os.open
    file = run.store(1, "train") / ("x/c.0.1.0.0.0" if name == "chunk" else MANIFEST)

    def refused(path: str | Path, *rest: Any, **more: Any) -> int:
        if Path(path) == file:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *rest, **more)

    monkeypatch.setattr("cache.place.os.open", refused)
    for command in ("verify", "repair"):
        code, _, err = cascade(command, "--run", run.path)
        assert (code, err.splitlines()[-2]) == (1, f"error: {file}: Permission denied")


@pytest.mark.parametrize("calls", [0, 3, 30])
def test_asked_to_stop_it_ends_between_two_files_and_says_what_was_checked(
    whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cascade: Callable[..., Outcome], calls: int
) -> None:
    run = copied(whole, tmp_path / "run")
    flip(run.store(1, "test") / "x" / "c.0.0.0.0.0")
    before = files_of(run.path)
    asked = count()
    monkeypatch.setattr("cli.should_stop", lambda: lambda: next(asked) >= calls)
    code, out, err = cascade("verify", "--run", run.path)
    assert code == 130
    checked = "1 store" if calls == 30 else "0 stores"
    assert f"before its end; checked: {checked}, 0 stages" in err
    assert (f"checksum\nnext: {run.command('repair')}" in out) == (calls == 30), "damage that was found is shown"
    assert f"next: cascade verify --run {run.path}" in err
    assert files_of(run.path) == before


def test_accepted_stages_are_verified_and_repaired_as_the_configs(
    whole: RunFolder, tmp_path: Path, cascade: Callable[..., Outcome]
) -> None:
    run = copied(whole, tmp_path / "run")
    flip(run.store(1, "train") / "x" / "c.0.0.0.0.0")
    options = ("--run", run.path, "--set", "train.lr=0.05")
    assert (
        "give the settings of that branch (then and now: train.lr 0.1 -> 0.05): cascade repair"
        in cascade("verify", *options)[1]
    )
    assert "it is of other settings" in cascade("verify", "--deep", *options)[1]
    out = cascade("verify", *options, "--accept-stale")[1]
    assert "--set train.lr=0.05 --accept-stale\nchecked" in out
    assert cascade("repair", *options) == (0, "no store is damaged\n", "")
    code, out, err = cascade("repair", *options, "--accept-stale")
    assert (code, "1 file put back" in out) == (0, True), err
    assert files_of(run.path) == files_of(whole.path)


def test_stand_ins_with_other_views_are_left_to_their_own_settings(whole: RunFolder, tmp_path: Path) -> None:
    run = copied(whole, tmp_path / "run")
    flip(run.store(1, "train") / "x" / "c.0.0.0.0.0")
    other = accept_stale(reopened(run.path, "seed=5"))
    (outcome,) = repair(other, CPU, Reporter())
    assert "it holds the views of other settings" in str(outcome.left)
    (damage,) = [damage for row in verify(other, Reporter()) for damage in row.damage]
    assert damage.remedy == f"cascade repair --run {run.path} --set seed=0 --accept-stale"
    (outcome,) = repair(accept_stale(reopened(run.path, "seed=5", "seed=0")), CPU, Reporter())
    assert outcome.left == {}, "and it does what it says"


def test_what_was_left_out_of_x_0_is_looked_at_and_believed_by_its_checksum_alone(tmp_path: Path) -> None:
    folder, address = tmp_path / "run", damaged(tmp_path / "set", "train/ant/3.png")
    ingested(folder, address, skip_bad=True)
    run, path = RunFolder(folder, config(address)), folder / "x_0" / SKIPPED
    rows = {row.what: row for row in verify(run, Reporter())}
    assert (rows["x_0/skipped.jsonl"].damage, rows["x_0/skipped.jsonl"].kind) == ([], "list")
    flip(run.store(0, "train") / "y" / "c.0")
    whole = path.read_bytes()
    for content in (whole.replace(b'"sample_id":1', b'"sample_id":2'), b"", None):
        path.unlink() if content is None else path.write_bytes(content)
        rows = {row.what: row for row in verify(run, Reporter())}
        assert "skipped.jsonl is damaged" in rows["x_0/skipped.jsonl"].damage[0].reason
        (outcome,) = repair(run, CPU, Reporter())
        assert "skipped.jsonl is damaged" in outcome.left["y/c.0"]
    path.write_bytes(whole)
    assert [outcome.put_back for outcome in repair(run, CPU, Reporter())] == [["y/c.0"]]


@pytest.mark.parametrize("place", ["stages", "stage", "x_1", "store", "split", "x_0"])
def test_links_are_damage_with_their_path_but_for_x_0_as_a_whole(whole: RunFolder, tmp_path: Path, place: str) -> None:
    run = copied(whole, tmp_path / "run")
    path = {
        "stages": run.path / "stages",
        "stage": run.stages[0].path,
        "x_1": run.store(1, "test").parent,
        "store": run.store(1, "test"),
        "split": run.store(0, "test"),
        "x_0": run.path / "x_0",
    }[place]
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    found = [damage.reason for row in verified(run).values() for damage in row.damage]
    if place == "x_0":
        assert found == []
        assert reopened(run.path).open_store(0, "test").samples
        return
    assert {reason for reason in found if "is a link, which is not followed inside a run folder" in reason} == set(
        found
    )
    assert found
    before = files_of(tmp_path / "elsewhere")
    with pytest.raises(CorruptDataError, match=f"{path} is a link"):
        reopened(run.path).open_store(0 if place == "split" else 1, "test")
    if place not in ("stages", "stage"):
        assert any("is a link" in str(outcome.left) for outcome in repair(reopened(run.path), CPU, Reporter()))
    assert files_of(tmp_path / "elsewhere") == before


def test_a_stage_in_the_folder_of_another_is_damage(whole: RunFolder, tmp_path: Path) -> None:
    run = copied(whole, tmp_path / "run")
    first, second = (stage.path for stage in run.stages[:2])
    own = second.name
    shutil.rmtree(second)
    second = second.with_name(f"1-{first.name[2:]}")
    first.rename(second)
    (found,) = verified(run)[f"stages/{second.name}"].damage
    assert found.file == f"stages/{second.name}/stage.json"
    assert found.reason == f"stage.json is the record of another stage, {first.name}"
    assert found.remedy == f"move {second} away and train the stage again"
    second.rename(second.with_name(own))
    (found,) = verified(run)[f"stages/{own}"].damage
    assert found.reason == f"stage.json is the record of another stage, {first.name}"
