"""Where the bytes of a store are: a local folder, or whatever zarr-python has a store for."""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import zarr.abc.store
from numpy.typing import NDArray
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from cache.errors import CorruptStoreError
from cache.layout import RECORD_BYTES

Bytes = NDArray[np.uint8]
"""A flat, contiguous buffer."""
MAX_BUFFERS = 1024
"""Buffers that one system call takes (IOV_MAX)."""


class OpenObject(Protocol):
    """An object that is being read."""

    length: int
    """Bytes."""

    def read(self, offset: int, buffers: Sequence[Bytes], nbytes: int) -> None:
        """Fill buffers, one after the other, with the `nbytes` bytes from `offset` on. Raises EOFError."""


class Place(Protocol):
    """Objects by name, as "x/c.0.0.0.0.0". Both methods raise FileNotFoundError, and CorruptStoreError for what is no
    object, as a link."""

    def read(self, name: str, limit: int = RECORD_BYTES) -> bytes:
        """All bytes of an object. Raises CorruptStoreError where there are more than `limit`."""

    def open(self, name: str) -> AbstractContextManager[OpenObject]:
        """An object, to be read in parts."""


class Folder:
    """A local folder; files are read by positional reads straight into the buffers.

    A link in a file's place is not followed: it would lead out of the store. Nor is a pipe waited for.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, name: str, limit: int = RECORD_BYTES) -> bytes:
        with self.open(name, limit) as file:
            return b"".join(file.lines())

    @contextmanager
    def open(self, name: str, limit: int | None = None) -> Iterator["_File"]:
        path = self.path / name
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise CorruptStoreError(f"{path} is not a file, but a link or a device") from error
            raise
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise CorruptStoreError(f"{path} is not a file")
            file = _File(path, descriptor)
            _check_length(path, file.length, limit)
            yield file
        finally:
            os.close(descriptor)


class _File:
    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self.length = os.fstat(descriptor).st_size

    def read(self, offset: int, buffers: Sequence[Bytes], nbytes: int) -> None:
        left = list(buffers)
        while nbytes:
            with _naming(self._path):
                count = os.preadv(self._descriptor, left[:MAX_BUFFERS], offset)  # type: ignore[arg-type]
            if not count:
                raise EOFError("the file became shorter while it was read")
            offset += count
            nbytes -= count
            if nbytes:
                left = _rest(left, count)

    def lines(self, count: int | None = None) -> list[bytes]:
        """The first lines, or all, with their ends."""
        with os.fdopen(os.dup(self._descriptor), "rb") as file, _naming(self._path):
            return list(islice(file, count))


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say of what fails which file it is: a failing disk does not."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def _rest(left: list[Bytes], count: int) -> list[Bytes]:
    """What is left of buffers of which `count` bytes are filled."""
    while left and count >= left[0].nbytes:
        count -= left.pop(0).nbytes
    if count:
        left[0] = left[0][count:]
    return left


class ZarrStore:
    """Any store of zarr-python: memory, zip, object storage."""

    def __init__(self, store: zarr.abc.store.Store) -> None:
        self.store = store

    def read(self, name: str, limit: int = RECORD_BYTES) -> bytes:
        data = self._fetched(name)
        _check_length(name, len(data), limit)
        return data

    @contextmanager
    def open(self, name: str) -> Iterator[OpenObject]:
        yield _Bytes(self._fetched(name))

    def _fetched(self, name: str) -> bytes:
        found = sync(self.store.get(name, prototype=default_buffer_prototype()))
        if found is None:
            raise FileNotFoundError(name)
        return found.to_bytes()


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self.length = len(data)

    def read(self, offset: int, buffers: Sequence[Bytes], nbytes: int) -> None:
        for buffer in buffers:
            buffer[:] = np.frombuffer(self._data, np.uint8, len(buffer), offset)
            offset += len(buffer)


def _check_length(name: object, length: int, limit: int | None) -> None:
    if limit is not None and length > limit:
        raise CorruptStoreError(f"{name} is damaged: it has {length:,} bytes, and {limit:,} at most belong there")


def place_of(where: Path | zarr.abc.store.Store) -> Place:
    """The place that a path, or an open store of zarr-python, stands for."""
    return Folder(where) if isinstance(where, Path) else ZarrStore(where)
