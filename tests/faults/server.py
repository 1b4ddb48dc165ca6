"""A parent with everything imported that forks a child for each command, so that a trial costs its run and no imports.

    python -m tests.faults.server

One order a line on stdin, as JSON, and one answer a line on stdout: the process id of a started child, or, asked to
wait for one, its exit code, negative for a signal. It has one thread, or what it forks would not be whole.
"""

import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import NoReturn

import msgspec

from tests.faults.syscalls import Event, Fault, Watch


class Start(msgspec.Struct, frozen=True, tag=True):
    """A command to run in a child."""

    arguments: list[str]
    """Of `cascade`."""
    root: str
    """The folder whose changes are counted."""
    said: str
    """File for what it says, on stdout and stderr."""
    faults: list[Fault] = []
    """Put in the place of its calls."""
    events: str = ""
    """File for the record of its calls; none where empty."""


class Wait(msgspec.Struct, frozen=True, tag=True):
    """A child to wait for."""

    pid: int


def main() -> int:
    """Serve until stdin ends; children that are still there then are killed."""
    _load()
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        print(f"{threads} threads after the imports: a fork would lose all but one", file=sys.stderr)
        return 1
    children: set[int] = set()
    print(0, flush=True)
    try:
        for line in sys.stdin:
            match msgspec.json.decode(line, type=Start | Wait):
                case Start() as order:
                    pid = os.fork()
                    if pid == 0:
                        _run(order)
                    children.add(pid)
                    print(pid, flush=True)
                case Wait(pid):
                    _, status = os.waitpid(pid, 0)
                    children.discard(pid)
                    print(os.waitstatus_to_exitcode(status), flush=True)
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
    return 0


def _load() -> None:
    """Import what any command imports, and take a step of training, for what torch only loads then."""
    import torch

    import cli  # noqa: F401
    import pipeline.evaluation
    import pipeline.ingest
    import pipeline.presets
    import pipeline.runs
    import pipeline.status
    import pipeline.tables  # noqa: F401

    torch.set_num_threads(1)
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3, padding=1), torch.nn.BatchNorm2d(2))
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, fused=True)
    network(torch.zeros(8, 1, 8, 8)).sum().backward()
    optimiser.step()


def _run(order: Start) -> NoReturn:
    """The child: what the `cascade` command does, and then the end of the process."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        said = os.open(order.said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o666)
        os.dup2(said, 1)
        os.dup2(said, 2)
        watch = Watch(Path(order.root), order.faults)
        watch.install()
        code = _exit_code(order.arguments)
        threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as the end of a process does
        if order.events:
            with open(order.events, "wb") as file:
                file.write(msgspec.msgpack.encode(watch.events))
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _exit_code(arguments: list[str]) -> int:
    import cli

    sys.argv = ["cascade", *arguments]
    try:
        cli.main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def read_events(path: Path) -> list[Event]:
    """The record that a child kept."""
    return msgspec.msgpack.decode(path.read_bytes(), type=list[Event])


if __name__ == "__main__":
    sys.exit(main())
