"""Codecs: how the stored numbers of a chunk become bytes, losslessly, with a checksum behind them.

The chain on disk is [bytes, little endian] -> [zstd | blosc with lz4 and no shuffle | nothing] -> [crc32c], all of
them core Zarr v3 codecs, so that zarr-python and tensorstore read what is written here. Shuffle filters make
sparse activations larger.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

import crc32c
import numcodecs.blosc
import numcodecs.zstd
import numpy as np
from numpy.typing import NDArray
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from cache.errors import CorruptStoreError
from cache.files import Buffer
from cache.layout import ChunkRecord
from cache.metadata import Codec

CodecName = Literal["none", "lz4", "zstd"]
CODECS: tuple[CodecName, ...] = get_args(CodecName)
CHECKSUM_BYTES = 4
BLOSC_HEADER_BYTES = 16
ZSTD_FRAME_BYTES = 18
"""Magic number and the longest frame header."""
ZSTD_BLOCK_BYTES = 2**17
ZSTD_BLOCK_HEADER_BYTES = 3

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


def codec_of(chain: Sequence[Codec]) -> CodecName:
    """The codec that an array's metadata names.

    Raises CorruptStoreError where the chain is none that this package writes.
    """
    match [(codec.name, codec.configuration) for codec in chain]:
        case [("bytes", {"endian": "big"}), *_]:
            pass
        case [("bytes", _), ("crc32c", _)]:
            return "none"
        case [("bytes", _), ("zstd", _), ("crc32c", _)]:
            return "zstd"
        case [("bytes", _), ("blosc", {"cname": "lz4", "shuffle": "noshuffle"}), ("crc32c", _)]:
            return "lz4"
    raise CorruptStoreError(f"the codecs are none that cascade writes: {list(chain)}")


def checksum(body: Iterable[Any], crc: int = 0) -> int:
    """The crc32c of a chunk's bytes, in parts, without the trailer that the crc32c codec appends; `crc`
    is that of the parts before.

    Over the trailer too it would be the same number for every chunk, and two swapped chunks would pass. Computed by
    the package crc32c, since google_crc32c, which comes with zarr, holds the interpreter's lock meanwhile.
    """
    for part in body:
        crc = crc32c.crc32c(part, crc)
    return int(crc)


def trailer(crc32c: int) -> bytes:
    """What the crc32c codec appends."""
    return crc32c.to_bytes(CHECKSUM_BYTES, "little")


def pack(numbers: NDArray[Any], codec: CodecName) -> Buffer:
    """The bytes of a chunk as they are stored, without the trailer; uncompressed, these are the numbers themselves."""
    raw = np.ascontiguousarray(numbers)
    match codec:
        case "zstd":
            zstd: bytes = numcodecs.zstd.compress(raw, 1)
            return zstd
        case "lz4":
            lz4: bytes = numcodecs.blosc.compress(raw, b"lz4", 5, numcodecs.blosc.NOSHUFFLE)
            return lz4
        case "none":
            return raw.reshape(-1).view(np.uint8).data


def pack_chunk(numbers: NDArray[Any], codec: CodecName) -> tuple[list[Buffer], ChunkRecord]:
    """The bytes of a chunk's file, in parts, and the record of it."""
    body = pack(numbers, codec)
    crc = checksum([body])
    return [body, trailer(crc)], ChunkRecord(length=len(body) + CHECKSUM_BYTES, crc32c=crc)


def packed_bytes_at_most(nbytes: int, codec: CodecName) -> int:
    """Bytes that a codec makes of `nbytes`, whatever they are, without the trailer.

    What does not compress is stored as it is: by blosc behind a header, by zstd in blocks of 128 KB (RFC 8878, 3.1.1).
    """
    match codec:
        case "zstd":
            return nbytes + ZSTD_FRAME_BYTES + ZSTD_BLOCK_HEADER_BYTES * -(-nbytes // ZSTD_BLOCK_BYTES)
        case "lz4":
            return nbytes + BLOSC_HEADER_BYTES
        case "none":
            return nbytes


def decoded_bytes(body: Buffer, codec: CodecName) -> int:
    """Decoded size of a chunk, as its stored bytes without the trailer state it.

    Raises CorruptStoreError where they are too short to state one.
    """
    data = memoryview(body)
    try:
        match codec:
            case "zstd":  # RFC 8878, 3.1.1.1: magic, descriptor, [window], [dictionary id], content size
                size_flag, single_segment, dictionary_flag = data[4] >> 6, data[4] >> 5 & 1, data[4] & 3
                start = 5 + (1 - single_segment) + (0, 1, 2, 4)[dictionary_flag]
                size = int.from_bytes(data[start : start + (single_segment, 2, 4, 8)[size_flag]], "little")
                return size + 256 if size_flag == 1 else size
            case "lz4":  # blosc: two versions, flags, element size, decoded size
                return int.from_bytes(data[4:8], "little")
            case "none":
                return len(data)
    except IndexError as error:
        raise CorruptStoreError(f"a chunk does not decode: {len(data)} bytes are too few") from error


def unpack(body: Buffer, codec: CodecName, dest: NDArray[Any]) -> None:
    """Decode the bytes of a chunk, already checked, into `dest`, a C-contiguous array of its decoded size.

    Raises CorruptStoreError where they do not decode to that size: the decoders leave the rest of a larger array unset.
    """
    size = decoded_bytes(body, codec)
    if size != dest.nbytes:
        raise CorruptStoreError(f"a chunk decodes to {size} bytes, where {dest.nbytes} belong")
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
