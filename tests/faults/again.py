"""A second SIGINT or SIGTERM while a run stops because of the first: it ends at once, and the same command goes on."""

import random
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.campaign import Campaign, sampled
from tests.faults.lab import Bench, Lab, send
from tests.faults.races import stopped_alone
from tests.faults.sweep import wrong_end
from tests.faults.syscalls import SIGNALS, Fault, Kind
from tests.faults.tiny import differences, digest

NOTICE = "a second one ends it at once"
TRIES = 20
"""To meet a run while it stops, each with the first signal a call earlier."""
KINDS: tuple[Kind, ...] = ("interrupt", "terminate")


@dataclass(frozen=True)
class Again:
    """A trial."""

    kind: Kind
    """Of both signals."""
    at: int
    """Number of the call at which the first comes, or some calls after it."""
    seed: int
    """Of the call, among those that follow, before which the second comes."""


def second_signals(
    lab: Lab, kind: Kind, *, count: int, seed: int = 0, only: Sequence[int] | None = None
) -> Campaign[Again]:
    """Two signals of a kind, the first at `count` of a run's calls, or at those of the numbers `only`."""
    numbers = sampled(range(len(lab.events)), count, seed) if only is None else only

    def replay(trial: Again) -> str:
        return f"again --kinds {kind} --at {trial.at} --seed {seed}"

    trials = [Again(kind, at, seed) for at in numbers]
    return Campaign(f"a second {kind}", trials, lambda bench, trial: _make(bench, trial, lab), replay)


def _make(bench: Bench, trial: Again, lab: Lab) -> list[str]:
    chance = random.Random(trial.seed + trial.at)
    for at in range(trial.at, max(trial.at - TRIES, -1), -1):
        first, run = Fault(trial.kind, at), bench.fresh()
        _, events = bench.recorded(bench.fresh(), faults=[first])
        pid = bench.start(run, faults=[first, Fault("stop", chance.randint(at + 1, max(len(events) - 1, at + 1)))])
        if stopped_alone([pid]) is not None and NOTICE in bench.said(pid):
            return _signalled(bench, run, pid, trial.kind) + wrong_end(bench.run(run), run, lab.truth)
        send(pid, signal.SIGKILL)  # it ended sooner, or its main thread has yet to note the first
        bench.wait(pid)
    return [f"in {TRIES} tries it did not stand still while it stopped"]


def _signalled(bench: Bench, run: Path, pid: int, kind: Kind) -> list[str]:
    """A process that stands still while it stops gets the signal, and goes on: no call of it may follow."""
    before = digest(run)
    send(pid, SIGNALS[kind])
    send(pid, signal.SIGCONT)
    outcome = bench.wait(pid)
    wrong = [] if outcome.code == -SIGNALS[kind] else [f"exit {outcome.code}: {outcome.last_line}"]
    return wrong + differences(before, digest(run))
