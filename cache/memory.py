"""Host memory that readers work in: a ring of batches, and chunks that stay. Both are bounded in bytes."""

import mmap
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

ChunkName = tuple[str, int, int]
"""Path of the store, view, number of the chunk."""


def aligned_buffer(nbytes: int) -> NDArray[np.uint8]:
    """Zeroed bytes that begin with a page, in huge pages where the system has them.

    Numpy's own large arrays begin 16 bytes into a page. On AMD Zen 3 a file's page is copied there at a third of the
    speed: its `rep movsb` is slow where source and destination differ by so little modulo 4096.
    """
    own = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # a shared mapping is given no huge pages
    memory = mmap.mmap(-1, max(nbytes, 1), flags=own)
    with suppress(OSError):  # a kernel without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8, nbytes)


class Ring:
    """Bytes for the batches of one reader at a time; the caller's own, as pinned for a device, or aligned ones."""

    def __init__(self, memory: NDArray[np.uint8]) -> None:
        self.nbytes = memory.nbytes
        self._memory = memory
        self._in_use = threading.Lock()

    @contextmanager
    def lend(self) -> Iterator[NDArray[np.uint8]]:
        """The bytes, for as long as the context is open. Raises RuntimeError where another reader has them."""
        if not self._in_use.acquire(blocking=False):
            raise RuntimeError("batches are being read into this ring already: draw them all, or close them")
        try:
            yield self._memory
        finally:
            self._in_use.release()


class ChunkCache:
    """Decoded chunks, the first that come, until `nbytes` are full.

    None is ever put out: an epoch reads each chunk once, so whichever was put out would be missed as much.
    """

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self._chunks: dict[ChunkName, NDArray[Any]] = {}
        self._claimed = 0
        self._changing = threading.Lock()

    def get(self, name: ChunkName) -> NDArray[Any] | None:
        """A chunk that is kept, or None."""
        return self._chunks.get(name)

    def claim(self, nbytes: int) -> bool:
        """Set room aside for a chunk to come; False where there is none left."""
        with self._changing:
            fits = self._claimed + nbytes <= self.nbytes
            self._claimed += nbytes * fits
            return fits

    def release(self, nbytes: int) -> None:
        """Give back room that was claimed."""
        with self._changing:
            self._claimed -= nbytes

    def keep(self, name: ChunkName, chunk: NDArray[Any]) -> None:
        """Keep a chunk that room was claimed for; it is not written to any more."""
        self._chunks[name] = chunk
