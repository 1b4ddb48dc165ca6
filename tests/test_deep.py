"""verify --deep: a few chunks of each store are computed again from the parent."""

from pathlib import Path

import pytest

from cache import Store
from cache.codecs import pack
from pipeline.deep import DEEP_CHUNKS
from pipeline.runfolder import RunFolder
from tests.runs import copied
from tests.stores import put_small
from tests.test_verify import verified
from tests.trained import double_block, whole

__all__ = ["whole"]


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


@pytest.mark.parametrize("array", ["y", "sample_id"])
def test_deep_finds_labels_and_ids_that_are_not_the_parents(whole: RunFolder, tmp_path: Path, array: str) -> None:
    run = copied(whole, tmp_path / "run")
    path = run.store(1, "train")
    rows = getattr(Store(path), array)
    put_small(path, array, bytes(pack(rows[::-1].copy(), "zstd")))
    what = str(path.relative_to(run.path))
    assert not verified(run)[what].damage
    (found,) = verified(run, deep=True)[what].damage
    assert (found.file, found.reason) == (f"{what}/{array}/c.0", "it does not follow from its parent")
    assert found.remedy == f"delete it and {run.command('train-stage --j 0')}"


def test_deep_says_where_another_machine_wrote_and_what_it_could_not_compute(
    whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(whole, tmp_path / "run")
    run.stages[1].block.write_bytes(b"")
    monkeypatch.setattr("pipeline.recompute.machine_record", lambda *_: {"torch": "0.0"})
    monkeypatch.setattr("pipeline.deep.gives_chunk", lambda *_: False)
    rows = verified(run, deep=True)
    x_0, x_1, x_2 = (rows[str(run.store(i, "train").relative_to(run.path))] for i in range(3))
    assert x_0.damage, "images do not depend on the machine's arithmetic"
    assert x_1.note.startswith("4 of 4 chunks computed again differ: it was written on another machine or build: torch")
    assert not x_1.damage
    assert x_2.note.startswith("not computed again: ")
