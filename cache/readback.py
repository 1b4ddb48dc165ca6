"""A committed store, read from the disk once more."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np

from cache.in_threads import in_threads
from cache.layout import chunk_key
from cache.store import Store


def read_back(path: Path, *, threads: int = 2) -> None:
    """Verify length and checksum of every chunk of the store in a folder, as the disk has it and not the page cache.

    Raises NoStoreError, or CorruptStoreError for the first damaged chunk.
    """
    store = Store(path)

    def read(chunk: tuple[int, int]) -> None:
        view, number = chunk
        forget(path / "x" / chunk_key(view, number, 0, 0, 0))
        store.read_chunk(view, number, np.empty((store.chunk_samples, *store.stored_shape), store.dtype))

    with ThreadPoolExecutor(threads, thread_name_prefix="read-back") as pool:
        for _ in in_threads(pool, read, _chunks(store)):
            pass


def forget(path: Path) -> None:
    """Let the system drop a file's pages, where it is there and they are written."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # a pipe would wait for ever
    except OSError:
        return  # reading it says so
    try:
        with suppress(OSError):  # of what is no file
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _chunks(store: Store) -> Iterator[tuple[int, int]]:
    return ((view, number) for view in range(store.views) for number in range(store.chunks_per_view))
