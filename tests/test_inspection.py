"""Looking at every byte of a store, and putting back what is not as it was."""

from pathlib import Path

import numpy as np
import pytest

from cache import CODECS, CodecName, Store, inspect, put_back_chunk, put_back_metadata, read_manifest
from cache.codecs import CHECKSUM_BYTES
from cache.inspection import gives_chunk
from tests.conftest import WriteStore


def damaged(path: Path) -> dict[str, str]:
    return {file.name: file.damage for file in inspect(path, read_manifest(path)) if file.damage}


def test_every_file_of_a_sound_store_is_looked_at_once(write_store: WriteStore) -> None:
    path, _ = write_store(views=2)
    files = list(inspect(path, read_manifest(path)))
    assert sorted(file.name for file in files) == sorted(
        str(file.relative_to(path)) for file in path.rglob("*") if file.is_file() and file.name != "manifest.json"
    )
    assert all(file.nbytes == (path / file.name).stat().st_size and file.damage is None for file in files)


@pytest.mark.parametrize("codec", CODECS)
def test_any_damage_is_found_in_its_file_and_does_not_hide_another(write_store: WriteStore, codec: CodecName) -> None:
    path, _ = write_store(views=2, codec=codec)
    flipped, gone, grown, link = (path / "x" / f"c.{place}.0.0.0" for place in ("0.0", "0.2", "1.0", "1.1"))
    data = flipped.read_bytes()
    flipped.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    gone.unlink()
    grown.write_bytes(grown.read_bytes() + b"\0")
    link.unlink()
    link.symlink_to(flipped)
    (path / "y" / "c.0").write_bytes(b"")
    (path / "scale" / "zarr.json").unlink()
    (path / "zarr.json").write_bytes((path / "zarr.json").read_bytes() + b" ")
    found = damaged(path)
    assert list(found) == [
        "zarr.json", "scale/zarr.json", *(f"x/{file.name}" for file in (flipped, gone, grown, link)), "y/c.0"
    ]  # fmt: skip
    chunks = ("fails its checksum", "is missing", "bytes; ", "is not a file")
    reasons = ("is damaged", "is missing", *chunks, "has 0 bytes")
    for reason, told in zip(reasons, found.values(), strict=True):
        assert reason in told
        assert str(path) in told


@pytest.mark.parametrize("codec", CODECS)
def test_a_chunk_of_the_same_numbers_is_put_back_byte_for_byte_and_no_other(
    write_store: WriteStore, codec: CodecName
) -> None:
    path, x = write_store(codec=codec, samples=8)
    manifest, file = read_manifest(path), path / "x" / "c.0.1.0.0.0"
    whole = file.read_bytes()
    file.unlink()
    assert not put_back_chunk(path, manifest, "x", 1, x[0, :4], codec)
    assert not put_back_chunk(path, manifest, "x", 1, x[0, 4:8] + np.float32(1e-6), codec)
    assert not gives_chunk(manifest, "x", 1, x[0, :4], codec)
    assert not file.exists()
    assert gives_chunk(manifest, "x", 1, x[0, 4:8], codec)
    assert put_back_chunk(path, manifest, "x", 1, x[0, 4:8], codec)
    assert file.read_bytes() == whole
    assert len(whole) > CHECKSUM_BYTES
    assert not damaged(path)


def test_metadata_is_put_back_from_the_manifest(write_store: WriteStore) -> None:
    path, _ = write_store()
    manifest = read_manifest(path)
    before = {name: (path / name).read_bytes() for name in manifest.summary.metadata}
    for name in before:
        (path / name).write_bytes(b"{}")
        put_back_metadata(path, manifest, name)
    assert {name: (path / name).read_bytes() for name in before} == before
    Store(path)
