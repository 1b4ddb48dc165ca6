"""The manifest: read whole or refused."""

import os
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from cache import MANIFEST, CorruptStoreError, FormatError, NoStoreError, Store, read_manifest, read_summary
from cache.codecs import checksum
from cache.layout import METADATA, SMALL_ARRAYS, ChunkRecord
from cache.manifest import Chunks, encode_manifest
from tests.conftest import WriteStore


def sealed(table: Any, **summary: Any) -> bytes:
    """A manifest whose checksums are right, whatever it says."""
    last = msgspec.json.encode(table) + b"\n"
    sound = {
        "fingerprint": {},
        "nbytes": 0,
        "chunks": dict.fromkeys(["x", *SMALL_ARRAYS], 0),
        "metadata": dict.fromkeys(METADATA, "{}"),
        "table_crc32c": checksum([last]),
    }
    line = msgspec.json.encode({**sound, **summary}) + b"\n"
    return msgspec.json.encode({"format": 2, "crc32c": checksum([line])}) + b"\n" + line + last


EMPTY: dict[str, Any] = {name: [[], []] for name in ("x", *SMALL_ARRAYS)}


def test_folder_without_a_manifest_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(NoStoreError, match=f"{tmp_path} holds no committed store"):
        read_manifest(tmp_path)


def test_place_that_does_not_exist_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no committed store"):
        read_manifest(tmp_path / "nowhere")


