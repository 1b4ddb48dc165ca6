"""Where trials are made: run folders to break, the parents that run commands in them, and what a whole run leaves."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from tests.faults.server import Start, Wait, read_events
from tests.faults.syscalls import Event, Fault
from tests.faults.tiny import Digest, digest, write_config, write_source

ROOT = Path(__file__).parent.parent.parent
LIMIT_SECONDS = 120.0
"""After which a command is taken to hang, and killed; it takes half a second."""
IN_MEMORY, ROOM_BYTES = Path("/dev/shm"), 10**8
"""Where a sync costs nothing, and the room that is wanted there."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    """Exit code; negative for the signal that ended it."""
    said: str
    """On stdout and stderr."""

    @property
    def last_line(self) -> str:
        """Of what it said."""
        return (self.said.strip().splitlines() or [""])[-1]


class Parent:
    """The client of one `tests.faults.server`."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.server"],
            cwd=ROOT,
            env={**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._answer()

    def start(self, order: Start) -> int:
        """Start a command; returns its process id, which stays its own until it is waited for."""
        return self._ask(order)

    def wait(self, pid: int) -> int:
        """Its exit code, negative for a signal."""
        limit = threading.Timer(LIMIT_SECONDS, send, (pid, signal.SIGKILL))
        limit.start()
        try:
            return self._ask(Wait(pid))
        finally:
            limit.cancel()

    def close(self) -> None:
        """End it, and all that it started."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()

    def _ask(self, order: Start | Wait) -> int:
        assert self._server.stdin is not None
        self._server.stdin.write(msgspec.json.encode(order) + b"\n")
        self._server.stdin.flush()
        return self._answer()

    def _answer(self) -> int:
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        if not line:
            raise RuntimeError("the parent of the trials ended; what it said is above")
        return int(line)


def send(pid: int, number: int) -> None:
    """Send a signal to a process, if it is still there."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


class Bench:
    """One parent, and run folders of its own: what one thread works at."""

    def __init__(self, folder: Path, template: Path) -> None:
        self._folder = folder
        self._template = template
        self._parent = Parent()
        self._logs: dict[int, Path] = {}
        self._made: list[Path] = []
        self._numbers = count()
        folder.mkdir()

    def fresh(self) -> Path:
        """A run folder in which nothing was run yet."""
        return self.copy(self._template)

    def copy(self, run: Path) -> Path:
        """A copy of a run folder."""
        return shutil.copytree(run, self.place())

    def start(self, run: Path, *arguments: str, faults: Sequence[Fault] = (), events: str = "") -> int:
        """Start `cascade ARGUMENTS --run RUN`, by default `cascade run`; returns its process id."""
        words = [*(arguments or ("run",)), "--run", str(run)]
        log = self.place().with_suffix(".stderr")
        pid = self._parent.start(Start(words, str(run), str(log), list(faults), events))
        self._logs[pid] = log
        return pid

    def wait(self, pid: int) -> Outcome:
        """How a command that was started ended."""
        code, log = self._parent.wait(pid), self._logs.pop(pid)
        said = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        log.unlink(missing_ok=True)
        return Outcome(code, said)

    def said(self, pid: int) -> str:
        """What a command that was started has said so far."""
        return self._logs[pid].read_text(encoding="utf-8", errors="replace")

    def run(self, run: Path, *arguments: str, faults: Sequence[Fault] = ()) -> Outcome:
        """Start a command and wait for it."""
        return self.wait(self.start(run, *arguments, faults=faults))

    def recorded(self, run: Path, *arguments: str, faults: Sequence[Fault] = ()) -> tuple[Outcome, list[Event]]:
        """The same with the record of its calls, none of a process that was killed."""
        path = run.with_suffix(".events")
        outcome = self.wait(self.start(run, *arguments, faults=faults, events=str(path)))
        if not path.exists():
            return outcome, []
        events = read_events(path)
        path.unlink()
        return outcome, events

    def close(self) -> None:
        self._parent.close()

    def place(self) -> Path:
        """Where nothing is yet."""
        self._made.append(self._folder / f"run-{next(self._numbers)}")
        return self._made[-1]

    @contextmanager
    def trial(self) -> Iterator[None]:
        """Remove in the end what was made while the context is open."""
        before = len(self._made)
        yield
        for path in self._made[before:]:
            shutil.rmtree(path, ignore_errors=True)
        del self._made[before:]


class Lab:
    """`jobs` benches, and an undisturbed run to compare with; in memory where there is room and no folder given."""

    def __init__(self, jobs: int = 2, folder: Path | None = None) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="faults-", dir=folder or _quick_folder()))
        self.source, self.template = self._folder / "digits.npz", self._folder / "template"
        write_source(self.source)
        write_config(self.template, self.source)
        self._pool = ThreadPoolExecutor(jobs)
        self._benches = list(self._pool.map(lambda n: Bench(self._folder / f"bench-{n}", self.template), range(jobs)))
        self._idle = self._benches.copy()
        self.whole = self.bench.fresh()
        outcome, self.events = self.bench.recorded(self.whole)
        if outcome.code:
            raise RuntimeError(f"the undisturbed run exits {outcome.code}:\n{outcome.said}")
        self.truth: Digest = digest(self.whole)

    @property
    def bench(self) -> Bench:
        """The first, for one thing at a time."""
        return self._benches[0]

    def map(self, work: Callable[[Bench, Item], Result], items: Iterable[Item]) -> list[Result]:
        """Work on items with all benches, each on one at a time."""

        def one(item: Item) -> Result:
            bench = self._idle.pop()
            try:
                with bench.trial():
                    return work(bench, item)
            finally:
                self._idle.append(bench)

        return list(self._pool.map(one, items))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        for bench in self._benches:
            bench.close()
        shutil.rmtree(self._folder)


def _quick_folder() -> Path | None:
    """A folder in memory, or None for the usual one."""
    has_room = IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free > ROOM_BYTES
    return IN_MEMORY if has_room and os.access(IN_MEMORY, os.W_OK) else None
