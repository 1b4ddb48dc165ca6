"""The bytes of stores, said before they are written."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache import CODECS, CodecName, committed_bytes, footprint, packed_bytes, read_manifest, small_bytes_at_most
from cache.codecs import CHECKSUM_BYTES, pack, packed_bytes_at_most
from cache.encodings import ELEMENT_TYPES
from pipeline.disk import folder_bytes
from pipeline.footprint import Known, known_store, unwritten
from pipeline.ingest import ingest
from pipeline.outline import read_outline
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.training import train_stage
from tests.configs import loaded
from tests.conftest import WriteStore
from tests.runs import copied, reopened
from tests.trained import CPU, of_stage_0, trained_run, whole

__all__ = ["of_stage_0", "whole"]
BEFORE_ITS_SCALE = 100
"""Bytes that a store may be smaller than was said before its scale is taken: by the digits of two ratios, each twice in
it, and what compressing the scale saves; not counted those of its checksums."""


@pytest.mark.parametrize("encoding", ELEMENT_TYPES)
def test_a_raw_store_takes_what_was_said_to_the_digits_of_its_checksums(write_store: WriteStore, encoding: str) -> None:
    shape, rows = (2, 3, 3), np.arange(10, dtype=np.int64)
    path, _ = write_store(samples=10, run=4, views=3, shape=shape, encoding=encoding, codec="none")
    scale = np.array([0.01, 0.02], np.float32)
    found = footprint(
        views=3,
        samples=10,
        sample_shape=shape,
        encoding=encoding,
        codec="none",
        run=4,
        small=(packed_bytes(3 * rows), packed_bytes(1000 + rows), packed_bytes(scale)),
        fingerprint={"of": "store"},
        attributes={"stage": 1},
    )
    assert found.x == sum(file.stat().st_size for file in (path / "x").glob("c.*"))
    assert found.nbytes - folder_bytes(path) == missing_digits(path)
    assert committed_bytes(path) == folder_bytes(path)


def missing_digits(path: Path) -> int:
    """By how many digits the checksums in a store's manifest are shorter than the longest."""
    manifest = read_manifest(path)
    head = json.loads((path / "manifest.json").read_bytes().split(b"\n")[0])
    checksums = [head["crc32c"], manifest.summary.table_crc32c]
    checksums += [int(crc) for chunks in manifest.arrays.values() for crc in chunks.crc32c]
    return sum(10 - len(str(crc)) for crc in checksums)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("nbytes", [1, 100, 300, 2**17 - 1, 2**17 + 1, 3 * 2**20])
def test_no_numbers_take_more_than_the_bound(codec: CodecName, nbytes: int) -> None:
    noise = np.random.default_rng(nbytes).integers(0, 256, nbytes, np.uint8)
    for numbers in (noise, np.zeros(nbytes, np.uint8), np.resize(noise[:100], nbytes)):
        assert memoryview(pack(numbers, codec)).nbytes <= packed_bytes_at_most(nbytes, codec)
    assert packed_bytes_at_most(nbytes, codec) <= nbytes + 18 + nbytes // 10_000 + 3 * 2
    assert packed_bytes(noise) <= small_bytes_at_most(nbytes) == packed_bytes_at_most(nbytes, "zstd") + CHECKSUM_BYTES


def all_missing_digits(run: RunFolder, index: int) -> int:
    return sum(missing_digits(run.store(index, split)) for split in run.splits)


def files_bytes(run: RunFolder, index: int) -> int:
    return sum(folder_bytes(run.store(index, split)) for split in run.splits)


def machine_of(run: RunFolder, index: int) -> dict[str, Any]:
    (machine,) = run.open_store(index, "train").attributes["machines"]
    assert isinstance(machine, dict)
    return machine


def test_images_take_what_was_said_before_they_are_ingested(tmp_path: Path) -> None:
    for held_out in (0, 0.4):
        folder = tmp_path / str(held_out)
        folder.mkdir()
        config = loaded(folder, "store.codec=none", f"data.validation={held_out}")
        said = unwritten(read_outline(folder, config), 0, {}, "none").nbytes
        ingest(config, folder, Reporter())
        run = RunFolder(folder, config)
        assert said - files_bytes(run, 0) == all_missing_digits(run, 0)
        assert unwritten(read_outline(folder, config), 0, {}, "none").nbytes == said, "labels and ids are known"


@pytest.mark.parametrize("encoding", ["float32", "float16", "uint8", "uint4"])
@pytest.mark.parametrize(
    "policy",
    [
        ("augment.policy=none",),
        ("augment.views=3",),
        ("augment.policy=canvas",),
        ("augment.policy=canvas", "augment.phases=2"),
    ],
    ids=["none", "views", "canvas", "phases"],
)
def test_raw_stores_take_what_was_said(
    of_stage_0: RunFolder, tmp_path: Path, encoding: str, policy: tuple[str, ...]
) -> None:
    run = copied(of_stage_0, tmp_path / "run")
    settings = ("cache.keep=all", "store.codec=none", f"store.encoding={encoding}", *policy)
    written_as_said(reopened(run.path, *settings))


def test_without_held_out_images_too(tmp_path: Path) -> None:
    run = trained_run(tmp_path / "run", "data.validation=0", "cache.keep=none", stages=1)
    written_as_said(reopened(run.path, "cache.keep=all", "store.codec=none", "store.encoding=uint8"))


def written_as_said(run: RunFolder) -> None:
    outline = read_outline(run.path, run.config)
    assert run.stages[0].record is not None
    train_stage(run, 0, CPU, Reporter())
    machine = machine_of(run, 1)
    before = unwritten(outline, 1, machine, "none").nbytes
    scaled = unwritten(outline, 1, machine, "none", run=run).nbytes
    exactly = files_bytes(run, 1)
    assert scaled - exactly == all_missing_digits(run, 1)
    assert 0 <= before - scaled <= BEFORE_ITS_SCALE * len(run.splits)
    stored = known_store(outline, 1, machine, run=run)
    assert (stored.nbytes, stored.basis) == (exactly, "stored")


def test_a_stage_with_a_scale_needs_no_room_beyond_it(whole: RunFolder) -> None:
    outline = read_outline(whole.path, whole.config)
    for index in (1, 2):
        bound = unwritten(outline, index, machine_of(whole, index), "lz4").nbytes
        assert files_bytes(whole, index) < bound


def test_room_is_left_for_a_sample_that_was_lucky() -> None:
    assert Known(1000, "sample", "lz4", 0.5).reserved_bytes == 1100
    assert Known(1000, "sample", "lz4", 1.0).reserved_bytes == 1000
    assert Known(1000, "raw", "none", 1.0).reserved_bytes == 1000
