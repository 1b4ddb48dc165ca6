"""Reading a store back: every chunk, and any damage."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache import CodecName, CorruptStoreError, NoStoreError, Store, read_back
from tests.conftest import WriteStore


@pytest.mark.parametrize("codec", ["none", "lz4", "zstd"])
def test_a_whole_store_passes_and_a_flipped_bit_in_any_chunk_does_not(
    write_store: WriteStore, codec: CodecName
) -> None:
    path, _ = write_store(views=2, codec=codec)
    read_back(path)
    chunks = sorted((path / "x").glob("c.*"))
    assert len(chunks) == 6
    for chunk in chunks:
        whole = chunk.read_bytes()
        chunk.write_bytes(whole[:9] + bytes([whole[9] ^ 1]) + whole[10:])
        with pytest.raises(CorruptStoreError, match=f"chunk x/{chunk.name} of {path}"):
            read_back(path)
        chunk.write_bytes(whole)
    chunks[3].unlink()
    with pytest.raises(CorruptStoreError, match=f"chunk x/{chunks[3].name} of {path} is missing"):
        read_back(path)


def test_every_chunk_is_dropped_from_the_page_cache_before_it_is_read(
    write_store: WriteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = write_store(views=2)
    events: list[str] = []
    read_chunk = Store.read_chunk

    def advised(descriptor: int, offset: int, length: int, advice: int) -> None:
        assert (offset, length, advice) == (0, 0, os.POSIX_FADV_DONTNEED)
        events.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)

    def read(store: Store, view: int, number: int, dest: np.ndarray[Any, Any]) -> None:
        events.append("read")
        read_chunk(store, view, number, dest)

    monkeypatch.setattr(os, "posix_fadvise", advised)
    monkeypatch.setattr(Store, "read_chunk", read)
    read_back(path, threads=1)
    assert events == [what for chunk in sorted((path / "x").glob("c.*")) for what in (chunk.name, "read")]


def test_an_uncommitted_store_is_none(tmp_path: Path) -> None:
    with pytest.raises(NoStoreError):
        read_back(tmp_path)
