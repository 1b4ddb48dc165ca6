"""Signals at random moments, as they come from outside, also while a run recovers from the one before."""

import random
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.lock import HOLDER
from tests.faults.campaign import Campaign
from tests.faults.lab import Bench, Lab, send
from tests.faults.sweep import EXIT_CODES, wrong_end
from tests.faults.syscalls import SIGNALS, Kind

AT_MOST = 3
"""Signals in one trial."""
WAIT_SECONDS = 10.0
"""For a command to begin."""
KINDS: tuple[Kind, ...] = ("kill", "interrupt", "terminate")


@dataclass(frozen=True)
class Moments:
    """A trial: what comes, and all else drawn from the seed."""

    kind: Kind
    seed: int


def random_signals(lab: Lab, kind: Kind, *, count: int, seed: int = 0) -> Campaign[Moments]:
    """Trials of a seed and of those after it."""
    began = time.perf_counter()
    lab.bench.run(lab.bench.fresh())
    seconds = time.perf_counter() - began

    def make(bench: Bench, trial: Moments) -> list[str] | None:
        return _make(bench, trial, seconds, lab)

    def replay(trial: Moments) -> str:
        return f"random --kinds {trial.kind} --seed {trial.seed} --trials 1"

    return Campaign(f"{kind} at random moments", [Moments(kind, seed + i) for i in range(count)], make, replay)


def _make(bench: Bench, trial: Moments, seconds: float, lab: Lab) -> list[str] | None:
    chance, run, wrong, hits = random.Random(trial.seed), bench.fresh(), [], 0
    for _ in range(chance.randint(1, AT_MOST)):
        pid = bench.start(run)
        _wait_until_it_works(run, pid)
        time.sleep(chance.uniform(0, seconds))
        send(pid, SIGNALS[trial.kind])
        outcome = bench.wait(pid)
        if outcome.code not in (0, EXIT_CODES[trial.kind]) or "Traceback" in outcome.said:
            wrong.append(f"exit {outcome.code}: {outcome.last_line}")
        hits += outcome.code != 0
    wrong += wrong_end(bench.run(run), run, lab.truth)
    return wrong if wrong or hits else None


def _wait_until_it_works(run: Path, pid: int) -> None:
    """Until the process holds the run folder: before, a signal is the interpreter's business."""
    limit, holder = time.monotonic() + WAIT_SECONDS, run / HOLDER
    while time.monotonic() < limit:
        with suppress(FileNotFoundError):
            if f'"process":{pid},' in holder.read_text():
                return
        time.sleep(0.001)
