"""A fault in every call of a command that changes its folder, then the same again, and the comparison."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from tests.faults.campaign import Campaign, sampled
from tests.faults.lab import Bench, Outcome
from tests.faults.parts import Looks, Part
from tests.faults.protocol import breaches, reuses
from tests.faults.syscalls import TAKES_ROOM, Event, Fault, Kind
from tests.faults.tiny import Digest, differences, digest

EXIT_CODES: dict[Kind, int] = {"kill": -9, "torn": -9, "full": 6, "io": 1, "interrupt": 130, "terminate": 143}
SHOWN = 3


@dataclass(frozen=True)
class Broken:
    """A trial: a fault where the command is first given, and perhaps another while it recovers."""

    fault: Fault
    second: float | None = None
    """Where in the recovery the process is killed once more, as a share of the calls that it takes."""


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


def sweep(part: Part, kind: Kind, *, count: int | None = None, seed: int = 0, twice: bool = False) -> Campaign[Broken]:
    """Faults at `count` of a part's calls, or at every one; `twice`: and the process killed once more in recovery."""
    chance = random.Random(seed)
    trials = [Fault(kind, at) for at in sampled(points(part.events, kind), count, seed)]
    later = [chance.random() if twice else None for _ in trials]
    name = f"{kind}, and a kill in recovery" if twice else kind
    return campaign(part, name, [Broken(*trial) for trial in zip(trials, later, strict=True)])


def campaign(part: Part, name: str, trials: Sequence[Broken]) -> Campaign[Broken]:
    """The campaign of these trials."""

    def replay(trial: Broken) -> str:
        second = "" if trial.second is None else f" --second {trial.second}"
        return f"sweep --parts {part.name} --kinds {trial.fault.kind} --at {trial.fault.at}{second}"

    return Campaign(f"{part.name}: {name}", trials, lambda bench, trial: make(bench, trial, part), replay)


def make(bench: Bench, trial: Broken, part: Part) -> list[str] | None:
    """Break a part, go on, and say what is wrong with how it ended; None where nothing broke, or not in recovery too.

    The calls of a command that was killed are not known; of all others the order is looked at, over both commands.
    """
    run, wrong, records = bench.copy(part.before), list[str](), list[list[Event]]()

    def hits(fault: Fault) -> bool:
        """Give the command with a fault in it; whether it came to that call."""
        outcome, events = bench.recorded(run, *part.arguments, faults=[fault])
        wrong.extend(wrong_exit(fault.kind, outcome, run, part.truth))
        wrong.extend(wrong_looks(bench, run, part.between))
        records.append(events)
        return outcome.code == EXIT_CODES["kill"] or len(events) > fault.at

    is_hit = hits(trial.fault)
    if trial.second is not None:
        second = _in_recovery(bench, run, part, trial.second)
        is_hit &= second is not None and hits(second)
    outcome, events = bench.recorded(run, *part.arguments)
    wrong += wrong_end(outcome, run, part.truth)
    wrong += wrong_looks(bench, run, part.afterwards)
    wrong += differences(part.truth, digest(run))[:SHOWN] if part.afterwards else []
    records.append(events)
    if all(records):
        wrong += breaches(part.before, chain.from_iterable(records))[:SHOWN]
    wrong += reuses(records)[:SHOWN]
    return wrong if wrong or is_hit else None


def _in_recovery(bench: Bench, run: Path, part: Part, share: float) -> Fault | None:
    """A kill at this share of the calls that going on takes, as a copy shows; None where it takes none."""
    _, events = bench.recorded(bench.copy(run), *part.arguments)
    calls = points(events, "kill")
    return Fault("kill", calls[int(share * len(calls))]) if calls else None


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


def wrong_looks(bench: Bench, run: Path, looks: Looks) -> list[str]:
    """Commands that look at a folder, and how they must not end."""
    outcomes = [(command, codes, bench.run(run, command)) for command, codes in looks]
    return [f"{command} exits {o.code}: {o.last_line}" for command, codes, o in outcomes if o.code not in codes]


def wrong_end(outcome: Outcome, run: Path, truth: Digest) -> list[str]:
    """What is wrong with how the last, undisturbed command ended."""
    if outcome.code:
        return [f"going on exits {outcome.code}: {' '.join(outcome.said.strip().splitlines()[-2:])}"]
    return differences(truth, digest(run))[:SHOWN]
