"""A fault in every call of a run that changes its folder, then the same command again, and the comparison."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.campaign import Campaign, sampled
from tests.faults.lab import Bench, Lab, Outcome
from tests.faults.protocol import reuses
from tests.faults.syscalls import TAKES_ROOM, Event, Fault, Kind
from tests.faults.tiny import Digest, differences, digest

EXIT_CODES: dict[Kind, int] = {"kill": -9, "torn": -9, "full": 6, "io": 1, "interrupt": 130, "terminate": 143}
SHOWN = 3


@dataclass(frozen=True)
class Broken:
    """A trial: a fault in the first run of the command, and perhaps another while it recovers."""

    fault: Fault
    second: Fault | None = None

    @property
    def arguments(self) -> str:
        """Of `python -m tests.faults`."""
        second = "" if self.second is None else f" --second {self.second.at}"
        return f"sweep --kinds {self.fault.kind} --at {self.fault.at}{second}"


def points(events: Sequence[Event], kind: Kind) -> list[int]:
    """Numbers of the calls at which a fault of this kind makes another difference than at the call before."""
    numbers = [number for number, event in enumerate(events) if not event.failed]
    match kind:
        case "kill":  # whatever was written is there, synced or not
            return [number for number in numbers if events[number].op != "fsync"]
        case "torn":
            return [number for number in numbers if events[number].op == "write" and events[number].nbytes > 1]
        case "full":
            return [number for number in numbers if events[number].op in TAKES_ROOM]
    return numbers


def sweep(lab: Lab, kind: Kind, *, count: int | None = None, seed: int = 0, twice: bool = False) -> Campaign[Broken]:
    """Faults at `count` of a run's calls, or at every one; `twice`: and the process killed once more in recovery."""
    chance = random.Random(seed)
    trials = [Fault(kind, at) for at in sampled(points(lab.events, kind), count, seed)]
    later = [Fault("kill", chance.randrange(len(lab.events))) if twice else None for _ in trials]
    name = f"{kind}, and a kill in recovery" if twice else kind
    return campaign(lab, name, [Broken(*faults) for faults in zip(trials, later, strict=True)])


def campaign(lab: Lab, name: str, trials: Sequence[Broken]) -> Campaign[Broken]:
    """The campaign of these trials."""
    return Campaign(name, trials, lambda bench, trial: make(bench, trial, lab.truth), lambda trial: trial.arguments)


def make(bench: Bench, trial: Broken, truth: Digest) -> list[str]:
    """Break a run, go on, and say what is wrong with how it ended."""
    run = bench.fresh()
    wrong, records = [], []
    for fault in filter(None, (trial.fault, trial.second)):
        outcome, events = bench.recorded(run, faults=[fault])
        wrong += wrong_exit(fault.kind, outcome, run, truth)
        records.append(events)
    outcome, events = bench.recorded(run)
    wrong += wrong_end(outcome, run, truth)
    return wrong + reuses([*records, events])[:SHOWN]


def wrong_exit(kind: Kind, outcome: Outcome, run: Path, truth: Digest) -> list[str]:
    """What is wrong with how a command with a fault in it ended.

    It may end well: by then all was done, or a recovery was shorter than the number of the call.
    """
    if "Traceback" in outcome.said:
        return [f"a traceback: {outcome.last_line}"]
    if outcome.code == 0:
        return [f"exit 0, and {what}" for what in differences(truth, digest(run))][:SHOWN]
    if outcome.code != EXIT_CODES[kind]:
        return [f"exit {outcome.code}, not {EXIT_CODES[kind]}: {outcome.last_line}"]
    if kind in ("io", "full"):
        names = {"no path": str(run), "no next action": "next: "}
        return [f"{name} is named: {outcome.last_line}" for name, text in names.items() if text not in outcome.said]
    return []


def wrong_end(outcome: Outcome, run: Path, truth: Digest) -> list[str]:
    """What is wrong with how the last, undisturbed command ended."""
    if outcome.code:
        return [f"going on exits {outcome.code}: {' '.join(outcome.said.strip().splitlines()[-2:])}"]
    return differences(truth, digest(run))[:SHOWN]
