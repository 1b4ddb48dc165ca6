import json
from pathlib import Path
from typing import Any

import pytest

from cache import CorruptStoreError, Store
from tests.conftest import WriteStore
from tests.stores import put_small, reseal

REMOVED = object()
CHUNK_SHAPE = "chunk_grid.configuration.chunk_shape"
DEEP: Any = []
for _ in range(500):
    DEEP = [DEEP]

NASTY: dict[tuple[str, str], list[Any]] = {
    ("x", "shape"): [
        REMOVED,
        [],
        [1, 10],
        [1, 10, 2, 3],
        [1, 10, 2, 3, 3, 1],
        [2, 10, 2, 3, 3],
        "1",
        7,
        None,
        {},
        DEEP,
    ],
    ("x", "shape.0"): [0, 2, 99],
    ("x", "shape.1"): [-10, 0, 9, 11, 99, 10.5, 2**63, 10**400, "10", None, True, [10]],
    ("x", "shape.4"): [2, 4],
    ("x", "chunk_grid"): [REMOVED, None, [], {"name": "rectilinear"}],
    ("x", "chunk_grid.configuration"): [REMOVED, None, {}],
    ("x", CHUNK_SHAPE): [[], [4], [1, 4], [1, 0, 2, 3, 3], [1, 5, 2, 3, 3], [1, 4, 2, 3, 1], [2, 4, 2, 3, 3], 4],
    ("x", "data_type"): [REMOVED, "float64", "bfloat16", "int64", "uint8", "", None, 7, ["float32"], {}],
    ("x", "codecs"): [REMOVED, None, {}, [], 7, "zstd", [None], ["zstd"], [{}], [[]]],
    ("x", "codecs.0.configuration"): [{"endian": "big"}, 7],
    ("x", "codecs.1.name"): [REMOVED, "gzip", "blosc", "crc32c", "../../zstd", None, 7],
    ("y", "shape"): [REMOVED, [], [9], [11], [10**15], [5, 2]],
    ("y", "data_type"): [REMOVED, "float32"],
    ("y", CHUNK_SHAPE): [[5], []],
    ("y", "codecs.1.name"): ["gzip"],
    ("scale", "shape"): [[3]],
    ("scale", "data_type"): ["uint8"],
    ("", "attributes"): [REMOVED, None, [], 7],
    ("", "attributes.encoding"): [REMOVED, "float16", "uint4", "int3", "", None, ["float32"]],
}
"""Array and place in its `zarr.json` -> what stands there."""


def put(path: Path, place: str, value: Any) -> None:
    metadata = json.loads(path.read_text())
    *parents, last = [int(key) if key.isdigit() else key for key in place.split(".")]
    node = metadata
    for key in parents:
        node = node[key]
    if value is REMOVED:
        del node[last]
    else:
        node[last] = value
    path.write_text(json.dumps(metadata))


@pytest.mark.parametrize(
    ("array", "place", "value"), [(*place, value) for place, values in NASTY.items() for value in values]
)
def test_metadata_that_cascade_never_writes_is_a_corrupt_store(
    write_store: WriteStore, array: str, place: str, value: Any
) -> None:
    path, _ = write_store()
    Store(path)
    put(path / array / "zarr.json", place, value)
    reseal(path)
    with pytest.raises(CorruptStoreError, match=str(path)):
        Store(path)


@pytest.mark.parametrize("samples", [2**17, 2**28, 2**40, 2**62])
def test_chunks_of_more_samples_than_cascade_writes_are_a_corrupt_store(write_store: WriteStore, samples: int) -> None:
    path, _ = write_store(samples=4)
    put(path / "x" / "zarr.json", f"{CHUNK_SHAPE}.1", samples)
    reseal(path)
    with pytest.raises(CorruptStoreError, match=f"{path}: chunks of {samples} samples of 72 bytes, and a chunk of"):
        Store(path)


@pytest.mark.parametrize("array", ["y", "sample_id", "scale"])
@pytest.mark.parametrize("claimed", [0, 2**33, 2**45, 2**63, 2**64 - 1])
def test_a_size_that_a_header_claims_is_compared_before_memory_is_taken(
    write_store: WriteStore, array: str, claimed: int
) -> None:
    path, _ = write_store()
    put_small(path, array, b"\x28\xb5\x2f\xfd\xe0" + claimed.to_bytes(8, "little") + b"\x01\x00\x00")
    with pytest.raises(CorruptStoreError, match=f"{array} has shape .* and {claimed} stored bytes; "):
        Store(path)


@pytest.mark.parametrize(
    "value",
    [REMOVED, None, [], 7, "2, 3, 3", [2, 3], [2, 3, 3, 1], [2, 3, 2], [2, 3, 5], [2, 4, 3], [3, 3, 3], [2, 3, -3],
     [2, 3, 3.0], [2, 3, "3"], [2, 3, None], [2, 3, 10**400], {}],
)  # fmt: skip
def test_a_logical_shape_that_does_not_pack_into_what_is_stored_is_a_corrupt_store(
    write_store: WriteStore, value: Any
) -> None:
    path, _ = write_store(encoding="uint4")
    assert Store(path).sample_shape == (2, 3, 3)
    put(path / "zarr.json", "attributes.logical_shape", value)
    reseal(path)
    with pytest.raises(CorruptStoreError, match=rf"{path}: logical shape .* in stored samples of \(2, 3, 2\)"):
        Store(path)


@pytest.mark.parametrize("array", ["", "x", "y", "sample_id", "scale"])
@pytest.mark.parametrize("content", [b"", b"{", b"null", b"[]", b'{"attributes":' * 10**5])
def test_metadata_that_is_no_json_is_a_corrupt_store(write_store: WriteStore, array: str, content: bytes) -> None:
    path, _ = write_store()
    (path / array / "zarr.json").write_bytes(content)
    reseal(path)
    with pytest.raises(CorruptStoreError, match=r"zarr\.json is damaged"):
        Store(path)


@pytest.mark.parametrize("array", ["", "x", "y", "sample_id", "scale"])
def test_missing_metadata_is_a_corrupt_store(write_store: WriteStore, array: str) -> None:
    path, _ = write_store()
    (path / array / "zarr.json").unlink()
    with pytest.raises(CorruptStoreError, match=r"zarr\.json is missing"):
        Store(path)


@pytest.mark.parametrize("array", ["", "x", "y", "sample_id", "scale"])
def test_flipped_bit_anywhere_in_the_metadata_is_caught(write_store: WriteStore, array: str) -> None:
    path, _ = write_store(samples=4)
    file = path / array / "zarr.json"
    whole = file.read_bytes()
    for data in (*(flipped(whole, position) for position in range(len(whole))), whole[:-1], whole + b" ", b"\xff\xfe"):
        file.write_bytes(data)
        with pytest.raises(CorruptStoreError, match=f"{file} is damaged: it is not what was committed"):
            Store(path)


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
