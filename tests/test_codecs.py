from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cache import CODECS, CodecName, CorruptStoreError
from cache.codecs import checksum, codec_of, decoded_bytes, pack, trailer, unpack, zarr_codecs
from cache.metadata import Codec

BYTES, CRC32C = Codec("bytes", {"endian": "little"}), Codec("crc32c")
LZ4 = {"cname": "lz4", "clevel": 5, "shuffle": "noshuffle", "typesize": 4, "blocksize": 0}


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "int64"])
def test_every_bit_comes_back(codec: CodecName, dtype: str) -> None:
    bits = np.random.default_rng(0).integers(0, 256, 7 * 24, dtype=np.uint8)  # as floats: nans and subnormals too
    numbers = bits.view(dtype).reshape(7, -1)
    dest = np.empty_like(numbers)
    unpack(pack(numbers, codec), codec, dest)
    assert dest.tobytes() == numbers.tobytes()


@pytest.mark.parametrize("codec", CODECS)
def test_same_numbers_give_the_same_bytes(codec: CodecName) -> None:
    numbers = np.random.default_rng(0).normal(size=(64, 100)).clip(0).astype(np.float32)
    assert pack(numbers, codec) == pack(numbers[::-1][::-1], codec)


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_sparse_numbers_take_fewer_bytes(codec: CodecName) -> None:
    numbers = np.random.default_rng(0).normal(size=(64, 100)).clip(1).astype(np.float16)
    assert len(pack(numbers, codec)) < numbers.nbytes / 2


@pytest.mark.parametrize("parts", [[b"123456789"], [b"1234", b"", b"56789"]])
def test_checksum_is_crc32c_in_however_many_parts_the_bytes_come(parts: list[bytes]) -> None:
    assert checksum(parts) == 0xE3069283  # the check value of CRC-32C
    assert trailer(0xE3069283) == bytes.fromhex("839206e3")  # little endian


@pytest.mark.parametrize("codec", CODECS)
def test_checksum_tells_chunks_apart(codec: CodecName) -> None:
    one, other = (pack(np.full(100, n, np.float32), codec) for n in (1, 2))
    assert checksum([one]) != checksum([other])


@pytest.mark.parametrize("codec", CODECS)
def test_codec_is_known_by_its_metadata(codec: CodecName) -> None:
    chain = [Codec(**{"configuration": {}, **c.to_dict()}) for c in zarr_codecs(codec, itemsize=4)]  # type: ignore[arg-type]
    assert chain[-1].name == "crc32c"
    assert codec_of([BYTES, *chain]) == codec
    assert codec_of([Codec("bytes"), *chain]) == codec  # one-byte elements have no order of bytes


@pytest.mark.parametrize(
    "chain",
    [
        [],
        [BYTES],
        [CRC32C],
        [BYTES, CRC32C, CRC32C],
        [BYTES, Codec("zstd")],
        [BYTES, CRC32C, Codec("zstd")],
        [BYTES, Codec("gzip"), CRC32C],
        [BYTES, Codec("blosc"), CRC32C],
        [BYTES, Codec("blosc", {**LZ4, "shuffle": "bitshuffle"}), CRC32C],
        [BYTES, Codec("blosc", {**LZ4, "cname": "zstd"}), CRC32C],
        [Codec("bytes", {"endian": "big"}), CRC32C],
        [Codec("transpose", {"order": [1, 0]}), BYTES, CRC32C],
    ],
)
def test_chain_that_cascade_never_writes_is_refused(chain: list[Codec]) -> None:
    with pytest.raises(CorruptStoreError, match="the codecs are none that cascade writes"):
        codec_of(chain)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size", [1, 255, 256, 257, 65791, 65792, 2**20])
def test_decoded_size_is_read_from_the_stored_bytes(codec: CodecName, size: int) -> None:
    assert decoded_bytes(pack(np.ones(size, np.uint8), codec), codec) == size


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("elements", [0, 1, 15, 17, 1000])
def test_chunk_of_another_size_is_refused_and_leaves_nothing_unset(codec: CodecName, elements: int) -> None:
    stored = pack(np.arange(16, dtype=np.uint8), codec)
    with pytest.raises(CorruptStoreError, match=f"a chunk decodes to 16 bytes, where {elements} belong"):
        unpack(stored, codec, np.empty(elements, np.uint8))


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_chunk_that_does_not_decode_is_a_corrupt_store(codec: CodecName) -> None:
    dest: NDArray[Any] = np.empty(10_000, np.uint8)
    stored = bytearray(pack(np.arange(10_000, dtype=np.int32).astype(np.uint8), codec))
    stored[16:] = b"\xff" * len(stored[16:])  # behind the header, which states the size
    with pytest.raises(CorruptStoreError, match="a chunk does not decode"):
        unpack(bytes(stored), codec, dest)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("length", range(8))
def test_chunk_of_a_few_bytes_is_a_corrupt_store(codec: CodecName, length: int) -> None:
    with pytest.raises(CorruptStoreError):
        unpack(b"\xff" * length, codec, np.empty(16, np.uint8))
