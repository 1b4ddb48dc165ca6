import errno
import json
import os
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import zarr
from numpy.typing import NDArray

from cache import CODECS, MANIFEST, CodecName, CorruptStoreError, NoStoreError, Store, decode
from cache.encodings import ELEMENT_TYPES
from tests.conftest import WriteStore

ENCODINGS_AND_CODECS = list(product([name for name in ELEMENT_TYPES if name != "identity"], CODECS))
ARRAYS = ("x", "y", "sample_id", "scale")


def read_view(store: Store, view: int) -> NDArray[Any]:
    """All samples of a view with what fills up its last chunk, by `Store.read_chunk`."""
    x = np.empty((store.chunks_per_view, store.chunk_samples, *store.stored_shape), store.dtype)
    for number, chunk in enumerate(x):
        store.read_chunk(view, number, chunk)
    return x.reshape(-1, *store.stored_shape)


def by_tensorstore(array: Path) -> NDArray[Any]:
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{array}/"}}
    numbers: NDArray[Any] = tensorstore.open(spec, read=True).result().read().result()
    return numbers


def corrupt(file: Path, position: int, mask: int) -> None:
    data = bytearray(file.read_bytes())
    data[position] ^= mask
    file.write_bytes(data)


@pytest.mark.parametrize(("encoding", "codec"), ENCODINGS_AND_CODECS)
def test_what_was_written_is_read_with_zeros_behind_the_last_sample(
    write_store: WriteStore, encoding: str, codec: CodecName
) -> None:
    path, x = write_store(samples=10, run=4, views=2, encoding=encoding, codec=codec)
    store = Store(path)
    assert (store.views, store.samples, store.sample_shape, store.chunks_per_view) == (2, 10, (2, 3, 3), 3)
    assert (store.encoding, store.codec, store.dtype) == (encoding, codec, x.dtype)
    assert store.stored_shape == x.shape[2:]
    for view in range(2):
        read = read_view(store, view)
        assert read[:10].tobytes() == x[view].tobytes()
        assert read[10:].shape == (2, *x.shape[2:])
        assert not read[10:].any()
    assert store.y.tolist() == list(range(0, 30, 3))
    assert store.sample_id.tolist() == list(range(1000, 1010))
    assert store.scale.tolist() == [np.float32(0.01), np.float32(0.02)]
    assert store.attributes["stage"] == 1


@pytest.mark.parametrize(("encoding", "codec"), ENCODINGS_AND_CODECS)
def test_zarr_python_reads_what_we_read(write_store: WriteStore, encoding: str, codec: CodecName) -> None:
    path, _ = write_store(samples=10, run=4, views=2, encoding=encoding, codec=codec)
    store, group = Store(path), zarr.open_group(path, mode="r")
    x = np.asarray(group["x"])
    assert x.dtype == store.dtype
    for view in range(2):
        assert x[view].tobytes() == read_view(store, view)[:10].tobytes()
    for name in ARRAYS[1:]:
        assert np.asarray(group[name]).tolist() == getattr(store, name).tolist()
    assert dict(group.attrs) == store.attributes


@pytest.mark.parametrize(("encoding", "codec"), ENCODINGS_AND_CODECS)
def test_tensorstore_reads_what_we_read(write_store: WriteStore, encoding: str, codec: CodecName) -> None:
    path, _ = write_store(samples=10, run=4, views=2, encoding=encoding, codec=codec)
    store = Store(path)
    x = by_tensorstore(path / "x")
    assert x.dtype == store.dtype
    for view in range(2):
        assert x[view].tobytes() == read_view(store, view)[:10].tobytes()
    for name in ARRAYS[1:]:
        assert by_tensorstore(path / name).tolist() == getattr(store, name).tolist()


def test_any_zarr_reader_finds_in_the_attributes_how_uint4_is_packed(write_store: WriteStore) -> None:
    path, packed = write_store(samples=10, views=2, shape=(2, 4, 5), encoding="uint4")
    group, store = zarr.open_group(path, mode="r"), Store(path)
    attributes = group.attrs.asdict()
    assert attributes["logical_shape"] == [2, 4, 5] == list(store.sample_shape)
    for x in (np.asarray(group["x"]), by_tensorstore(path / "x")):
        assert x.shape == (2, 10, 2, 4, 3)
        assert attributes["packing_axis"] == x.ndim - 1
        activations = decode(x, "uint4", store.scale, 5)
        assert activations.tobytes() == decode(packed, "uint4", store.scale, 5).tobytes()
        assert activations.shape[2:] == store.sample_shape


def test_stores_that_are_not_packed_say_nothing_of_packing(write_store: WriteStore) -> None:
    path, _ = write_store(encoding="uint8")
    assert not {"logical_shape", "packing_axis"} & Store(path).attributes.keys()


def test_chunk_files_lie_flat_in_the_folder_of_their_array(write_store: WriteStore) -> None:
    path, _ = write_store(samples=10, run=4, views=2)
    names = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
    chunks = {f"x/c.{view}.{number}.0.0.0" for view in range(2) for number in range(3)}
    assert "x/c.0.1.0.0.0" in chunks
    small = {f"{name}/c.0" for name in ARRAYS[1:]}
    assert names == {MANIFEST, "zarr.json", *(f"{name}/zarr.json" for name in ARRAYS), *chunks, *small}


