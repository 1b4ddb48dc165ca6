"""What a store will take on disk, all its files together, before any of it is written."""

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.codecs import CHECKSUM_BYTES, CodecName, pack_chunk, packed_bytes_at_most
from cache.encodings import ELEMENT_TYPES, sample_bytes, stored_shape
from cache.hierarchy import SMALL_CODEC, metadata_files
from cache.layout import ChunkRecord, chunk_samples
from cache.manifest import Chunks, Fingerprint, encode_manifest
from cache.writer import own_attributes

WIDEST = 2**32 - 1
"""A checksum of as many digits as any has."""


@dataclass(frozen=True)
class Footprint:
    """Bytes of a store's files."""

    x: int
    """Of the chunks of x, the last one of a view whole."""
    rest: int
    """Of all others: labels, sample ids, scale, metadata, manifest."""

    @property
    def nbytes(self) -> int:
        return self.x + self.rest

    def __add__(self, other: "Footprint") -> "Footprint":
        return Footprint(self.x + other.x, self.rest + other.rest)


def footprint(
    *,
    views: int,
    samples: int,
    sample_shape: tuple[int, int, int],
    encoding: str,
    codec: CodecName,
    run: int,
    small: tuple[int, int, int],
    fingerprint: Fingerprint,
    attributes: dict[str, Any],
) -> Footprint:
    """The size of the store that a StoreWriter of these arguments commits; `small` are the bytes on disk of labels,
    sample ids and scale.

    At most: a codec may make less of x, and the manifest takes every checksum for ten digits, of which it has 9.7 in
    the mean. Without a codec that is all that is not exact, so that the bytes are too many by a third of one a chunk.
    """
    sample = sample_bytes(encoding, sample_shape)
    chunk = chunk_samples(run, sample)
    chunks = views * -(-samples // chunk)
    length = packed_bytes_at_most(chunk * sample, codec) + CHECKSUM_BYTES
    shape = (views, samples, *stored_shape(encoding, sample_shape))
    texts = dict(_metadata_files(shape, (1, chunk, *shape[2:]), encoding, codec, sample_shape[0]))
    texts["zarr.json"] = _with_attributes(texts["zarr.json"], {**attributes, **own_attributes(encoding, sample_shape)})
    rest = sum(small) + sum(len(text.encode()) for text in texts.values())
    return Footprint(chunks * length, rest + _manifest_bytes(fingerprint, texts, chunks, length, small))


def packed_bytes(values: NDArray[Any]) -> int:
    """Bytes of the file of a small array, as labels."""
    return pack_chunk(values, SMALL_CODEC)[1].length


def small_bytes_at_most(nbytes: int) -> int:
    """The same of one of so many bytes, whatever they are."""
    return packed_bytes_at_most(nbytes, SMALL_CODEC) + CHECKSUM_BYTES


@lru_cache
def _metadata_files(
    shape: tuple[int, ...], chunk: tuple[int, ...], encoding: str, codec: CodecName, channels: int
) -> dict[str, str]:
    """Kept, since zarr-python takes 4 ms for them, and a thousand blocks have few shapes."""
    dtype = np.dtype(ELEMENT_TYPES[encoding])
    return metadata_files(shape=shape, chunk=chunk, dtype=dtype, codec=codec, channels=channels, attributes={})


def _with_attributes(text: str, attributes: dict[str, Any]) -> str:
    """A group's metadata with attributes in it, as zarr-python writes them."""
    indented = json.dumps(attributes, indent=2).replace("\n", "\n  ")
    return text.replace('"attributes": {}', f'"attributes": {indented}')


def _manifest_bytes(
    fingerprint: Fingerprint, texts: dict[str, str], chunks: int, length: int, small: tuple[int, int, int]
) -> int:
    """Of the manifest: that of a store of one chunk, and what the others add to its table and its sums."""
    lengths = dict(zip(("x", "y", "sample_id", "scale"), (length, *small), strict=True))
    arrays = {name: Chunks.of([ChunkRecord(own, WIDEST)]) for name, own in lengths.items()}
    of_one = sum(lengths.values())
    added = (chunks - 1) * (_digits(length) + _digits(WIDEST) + 2)
    added += _digits(chunks) - 1 + _digits(of_one + (chunks - 1) * length) - _digits(of_one)
    checksums = 2 * _digits(WIDEST)  # of the summary and of the table, here of whatever length
    head, summary, table = encode_manifest(fingerprint, texts, arrays).split(b"\n")[:3]
    own = sum(map(len, (head, summary, table))) + 3
    return own + added + checksums - _checksum_digits(head, summary)


def _checksum_digits(head: bytes, summary: bytes) -> int:
    """Digits of the two checksums that lines 1 and 2 of a manifest end in."""
    return sum(len(line.rpartition(b":")[2]) - 1 for line in (head, summary))


def _digits(number: int) -> int:
    return len(str(number))