@pytest.mark.parametrize("version", ["1", "3", "999", '"1.1"', "null", "[2]"])
def test_another_format_is_refused_with_both_versions(tmp_path: Path, version: str) -> None:
    for text in (f'{{"format":{version},"segments":[],"arrays":7}}', f'{{"format":{version}}}\n{{}}\n'):
        (tmp_path / MANIFEST).write_text(text)
        for read in (read_manifest, read_summary):
            with pytest.raises(FormatError, match=r"has format .*; this version of cascade reads format 2$"):
                read(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b"\xff\xfe", b'{"format":2}', b'{"format":2,"crc32c":0}\n', b'{"a":' * 10**5],
)
def test_damaged_manifest_is_a_corrupt_store(tmp_path: Path, content: bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    for read in (read_manifest, read_summary):
        with pytest.raises(CorruptStoreError):
            read(tmp_path)


@pytest.mark.parametrize(
    ("table", "summary"),
    [
        ({}, {}),
        ([], {}),
        ({**EMPTY, "z": [[], []]}, {}),
        ({**EMPTY, "x": [[5], []]}, {}),
        ({**EMPTY, "x": [[5], [1]]}, {}),
        ({**EMPTY, "x": [[5], [1]]}, {"chunks": {"x": 1, "y": 0, "sample_id": 0, "scale": 0}}),
        ({**EMPTY, "x": [[-5], [1]]}, {"chunks": {"x": 1, "y": 0, "sample_id": 0, "scale": 0}, "nbytes": -5}),
        ({**EMPTY, "x": [[2**64], [1]]}, {"chunks": {"x": 1, "y": 0, "sample_id": 0, "scale": 0}, "nbytes": 2**64}),
        (EMPTY, {"metadata": {}}),
        (EMPTY, {"metadata": {**dict.fromkeys(METADATA, ""), "../zarr.json": ""}}),
        (EMPTY, {"chunks": {"x": 0}}),
        (EMPTY, {"nbytes": 1}),
        (EMPTY, {"fingerprint": 7}),
    ],
)
def test_manifest_that_contradicts_itself_is_refused_though_its_checksums_are_right(
    tmp_path: Path, table: Any, summary: dict[str, Any]
) -> None:
    (tmp_path / MANIFEST).write_bytes(sealed(EMPTY))
    read_manifest(tmp_path)
    (tmp_path / MANIFEST).write_bytes(sealed(table, **summary))
    with pytest.raises(CorruptStoreError, match=f"{MANIFEST} is damaged"):
        read_manifest(tmp_path)


def test_manifest_cut_anywhere_or_grown_is_a_corrupt_store(write_store: WriteStore) -> None:
    path, _ = write_store()
    whole = (path / MANIFEST).read_bytes()
    for data in (*(whole[:length] for length in range(len(whole))), whole + b"\n", whole + b" "):
        (path / MANIFEST).write_bytes(data)
        with pytest.raises(CorruptStoreError, match=f"{MANIFEST} is damaged"):
            read_manifest(path)


def test_flipped_bit_anywhere_is_caught(write_store: WriteStore) -> None:
    path, _ = write_store()
    whole = (path / MANIFEST).read_bytes()
    summary_ends = whole.index(b"\n", whole.index(b"\n") + 1)
    for position in range(len(whole)):
        for bit in range(8) if position < len(b'{"format":2,"crc32c":4294967295}') else [position % 8]:
            flipped = bytes([whole[position] ^ 1 << bit])
            (path / MANIFEST).write_bytes(whole[:position] + flipped + whole[position + 1 :])
            with pytest.raises(CorruptStoreError, match=str(path)):
                read_manifest(path)
            if position <= summary_ends:
                with pytest.raises(CorruptStoreError, match=str(path)):
                    read_summary(path)


def test_summary_counts_the_bytes_of_all_chunks_on_disk(write_store: WriteStore) -> None:
    path, _ = write_store(views=2)
    on_disk = sum(file.stat().st_size for file in path.glob("*/c.*"))
    assert read_summary(path).nbytes == Store(path).nbytes == on_disk
    assert read_summary(path).chunks == {"x": 6, "y": 1, "sample_id": 1, "scale": 1}
    assert read_summary(path) == read_manifest(path).summary


def test_manifest_names_the_chunks_as_they_lie_on_disk(write_store: WriteStore) -> None:
    path, _ = write_store(views=2)
    manifest = read_manifest(path)
    names = [manifest.chunk_name(array, i) for array, chunks in manifest.arrays.items() for i in range(len(chunks))]
    assert sorted(names) == sorted(str(file.relative_to(path)) for file in path.glob("*/c.*"))
    assert names[:4] == ["x/c.0.0.0.0.0", "x/c.0.1.0.0.0", "x/c.0.2.0.0.0", "x/c.1.0.0.0.0"]
    for array, chunks in manifest.arrays.items():
        for i in range(len(chunks)):
            assert chunks[i].length == (path / manifest.chunk_name(array, i)).stat().st_size


def test_a_link_in_the_place_of_a_manifest_is_damage(write_store: WriteStore, tmp_path: Path) -> None:
    path, _ = write_store()
    (path / MANIFEST).rename(tmp_path / "elsewhere")
    (path / MANIFEST).symlink_to(tmp_path / "elsewhere")
    for read in (read_manifest, read_summary):
        with pytest.raises(CorruptStoreError, match=f"{MANIFEST} is not a file"):
            read(path)


def test_a_manifest_larger_than_any_is_refused_and_not_read(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).touch()
    os.truncate(tmp_path / MANIFEST, 2**40)
    for read in (read_manifest, read_summary):
        with pytest.raises(CorruptStoreError, match=f"{MANIFEST} is damaged: it has 1,099,511,627,776 bytes, and"):
            read(tmp_path)


def test_half_a_million_chunks_are_read_in_a_second_and_their_summary_at_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    large = Chunks(rng.integers(10**6, 8 * 2**20, 500_000), rng.integers(0, 2**32, 500_000))
    arrays = {"x": large, **dict.fromkeys(SMALL_ARRAYS, Chunks.of([ChunkRecord(9, 9)]))}
    (tmp_path / MANIFEST).write_bytes(encode_manifest({}, dict.fromkeys(METADATA, "{}"), arrays))
    began = time.process_time()
    assert read_summary(tmp_path).chunks["x"] == 500_000
    read = time.process_time()
    manifest = read_manifest(tmp_path)
    assert read - began < 0.1
    assert time.process_time() - read < 1
    assert manifest.arrays["x"][499_999] == large[499_999]
