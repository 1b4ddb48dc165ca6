"""One writer at a time in a run folder, who says what it does; readers are never blocked."""

import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import msgspec

from cache import CorruptStoreError, replace_file
from pipeline.bad_images import printable
from pipeline.errors import CascadeError, CorruptDataError, LockedError
from pipeline.links import read_file

LOCK = ".lock"
HOLDER = ".holder"
TRIES, BETWEEN_SECONDS = 100, 0.01
"""For a second in which the holder has the lock and has not said yet who it is."""

MAX_PROCESS = 2**22
"""The largest id that Linux gives."""


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds a run folder."""

    process: Annotated[int, msgspec.Meta(ge=1, le=MAX_PROCESS)]
    """Its id."""
    began: int | None
    """When it began, in the kernel's ticks: ids are used again. None where the system does not say."""
    host: str
    """Name of the machine."""
    doing: str
    """In words."""


class Lock:
    """A run folder held for writing."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def says(self, doing: str) -> None:
        """Let others know what is done now."""
        holder = Holder(process=os.getpid(), began=_began(os.getpid()), host=socket.gethostname(), doing=doing)
        with suppress(OSError):  # a full disk: whoever makes room on it needs the lock too
            replace_file(self._path / HOLDER, msgspec.json.encode(holder))


@contextmanager
def lock_folder(path: Path, doing: str, *, held: Lock | None = None) -> Iterator[Lock]:
    """Hold a run folder for writing by a kernel lock, which dies with its holder; or go on with the one that is `held`.

    Raises CascadeError where the folder cannot be written, CorruptDataError where what is to be locked is no file, and
    LockedError, naming the holder, where another process holds it.
    """
    if held is not None:
        held.says(doing)
        yield held
        return
    check_writable(path)
    with _opened(path / LOCK) as descriptor:
        _acquire(descriptor, path)
        lock = Lock(path)
        lock.says(doing)
        try:
            yield lock
        finally:
            with suppress(OSError):
                (path / HOLDER).unlink()


@contextmanager
def lock_behind(link: Path, doing: str) -> Iterator[None]:
    """Where a path is a link, as x_0 that run folders share, hold the folder too that it leads into.

    Not where this user may not write there, and so changes nothing. Raises LockedError.
    """
    owner = link.resolve().parent
    if not link.is_symlink() or not os.access(owner, os.W_OK | os.X_OK, effective_ids=True):
        yield
        return
    with lock_folder(owner, doing):
        yield


def is_writable(folder: Path) -> bool:
    """Whether a file can be made in a folder; one that is not there says nothing against it."""
    return not folder.exists() or os.access(folder, os.W_OK | os.X_OK, effective_ids=True)


def check_writable(folder: Path) -> None:
    """Raise CascadeError, before any work, where no file can be made in a folder that is there."""
    if is_writable(folder):
        return
    status = folder.stat()
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        reason, remedy = "it lies on a read-only file system", "mount it for writing"
    else:
        reason = f"it is user {status.st_uid}'s, with mode {status.st_mode & 0o7777:o}, and this is user {os.geteuid()}"
        remedy = "give this user the right to write and search it (chmod, chown)"
    raise CascadeError(f"{folder} cannot be written: {reason}\nnext: {remedy}, or work on a copy of the run folder")


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """The file to be locked, made where it is not there; a link is not followed, and a pipe not waited for."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise _no_file(path) from error
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _no_file(path)
        yield descriptor
    finally:
        os.close(descriptor)


def _no_file(path: Path) -> CorruptDataError:
    return CorruptDataError(f"{path} is not a file, but a link or a device\nnext: remove it")


def _acquire(descriptor: int, path: Path) -> None:
    for _ in range(TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            holder = _read_holder(path)
        if holder is not None and _is_alive(holder):  # else the one before left its name
            raise LockedError(
                f"{path} is in use by process {holder.process} on {printable(holder.host)}: {printable(holder.doing)}\n"
                f"next: wait for it, or end it there with kill {holder.process}"
            )
        time.sleep(BETWEEN_SECONDS)
    raise LockedError(f"{path} is in use by another process\nnext: wait for it")


def _read_holder(path: Path) -> Holder | None:
    with suppress(OSError, CorruptStoreError, msgspec.MsgspecError):
        return msgspec.json.decode(read_file(path / HOLDER), type=Holder)
    return None


def _is_alive(holder: Holder) -> bool:
    """Whether a holder still runs, as far as this machine can tell."""
    if holder.host != socket.gethostname():
        return True
    if (began := _began(holder.process)) is not None:
        return began == holder.began
    try:
        os.kill(holder.process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def _began(process: int) -> int | None:
    with suppress(OSError):
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19])
    return None
