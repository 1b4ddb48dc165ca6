"""Files that are either whole or not there."""

import os
from pathlib import Path

Buffer = bytes | memoryview


def sync(path: Path) -> None:
    """Make the bytes of a file durable, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_synced(path: Path, *parts: Buffer) -> None:
    """Write a file and make its bytes durable; the name only becomes so with `sync` of its folder."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        for part in parts:
            view = memoryview(part).cast("B")
            while view:
                view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    except OSError as error:
        error.filename = str(path)  # a full disk does not say which
        raise
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes) -> None:
    """Write `data` beside `path` and rename it into place: a reader sees the old file or the new one."""
    beside = path.with_name(f".{path.name}.new")
    write_synced(beside, data)
    os.replace(beside, path)
    sync(path.parent)
