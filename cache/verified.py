"""Reading what was committed, and nothing else."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from cache.codecs import CHECKSUM_BYTES, checksum, trailer
from cache.errors import CorruptStoreError
from cache.layout import ChunkRecord
from cache.manifest import Manifest
from cache.place import Bytes, OpenObject, Place
from cache.timing import Timings

PIECE_BYTES = 4 * 2**20
"""Read, then checked and copied, in one go: small enough for the processor's caches, and large enough that threads
seldom ask for the interpreter's lock. With pieces of 256 KB two threads read at 0.6 to 0.7 of the speed
(docs/performance.md)."""


class VerifiedRead:
    """Reads the bytes of a chunk front to back, computes their checksum on the way, and compares it in the end.

    All raise CorruptStoreError where the bytes are not the ones that were committed; `what` names the chunk.
    """

    def __init__(self, stored: OpenObject, committed: ChunkRecord, what: str, timings: Timings) -> None:
        if stored.length != committed.length:
            raise CorruptStoreError(f"{what} has {stored.length} bytes; {committed.length} were committed")
        self._stored = stored
        self._committed = committed
        self._what = what
        self._timings = timings
        self._offset = 0
        self._crc32c = 0

    def read(self, buffers: Sequence[Bytes], nbytes: int) -> None:
        """Fill buffers, together `nbytes` long, with the bytes that come next."""
        stop = self._offset + nbytes
        if stop > self._committed.length - CHECKSUM_BYTES:
            raise CorruptStoreError(f"{self._what} has {self._committed.length} bytes, too few for its shape")
        with self._timings.of("disk"):
            self._fill(buffers, nbytes)
        self._offset = stop
        with self._timings.of("decode"):
            self._crc32c = checksum(buffers, self._crc32c)

    def read_all(self, body: Bytes) -> None:
        """Fill one flat buffer with all bytes."""
        for start in range(0, body.nbytes, PIECE_BYTES):
            piece = body[start : start + PIECE_BYTES]
            self.read([piece], piece.nbytes)

    def finish(self) -> None:
        """Verify what was read."""
        tail = np.empty(CHECKSUM_BYTES, np.uint8)
        if self._offset + CHECKSUM_BYTES != self._committed.length:
            raise CorruptStoreError(f"{self._what} has {self._committed.length} bytes, too many for its shape")
        self._fill([tail], CHECKSUM_BYTES)
        if self._crc32c != self._committed.crc32c or tail.tobytes() != trailer(self._crc32c):
            raise CorruptStoreError(f"{self._what} fails its checksum")

    def _fill(self, buffers: Sequence[Bytes], nbytes: int) -> None:
        try:
            self._stored.read(self._offset, buffers, nbytes)
        except EOFError as error:
            raise CorruptStoreError(f"{self._what}: {error}") from error


@contextmanager
def verified(place: Place, name: str, committed: ChunkRecord, what: str, timings: Timings) -> Iterator[VerifiedRead]:
    """A chunk, to be read to its end; verified when the context ends. Raises CorruptStoreError, `what` names it."""
    try:
        with place.open(name) as stored:
            chunk = VerifiedRead(stored, committed, what, timings)
            yield chunk
            chunk.finish()
    except FileNotFoundError:
        raise CorruptStoreError(f"{what} is missing") from None


def verify(place: Place, name: str, committed: ChunkRecord, what: str) -> None:
    """Read a chunk, keep nothing of it, and raise CorruptStoreError where it is not what was committed."""
    nbytes = max(committed.length - CHECKSUM_BYTES, 0)
    piece = np.empty(min(nbytes, PIECE_BYTES), np.uint8)
    with verified(place, name, committed, what, Timings()) as chunk:
        for start in range(0, nbytes, PIECE_BYTES):
            here = piece[: min(PIECE_BYTES, nbytes - start)]
            chunk.read([here], here.nbytes)


def verify_metadata(place: Place, name: str, manifest: Manifest) -> None:
    """Raise CorruptStoreError where a metadata file of a store is not what was committed."""
    try:
        found = place.read(name)
    except FileNotFoundError:
        raise CorruptStoreError(f"{manifest.path / name} is missing") from None
    if found != manifest.summary.metadata[name].encode():
        raise CorruptStoreError(f"{manifest.path / name} is damaged: it is not what was committed")
