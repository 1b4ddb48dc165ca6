"""The same faults put into system calls by strace, where the kernel and not Python answers.

A thread waits just before a call until strace is attached to it: so a trial is the very call that it names, whatever
other threads do, and costs no start of a program.
"""

import re
import shutil
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.faults.campaign import Campaign, sampled
from tests.faults.lab import Bench, Outcome
from tests.faults.parts import Part
from tests.faults.sweep import wrong_end, wrong_exit
from tests.faults.syscalls import WAITS, Fault, Kind

SYSTEM_CALLS = {
    "open": "openat",
    "write": "write",
    "truncate": "ftruncate",
    "fsync": "fsync,fdatasync",
    "rename": "rename,renameat,renameat2",
    "link": "link,linkat",
    "unlink": "unlink,unlinkat",
    "mkdir": "mkdir,mkdirat",
    "rmdir": "rmdir,unlinkat",
}
"""By which of them Python makes each sort of call."""
OTHERS = (
    "truncate,fallocate,writev,pwrite64,pwritev,pwritev2,sendfile,copy_file_range,symlink,symlinkat,creat,open,"
    "chmod,fchmod,fchmodat,chown,fchown,fchownat,utimensat,setxattr,fsetxattr,mknod,mknodat"
)
"""System calls that change a folder too, and that no run makes."""
INJECTED: dict[Kind, str] = {"kill": "signal=KILL", "full": "error=ENOSPC", "io": "error=EIO"}
FAULT: dict[Kind, str] = {"kill": "killed by SIGKILL", "full": "(INJECTED)", "io": "(INJECTED)"}
"""What strace writes where it did so."""
OPENS_TO_WRITE = re.compile(r"O_WRONLY|O_RDWR|O_CREAT")
LINE = re.compile(r"(\d+) +(\w+)\((.*)")
WAIT_SECONDS = 60.0
"""For a call to come."""


@dataclass(frozen=True)
class Injected:
    """A trial."""

    kind: Kind
    at: int
    """Number of the call."""


def has_strace() -> bool:
    """Whether the program is there."""
    return shutil.which("strace") is not None


def injections(part: Part, kind: Kind, *, count: int | None = None, seed: int = 0) -> Campaign[Injected]:
    """Faults of one kind in `count` of a part's calls, or in every one."""
    numbers = [number for number, event in enumerate(part.events) if not event.failed]
    return campaign(part, kind, [Injected(kind, at) for at in sampled(numbers, count, seed)])


def campaign(part: Part, kind: Kind, trials: list[Injected]) -> Campaign[Injected]:
    """The campaign of these trials."""

    def make(bench: Bench, trial: Injected) -> list[str]:
        run = bench.copy(part.before)
        calls = SYSTEM_CALLS[part.events[trial.at].op]
        inject = ("-e", f"trace={calls}", "-e", f"inject={calls}:{INJECTED[kind]}:when=1")
        outcome, log = traced(bench, run, part, trial.at, *inject)
        wrong = wrong_exit(kind, outcome, run, part.truth)
        if FAULT[kind] not in log:
            wrong.append("strace put no fault into the call")
        return wrong + wrong_end(bench.run(run, *part.arguments), run, part.truth)

    def replay(trial: Injected) -> str:
        return f"trace --parts {part.name} --kinds {kind} --at {trial.at}"

    return Campaign(f"{part.name}: {kind} in system calls", trials, make, replay)


def calls(bench: Bench, part: Part) -> list[tuple[str, str]]:
    """(system call, what strace prints of it) of all by which a part changes its folder, as strace sees them."""
    run = bench.copy(part.before)
    everything = ",".join([*SYSTEM_CALLS.values(), OTHERS])
    outcome, log = traced(bench, run, part, 0, "-f", "-y", "-s", "0", "-e", f"trace={everything}")
    if outcome.code:
        raise RuntimeError(f"under strace {part.name} exits {outcome.code}: {outcome.last_line}")
    lines = filter(None, map(LINE.match, log.splitlines()))  # what is resumed has no bracket behind its name
    found = [(match[2], match[3]) for match in lines if str(run) in match[3]]
    return [(call, rest) for call, rest in found if call != "openat" or OPENS_TO_WRITE.search(rest)]


def traced(bench: Bench, run: Path, part: Part, at: int, *options: str) -> tuple[Outcome, str]:
    """A part's command in a folder, from its call `at` on under strace; how it ended, and what strace wrote."""
    pid = bench.start(run, *part.arguments, faults=[Fault("wait", at)])
    log = bench.place().with_suffix(".strace")
    command = ["strace", "-o", str(log), *options, "-p", str(_waiting(pid))]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL):
        outcome = bench.wait(pid)
    text = log.read_text(errors="replace")
    log.unlink()
    return outcome, text


def _waiting(pid: int) -> int:
    """The thread of a process that waits to be traced. Raises RuntimeError where none comes to it."""
    limit = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < limit:
        with suppress(OSError):  # a thread that is gone meanwhile
            for task in Path(f"/proc/{pid}/task").iterdir():
                if (task / "comm").read_text() == f"{WAITS}\n":
                    return int(task.name)
        time.sleep(0.001)
    raise RuntimeError(f"process {pid} did not come to the call before which it was to wait")
