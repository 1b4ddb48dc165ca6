"""Stores elsewhere than in a local folder."""

import asyncio
import os
import zipfile
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore, ZipStore

from cache import CODECS, CodecName, CorruptStoreError, NoStoreError, Reader, Ring, Store, aligned_buffer, ring_samples
from cache.place import Folder
from pipeline.order import training_windows
from tests.conftest import WriteStore


def in_memory(path: Path, **changed: bytes | None) -> MemoryStore:
    """A zarr-python store in memory with the files of a folder, some of them others, or missing."""
    store = MemoryStore()
    files = {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    for name, data in {**files, **changed}.items():
        if data is not None:
            buffer = default_buffer_prototype().buffer.from_bytes(data)
            asyncio.run(store.set(name, buffer))
    return store


@pytest.mark.parametrize("codec", CODECS)
def test_a_store_of_zarr_python_is_read_like_a_folder(write_store: WriteStore, codec: CodecName) -> None:
    path, x = write_store(samples=10, run=4, codec=codec)
    store = Store(in_memory(path))
    assert store.y.tolist() == Store(path).y.tolist()
    reader = Reader(
        store, Ring(aligned_buffer(ring_samples(8, 4) * store.sample_bytes)), window_samples=8, batch_size=4
    )
    for batch in reader.batches(training_windows(10, run=4, window=8, views=1, seed=0, stage=0, epoch=0)):
        assert batch.x.tobytes() == x[0, batch.rows].tobytes()


def test_a_zip_file_is_read(write_store: WriteStore, tmp_path: Path) -> None:
    path, x = write_store(samples=10, run=4)
    with zipfile.ZipFile(tmp_path / "store.zip", "w") as archive:
        for file in path.rglob("*"):
            archive.write(file, file.relative_to(path))
    store, chunk = (
        Store(asyncio.run(ZipStore.open(tmp_path / "store.zip", mode="r"))),
        np.empty((4, 2, 3, 3), np.float32),
    )
    store.read_chunk(0, 1, chunk)
    assert chunk.tobytes() == x[0, 4:8].tobytes()


def test_what_is_damaged_elsewhere_is_found_as_in_a_folder(write_store: WriteStore) -> None:
    path, _ = write_store(samples=10, run=4)
    key = "x/c.0.1.0.0.0"
    dest = np.empty((4, 2, 3, 3), np.float32)
    stored = (path / key).read_bytes()
    with pytest.raises(CorruptStoreError, match="is missing"):
        Store(in_memory(path, **{key: None})).read_chunk(0, 1, dest)
    with pytest.raises(CorruptStoreError, match="fails its checksum"):
        Store(in_memory(path, **{key: bytes(len(stored))})).read_chunk(0, 1, dest)
    with pytest.raises(CorruptStoreError, match="were committed"):
        Store(in_memory(path, **{key: stored[:-1]})).read_chunk(0, 1, dest)
    with pytest.raises(NoStoreError):
        Store(in_memory(path, **{"manifest.json": None}))


def test_a_file_is_read_into_any_number_of_buffers_of_any_size(tmp_path: Path) -> None:
    data = os.urandom(5000)
    (tmp_path / "file").write_bytes(data)
    with Folder(tmp_path).open("file") as file:
        assert file.length == 5000
        buffers = [np.zeros(size, np.uint8) for size in [1, 0, 3] + [2] * 2000]  # more than a system call takes
        file.read(7, buffers, sum(map(len, buffers)))
        assert np.concatenate(buffers).tobytes() == data[7 : 7 + 4004]
        with pytest.raises(EOFError, match="the file became shorter while it was read"):
            file.read(4999, [np.zeros(2, np.uint8)], 2)


def test_a_read_that_fails_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> NoReturn:
        raise OSError(5, "Input/output error")

    (tmp_path / "file").write_bytes(b"0123")
    monkeypatch.setattr(os, "preadv", fails)
    monkeypatch.setattr("cache.place.islice", fails)
    with Folder(tmp_path).open("file") as file:
        with pytest.raises(OSError, match=f"Input/output error: '{tmp_path / 'file'}'"):
            file.read(0, [np.zeros(4, np.uint8)], 4)
        with pytest.raises(OSError, match=f"Input/output error: '{tmp_path / 'file'}'"):
            file.lines()


def test_what_a_system_call_leaves_is_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(bytes(range(100)))
    preadv = os.preadv

    def seven_bytes(descriptor: int, buffers: list[Any], offset: int) -> int:
        return preadv(descriptor, [buffers[0][:7]], offset)

    monkeypatch.setattr(os, "preadv", seven_bytes)
    with Folder(tmp_path).open("file") as file:
        buffers = [np.zeros(size, np.uint8) for size in (3, 20, 7, 0, 70)]
        file.read(0, buffers, 100)
        assert np.concatenate(buffers).tolist() == list(range(100))
