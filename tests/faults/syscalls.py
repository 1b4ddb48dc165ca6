"""The calls by which a process changes a folder: counted, recorded, and made to fail at the N-th.

They are seen where Python makes them, in the `os` module and in files that are opened for writing, in every thread.
What changes a folder from elsewhere is not; `tests.faults.tracing` does the same with strace, and a test compares.
"""

import builtins
import errno
import io
import os
import signal
import stat
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

import msgspec

Kind = Literal["kill", "torn", "full", "io", "stop", "wait", "interrupt", "terminate"]
"""Before the call the process kills itself; half of what was to be written is, and then the same; the disk is full from
here on; this call fails; the process stops itself; the thread waits until it is traced; SIGINT comes; SIGTERM comes."""
SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "interrupt": signal.SIGINT, "terminate": signal.SIGTERM}
TAKES_ROOM = {"open", "write", "mkdir", "link"}
"""What a full disk refuses. It still takes renames and deletions."""
WAITS, SETTLES_SECONDS = "waits", 0.02
"""What a thread is called from when it waits to be traced; how long a tracer takes from attaching to tracing."""
Result = TypeVar("Result")


class Fault(msgspec.Struct, frozen=True):
    """Something that goes wrong."""

    kind: Kind
    at: int
    """Number of the call, from 0, before or in which it does; those that fail of themselves count too."""


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """A call."""

    op: str
    """open (for writing), write, truncate, fsync, rename, link, unlink, mkdir or rmdir."""
    path: str
    """Within the root; "." is that itself."""
    to: str = ""
    """Of a rename or link."""
    is_new: bool = False
    """Whether an open was to fail if the file was there."""
    nbytes: int = 0
    """Size of the file after a write or truncation."""
    content: bytes | None = None
    """Of a file that was synced; None for a folder."""
    failed: bool = False
    """Whether it raised, of itself or because a fault was put in its place."""


