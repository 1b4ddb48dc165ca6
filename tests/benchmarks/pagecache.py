"""Files in the page cache, or out of it."""

import ctypes
import mmap
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

READ_BYTES = 2**20


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def warm(folder: Path) -> None:
    """Make all files durable, so that no write-back falls into a measurement, and read them once."""
    os.sync()
    buffer = bytearray(READ_BYTES)
    for path in files(folder):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def drop(folder: Path) -> None:
    """Drop all files from the page cache; only from this machine's, not from that of a host below a virtual one."""
    for path in files(folder):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)  # a dirty page is not dropped
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def cached_share(folder: Path) -> float:
    """Share of the pages of all files that the page cache holds."""
    held = [resident_pages(path) for path in files(folder)]
    return float(np.concatenate(held).mean())


def resident_pages(path: Path) -> NDArray[np.bool_]:
    """Whether each page of a file is in the page cache. A read-only mapping, not touched, loads none."""
    nbytes = path.stat().st_size
    resident = np.zeros(-(-nbytes // mmap.PAGESIZE), np.uint8)
    if nbytes:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages:
            address = np.frombuffer(pages, np.uint8).ctypes.data
            failed = ctypes.CDLL(None, use_errno=True).mincore(
                ctypes.c_void_p(address), ctypes.c_size_t(nbytes), ctypes.c_void_p(resident.ctypes.data)
            )
            if failed:
                raise OSError(ctypes.get_errno(), "mincore", f"{path}")
    return (resident & 1).astype(np.bool_)
