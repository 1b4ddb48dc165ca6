"""One writer at a time in a run folder; readers are never blocked."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import LockedError


@contextmanager
def lock_folder(path: Path, doing: str) -> Iterator[None]:
    """Hold a run folder for writing by a kernel lock, which dies with its holder.

    Raises LockedError, naming the holder, where another process does.
    """
    with open(path / ".lock", "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise LockedError(
                f"{path} is in use by {file.read().strip() or 'another process'}\nnext: wait for it"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}: {doing}\n")
        file.flush()
        yield