class Watch:
    """Counts and records the calls of this process that change what is under `root`, and puts `faults` in their place.

    One call at a time, so that the order of the record is that in which they happened.
    """

    def __init__(self, root: Path, faults: Sequence[Fault] = ()) -> None:
        self.events: list[Event] = []
        self._root = os.path.realpath(root)
        self._faults = faults
        self._is_full = False
        self._one_at_a_time = threading.RLock()

    def install(self) -> None:
        """Take the place of the functions of `os` and of `open`, for the rest of this process."""
        opens, fsync, write, ftruncate = os.open, os.fsync, os.write, os.ftruncate
        replaced: dict[str, Callable[..., Any]] = {
            "open": lambda path, flags, mode=0o777, *, dir_fd=None: self._open_descriptor(
                opens, path, flags, mode, dir_fd
            ),
            "fsync": lambda descriptor: self._fsync(fsync, descriptor),
            "fdatasync": lambda descriptor: self._fsync(fsync, descriptor),
            "ftruncate": lambda descriptor, size: self.perform(
                "truncate", _path_of(descriptor), lambda: ftruncate(descriptor, size)
            ),
            "write": lambda descriptor, data: self.write(_path_of(descriptor), data, descriptor, write),
        }
        for name in ("rename", "replace", "link"):
            replaced[name] = self._moving("link" if name == "link" else "rename", getattr(os, name))
        for name in ("unlink", "remove", "mkdir", "rmdir"):
            replaced[name] = self._naming("unlink" if name == "remove" else name, getattr(os, name))
        for name, function in replaced.items():
            setattr(os, name, function)
        plain = io.open
        builtins.open = io.open = lambda *args, **keywords: _open_file(self, plain, *args, **keywords)  # type: ignore[assignment]

    def perform(self, op: str, path: str, call: Callable[[], Result], *, to: str = "", is_new: bool = False) -> Result:
        """Make a call, unless a fault comes first; then there is an OSError, or no more of this process."""
        if not self._is_inside(path):
            return call()
        with self._one_at_a_time:
            try:
                self._break(op, path)
                result = call()
            except OSError:
                self.events.append(Event(op, self._relative(path), self._relative(to), failed=True))
                raise
            self.events.append(Event(op, self._relative(path), self._relative(to), is_new, *_sizes(op, path)))
            return result

    def write(self, path: str, data: Any, descriptor: int, call: Callable[[int, Any], int]) -> int:
        """The same for a write, which may be torn."""
        with self._one_at_a_time:
            if self._is_inside(path) and Fault("torn", len(self.events)) in self._faults:
                call(descriptor, memoryview(data).cast("B")[: memoryview(data).nbytes // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return self.perform("write", path, lambda: call(descriptor, data))

    def _is_inside(self, path: str) -> bool:
        return f"{path}/".startswith(f"{self._root}/")

    def _relative(self, path: str) -> str:
        return os.path.relpath(path, self._root) if path else ""

    def _break(self, op: str, path: str) -> None:
        """Put a fault where one is due at this call."""
        kinds = {fault.kind for fault in self._faults if fault.at == len(self.events)}
        if "wait" in kinds:
            _wait_for_tracer()
        for kind in kinds & SIGNALS.keys():
            os.kill(os.getpid(), SIGNALS[kind])
        self._is_full |= "full" in kinds
        code = errno.EIO if "io" in kinds else errno.ENOSPC if self._is_full and op in TAKES_ROOM else 0
        if code:
            named = [] if op in ("write", "fsync") else [path]  # as the system calls of these name no file
            raise OSError(code, os.strerror(code), *named)

    def _open_descriptor(self, plain: Callable[..., int], path: Any, flags: int, mode: int, dir_fd: int | None) -> int:
        def call() -> int:
            return plain(path, flags, mode, dir_fd=dir_fd)

        if not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return call()
        return self.perform("open", _absolute(path, dir_fd), call, is_new=bool(flags & os.O_EXCL))

    def _fsync(self, plain: Callable[[int], None], descriptor: int) -> None:
        self.perform("fsync", _path_of(descriptor), lambda: plain(descriptor))

    def _moving(self, op: str, plain: Callable[..., None]) -> Callable[..., None]:
        def moved(source: Any, target: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
            self.perform(
                op,
                _absolute(source, src_dir_fd),
                lambda: plain(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd),
                to=_absolute(target, dst_dir_fd),
            )

        return moved

    def _naming(self, op: str, plain: Callable[..., None]) -> Callable[..., None]:
        def named(path: Any, *arguments: Any, dir_fd: int | None = None) -> None:
            self.perform(op, _absolute(path, dir_fd), lambda: plain(path, *arguments, dir_fd=dir_fd))

        return named


class _File(io.FileIO):
    """An open file whose writes are seen; buffers above it hand everything on to it."""

    def __init__(self, watch: Watch, path: str, mode: str) -> None:
        self._watch = watch
        self._path = path
        super().__init__(path, mode)

    def write(self, data: Any) -> int:
        return self._watch.write(self._path, data, 0, lambda _, part: super(_File, self).write(part))

    def truncate(self, size: int | None = None) -> int:
        return self._watch.perform("truncate", self._path, lambda: super(_File, self).truncate(size))


def _open_file(
    watch: Watch,
    plain: Callable[..., IO[Any]],
    file: Any,
    mode: str = "r",
    buffering: int = -1,
    *text: Any,
    **more: Any,
) -> IO[Any]:
    """What `open` does, with the raw file of a writable one a `_File`."""
    if not set(mode) & set("wax+") or isinstance(file, int):
        return plain(file, mode, buffering, *text, **more)
    path, raw_mode = _absolute(file, None), mode.replace("b", "").replace("t", "")
    raw = watch.perform("open", path, lambda: _File(watch, path, raw_mode), is_new="x" in mode)
    if buffering == 0:
        return raw
    buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
    return buffered if "b" in mode else io.TextIOWrapper(buffered, *text, **more)


def _sizes(op: str, path: str) -> tuple[int, bytes | None]:
    """`nbytes` and `content` of an event."""
    if op in ("write", "truncate"):
        return os.stat(path).st_size, None
    if op == "fsync" and stat.S_ISREG(os.stat(path).st_mode):
        return 0, Path(path).read_bytes()
    return 0, None


def _wait_for_tracer() -> None:
    """By calls that no tracer is after."""
    task = Path(f"/proc/self/task/{threading.get_native_id()}")
    with open(task / "status", "rb", buffering=0) as status:
        (task / "comm").write_text(WAITS)
        while b"TracerPid:\t0\n" in os.pread(status.fileno(), 1000, 0):
            time.sleep(0.001)
        time.sleep(SETTLES_SECONDS)


def _path_of(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")


def _absolute(path: Any, dir_fd: int | None) -> str:
    parent = os.getcwd() if dir_fd is None else _path_of(dir_fd)
    whole = Path(parent, os.fsdecode(path))
    return str(Path(os.path.realpath(whole.parent), whole.name))