@pytest.mark.parametrize(("encoding", "codec"), ENCODINGS_AND_CODECS)
def test_codecs_in_the_metadata_end_with_a_checksum(write_store: WriteStore, encoding: str, codec: CodecName) -> None:
    path, _ = write_store(encoding=encoding, codec=codec)
    for name in ARRAYS:
        chain = [codec["name"] for codec in json.loads((path / name / "zarr.json").read_text())["codecs"]]
        assert chain[0] == "bytes"
        assert chain[-1] == "crc32c"
    assert len(json.loads((path / "x" / "zarr.json").read_text())["codecs"]) == (2 if codec == "none" else 3)


def test_store_without_a_manifest_is_refused(write_store: WriteStore) -> None:
    path, _ = write_store()
    (path / MANIFEST).unlink()
    with pytest.raises(NoStoreError, match=f"{path} holds no committed store"):
        Store(path)


@pytest.mark.parametrize("codec", CODECS)
def test_flipped_bit_anywhere_in_a_chunk_is_caught(write_store: WriteStore, codec: CodecName) -> None:
    path, _ = write_store(samples=4, run=2, shape=(1, 2, 2), codec=codec)
    file = path / "x" / "c.0.1.0.0.0"
    store, dest = Store(path), np.empty((2, 1, 2, 2), np.float32)
    whole = file.read_bytes()
    for position, mask in product(range(len(whole)), (0x01, 0x80, 0xFF)):
        corrupt(file, position, mask)
        with pytest.raises(CorruptStoreError, match=r"chunk x/c\.0\.1\.0\.0\.0 of .* fails its checksum"):
            store.read_chunk(0, 1, dest)
        file.write_bytes(whole)
    store.read_chunk(0, 1, dest)


@pytest.mark.parametrize("array", ARRAYS[1:])
def test_flipped_bit_anywhere_in_labels_ids_and_scales_is_caught(write_store: WriteStore, array: str) -> None:
    path, _ = write_store()
    file = path / array / "c.0"
    whole = file.read_bytes()
    for position in range(len(whole)):
        corrupt(file, position, 0x01)
        with pytest.raises(CorruptStoreError, match=f"chunk {array}/c.0 of .* fails its checksum"):
            Store(path)
        file.write_bytes(whole)


@pytest.mark.parametrize("codec", CODECS)
def test_chunk_cut_anywhere_or_grown_is_caught(write_store: WriteStore, codec: CodecName) -> None:
    path, _ = write_store(samples=4, run=2, shape=(1, 2, 2), codec=codec)
    file = path / "x" / "c.0.1.0.0.0"
    store, dest = Store(path), np.empty((2, 1, 2, 2), np.float32)
    whole = file.read_bytes()
    for data in (*(whole[:length] for length in range(len(whole))), whole + b"\0"):
        file.write_bytes(data)
        message = rf"chunk x/c\.0\.1\.0\.0\.0 of .* has {len(data)} bytes; {len(whole)} were committed"
        with pytest.raises(CorruptStoreError, match=message):
            store.read_chunk(0, 1, dest)


@pytest.mark.parametrize("chunk", ["x/c.0.2.0.0.0", "y/c.0", "sample_id/c.0", "scale/c.0"])
def test_missing_chunk_is_caught_and_never_read_as_zeros(write_store: WriteStore, chunk: str) -> None:
    path, _ = write_store()
    (path / chunk).unlink()
    with pytest.raises(CorruptStoreError, match=f"chunk {chunk} of {path} is missing"):
        read_view(Store(path), 0)


@pytest.mark.parametrize(("one", "other"), [((0, 0), (0, 1)), ((0, 0), (1, 0)), ((0, 1), (1, 0))])
def test_swapped_chunks_of_equal_length_are_both_caught(
    write_store: WriteStore, one: tuple[int, int], other: tuple[int, int]
) -> None:
    path, _ = write_store(samples=8, run=4, views=2, codec="none")
    files = [path / "x" / f"c.{view}.{number}.0.0.0" for view, number in (one, other)]
    contents = [file.read_bytes() for file in files]
    assert len(contents[0]) == len(contents[1])
    for file, data in zip(files, reversed(contents), strict=True):
        file.write_bytes(data)
    store, dest = Store(path), np.empty((4, 2, 3, 3), np.float32)
    for (view, number), file in zip((one, other), files, strict=True):
        with pytest.raises(CorruptStoreError, match=f"chunk x/{file.name} of .* fails its checksum"):
            store.read_chunk(view, number, dest)


def test_store_can_be_moved(write_store: WriteStore, tmp_path: Path) -> None:
    path, x = write_store(samples=8)
    moved = path.rename(tmp_path / "elsewhere")
    assert read_view(Store(moved), 0).tobytes() == x.tobytes()


@pytest.mark.parametrize("what", ["link", "pipe", "folder"])
@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_what_is_no_file_in_the_place_of_a_chunk_is_damage(
    write_store: WriteStore, tmp_path: Path, what: str, codec: CodecName
) -> None:
    path, _ = write_store(codec=codec)
    file = path / "x" / "c.0.1.0.0.0"
    file.rename(tmp_path / "elsewhere")
    if what == "link":
        file.symlink_to(tmp_path / "elsewhere")
    elif what == "pipe":
        os.mkfifo(file)
    else:
        file.mkdir()
    with pytest.raises(CorruptStoreError, match=r"c\.0\.1\.0\.0\.0 is not a file"):
        read_view(Store(path), 0)


def test_a_disk_that_does_not_read_names_the_file(write_store: WriteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = write_store()
    store = Store(path)

    def fails(descriptor: int, buffers: list[Any], offset: int) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "preadv", fails)
    with pytest.raises(OSError, match=f"Input/output error: '{path / 'x' / 'c.0.0.0.0.0'}'"):
        read_view(store, 0)
