"""Codecs: how the stored numbers of a chunk become bytes, losslessly, with a checksum behind them.

The chain on disk is [bytes, little endian] -> [zstd | blosc with lz4 and no shuffle | nothing] -> [crc32c], all of
them core Zarr v3 codecs, so that zarr-python and tensorstore read what is written here. Shuffle filters make
sparse activations larger.
"""

from typing import Any, Literal, get_args

import google_crc32c
import numcodecs.blosc
import numcodecs.zstd
import numpy as np
from numpy.typing import NDArray
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from cache.errors import CorruptStoreError

CodecName = Literal["none", "lz4", "zstd"]
CODECS: tuple[CodecName, ...] = get_args(CodecName)
CHECKSUM_BYTES = 4

numcodecs.blosc.use_threads = False  # its own threads are unsafe when many of ours compress at once


def zarr_codecs(codec: CodecName, itemsize: int) -> list[BytesBytesCodec]:
    """The bytes-to-bytes codecs of `codec` as zarr-python writes them to metadata."""
    match codec:
        case "zstd":
            return [ZstdCodec(level=1), Crc32cCodec()]
        case "lz4":
            return [BloscCodec(cname="lz4", clevel=5, shuffle="noshuffle", typesize=itemsize), Crc32cCodec()]
        case "none":
            return [Crc32cCodec()]


def codec_of(metadata: dict[str, Any]) -> CodecName:
    """The codec that the array metadata of a `zarr.json` names.

    Raises CorruptStoreError where the chain is none that this package writes.
    """
    match [(codec["name"], codec.get("configuration", {})) for codec in metadata["codecs"]]:
        case [("bytes", _), ("crc32c", _)]:
            return "none"
        case [("bytes", _), ("zstd", _), ("crc32c", _)]:
            return "zstd"
        case [("bytes", _), ("blosc", {"cname": "lz4", "shuffle": "noshuffle"}), ("crc32c", _)]:
            return "lz4"
    raise CorruptStoreError(f"codecs {[codec['name'] for codec in metadata['codecs']]} are none that cascade writes")


def checksum(stored: bytes) -> int:
    """The crc32c of a chunk's stored bytes without the trailer that the crc32c codec appends.

    Over the trailer too it would be the same number for every chunk, and two swapped chunks would pass.
    """
    return int(google_crc32c.value(np.frombuffer(stored, np.uint8)[:-CHECKSUM_BYTES]))


def pack(numbers: NDArray[Any], codec: CodecName) -> bytes:
    """The bytes of a chunk as they are stored, trailer included."""
    raw = np.ascontiguousarray(numbers)
    match codec:
        case "zstd":
            body: bytes = numcodecs.zstd.compress(raw, 1)
        case "lz4":
            body = numcodecs.blosc.compress(raw, b"lz4", 5, numcodecs.blosc.NOSHUFFLE)
        case "none":
            body = raw.tobytes()
    return body + int(google_crc32c.value(body)).to_bytes(CHECKSUM_BYTES, "little")


def unpack(stored: bytes, codec: CodecName, dest: NDArray[Any]) -> None:
    """Decode the stored bytes of a chunk, already checked, into `dest`, a C-contiguous array of its decoded size.

    Raises CorruptStoreError where they do not decode.
    """
    body = memoryview(stored)[:-CHECKSUM_BYTES]
    flat = dest.reshape(-1).view(np.uint8)
    try:
        match codec:
            case "zstd":
                numcodecs.zstd.decompress(body, flat)
            case "lz4":
                numcodecs.blosc.decompress(body, flat)
            case "none":
                flat[:] = np.frombuffer(body, np.uint8)
    except (RuntimeError, ValueError) as error:
        raise CorruptStoreError(f"a chunk does not decode: {error}") from error
