"""Files that are either whole or not there."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Make the bytes of a file durable, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and make its bytes durable; the name only becomes so with `sync` of its folder."""
    with open(path, "wb", buffering=0) as file:
        view = memoryview(data)
        try:
            while view:
                view = view[file.write(view) :]
            os.fsync(file.fileno())
        except OSError as error:
            error.filename = str(path)  # a full disk does not say which
            raise


def replace_file(path: Path, data: bytes) -> None:
    """Write `data` beside `path` and rename it into place: a reader sees the old file or the new one."""
    beside = path.with_name(f".{path.name}.new")
    write_synced(beside, data)
    os.replace(beside, path)
    sync(path.parent)
