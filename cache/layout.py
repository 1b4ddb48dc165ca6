"""Where a store keeps what: a Zarr v3 group with the arrays x, y, sample_id and scale, and a manifest beside them.

zarr.json            attributes: format, encoding and whatever the writer adds
x/c.V.K.0.0.0        chunk K of view V of activations (view, sample, channel, height, width)
y/c.0  sample_id/c.0 one label and one sample id for each row
scale/c.0            one float32 for each channel
manifest.json        covers every byte of the above; written last: a store without it does not exist (`cache.manifest`)
journal              only while the store is written: the chunks of x that are durable (`cache.journal`)

zarr-python, asked to list the members of the group, warns that it does not know manifest.json. It would of any name.
"""

import msgspec

FORMAT = 2
"""Version of everything this page describes, and of manifest and journal. A reader refuses every other."""

MANIFEST = "manifest.json"
JOURNAL = "journal"
CHUNK_BYTES = 8 * 2**20
"""Decoded size that a chunk stays within, unless one sample alone is larger."""
RECORD_BYTES = 64 * 2**20
"""What a file that is read as a whole stays within: one that someone blew up does not fill the memory."""
MANIFEST_BYTES = 512 * 2**20
"""The same of a manifest, and of a journal: some 20 million chunks, which a disk seldom has files for."""
SMALL_ARRAYS = ("y", "sample_id", "scale")
"""Arrays of one chunk."""
METADATA = ("zarr.json", *(f"{name}/zarr.json" for name in ("x", *SMALL_ARRAYS)))
"""The metadata files of a store."""


class ChunkRecord(msgspec.Struct, frozen=True):
    """What is durable of one chunk."""

    length: int
    """Bytes of its file."""
    crc32c: int
    """Of those bytes without the codec's trailer of four."""


def chunk_samples(run: int, sample_bytes: int) -> int:
    """Samples in a chunk: the largest divisor of `run` whose samples fit in CHUNK_BYTES, at least one.

    A divisor, so that a run of samples, the unit that is shuffled and shares a view, is a whole number of chunks
    whatever the size of a sample.
    """
    return max(n for n in range(1, run + 1) if run % n == 0 and (n == 1 or n * sample_bytes <= CHUNK_BYTES))


def chunk_key(*index: int) -> str:
    """File name of a chunk: default chunk key encoding with separator "."."""
    return ".".join(["c", *map(str, index)])
