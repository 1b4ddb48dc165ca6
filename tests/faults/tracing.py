"""The same faults put into system calls by strace, in fresh processes: it sees what Python does not.

strace counts the calls of each thread by themselves, those outside the run folder among them: a trial is the N-th call
of one name in whichever thread comes to its N-th first, for every N that in a whole run was a call on the run folder.
"""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.faults.campaign import Campaign, sampled
from tests.faults.lab import LIMIT_SECONDS, ONE_THREAD, ROOT, Bench, Lab, Outcome
from tests.faults.sweep import wrong_end, wrong_exit
from tests.faults.syscalls import Kind

CALLS = ("rename", "write", "fsync", "mkdir", "unlink", "unlinkat", "rmdir", "ftruncate", "link", "openat")
INJECTED: dict[Kind, str] = {"kill": "signal=KILL", "io": "error=EIO", "full": "error=ENOSPC"}
OPENS_TO_WRITE = re.compile(r"O_WRONLY|O_RDWR|O_CREAT")
LINE = re.compile(r"(\d+) +(\w+)\((.*)")


@dataclass(frozen=True)
class Injected:
    """A trial."""

    kind: Kind
    call: str
    number: int
    """Which of the calls of a thread, from 1."""


def has_strace() -> bool:
    """Whether the program is there."""
    return shutil.which("strace") is not None


def traced(run: Path, *options: str) -> Outcome:
    """`cascade run` in a fresh process under strace."""
    command = ["strace", "-f", "--seccomp-bpf", "-qq", *options, sys.executable, "-m", "cli", "run", "--run", str(run)]
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT_SECONDS)
    return Outcome(done.returncode, done.stdout + done.stderr)


def calls(run: Path) -> list[tuple[str, int, str]]:
    """(call, its number in its thread, what strace prints of it) of all calls of a whole run that change its folder."""
    log = run.with_suffix(".strace")
    outcome = traced(run, "-y", "-s", "0", "-e", f"trace={','.join(CALLS)}", "-o", str(log))
    if outcome.code:
        raise RuntimeError(f"under strace the run exits {outcome.code}: {outcome.last_line}")
    found = []
    numbers: Counter[tuple[str, str]] = Counter()
    for line in log.read_text(errors="replace").splitlines():
        if match := LINE.match(line):  # what is resumed has no bracket behind its name
            thread, call, rest = match.groups()
            numbers[thread, call] += 1
            if str(run) in rest and (call != "openat" or OPENS_TO_WRITE.search(rest)):
                found.append((call, numbers[thread, call], rest))
    log.unlink()
    return found


def injections(lab: Lab, kind: Kind, *, count: int | None = None, seed: int = 0) -> Campaign[Injected]:
    """`count` of the trials of one kind, or all."""
    found = sorted({(call, number) for call, number, _ in calls(lab.bench.fresh())})
    return campaign(lab, kind, [Injected(kind, call, number) for call, number in sampled(found, count, seed)])


def campaign(lab: Lab, kind: Kind, trials: list[Injected]) -> Campaign[Injected]:
    """The campaign of these trials."""

    def make(bench: Bench, trial: Injected) -> list[str]:
        run = bench.fresh()
        inject = f"inject={trial.call}:{INJECTED[trial.kind]}:when={trial.number}"
        outcome = traced(run, "-o", os.devnull, "-e", f"trace={trial.call}", "-e", inject)
        wrong = wrong_exit(trial.kind, outcome, run, lab.truth)
        return wrong + wrong_end(bench.run(run), run, lab.truth)

    def replay(trial: Injected) -> str:
        return f"trace --kinds {trial.kind} --call {trial.call} --at {trial.number}"

    return Campaign(f"{kind} in system calls", trials, make, replay)
