"""Reading a store back: every chunk, and any damage."""

from pathlib import Path

import pytest

from cache import CodecName, CorruptStoreError, NoStoreError, read_back
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


def test_an_uncommitted_store_is_none(tmp_path: Path) -> None:
    with pytest.raises(NoStoreError):
        read_back(tmp_path)
