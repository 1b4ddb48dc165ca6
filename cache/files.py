"""Files that are either whole or not there, and folders whose names are durable."""

import os
from contextlib import suppress
from pathlib import Path

Buffer = bytes | memoryview


def sync(path: Path) -> None:
    """Make the bytes of a file durable, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        os.close(descriptor)


_DURABLE: set[Path] = set()
"""Folders whose names this process knows to be durable."""


def make_folder(path: Path) -> None:
    """Create a folder and what is missing above it, and make their names durable.

    That of a folder that is there too: who made it may have been killed before it was.
    """
    path = path.absolute()
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync(path.parent)
    elif path not in _DURABLE:
        with suppress(PermissionError):  # of a folder that may not be read, as above a run folder: none of ours
            sync(path.parent)
    _DURABLE.add(path)


def append_synced(descriptor: int, path: Path, *parts: Buffer) -> None:
    """Write to the end of an open file and make its bytes durable; a failure names `path`."""
    try:
        for part in parts:
            view = memoryview(part).cast("B")
            while view:
                view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    except OSError as error:
        error.filename = str(path)  # a full disk does not say which
        raise


def write_synced(path: Path, *parts: Buffer) -> None:
    """Write a new file in place of what is at `path`, and make its bytes durable; its name only becomes so with `sync`
    of the folder.

    Always a new file, removed when it cannot be written: after a failed fsync the system may take bytes for written
    that never were, and a second fsync of the same file would succeed.
    """
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        append_synced(descriptor, path, *parts)
    except OSError:
        with suppress(OSError):
            path.unlink()
        raise
    finally:
        os.close(descriptor)


def replace_file(path: Path, *parts: Buffer) -> None:
    """Write a file beside `path` and rename it into place: a reader sees the old file or the new one."""
    beside = path.with_name(f".{path.name}.new")
    write_synced(beside, *parts)
    try:
        os.replace(beside, path)
    except OSError:
        with suppress(OSError):
            beside.unlink()
        raise
    sync(path.parent)
