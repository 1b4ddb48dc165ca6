"""Several processes at one run folder: one works, the others are refused and told whom they wait for."""

import signal
import time
from dataclasses import dataclass
from pathlib import Path

from tests.faults.campaign import Campaign
from tests.faults.lab import Bench, Lab, Outcome, send
from tests.faults.sweep import wrong_end
from tests.faults.syscalls import Fault
from tests.faults.tiny import differences, digest

LOCKED = 5
WAIT_SECONDS = 60.0


@dataclass(frozen=True)
class Race:
    """A trial."""

    processes: int
    stop_at: int | None
    """Number of the call before which whoever holds the folder is stopped until all others are done; None: nobody."""


def races(lab: Lab, *, processes: tuple[int, ...] = (2, 8), stops: int = 4, at: int | None = None) -> Campaign[Race]:
    """Races with and without a holder that stands still, at `stops` points of its run or only at one."""
    first = 10  # past the lock: whoever is refused makes no more calls than that
    points = [None, *range(first, len(lab.events), -(-len(lab.events) // stops))] if at is None else [at]
    trials = [Race(count, point) for count in processes for point in points]

    def make(bench: Bench, race: Race) -> list[str]:
        return _race(bench, race, lab)

    def replay(race: Race) -> str:
        return f"race --processes {race.processes}" + ("" if race.stop_at is None else f" --at {race.stop_at}")

    return Campaign("race", trials, make, replay)


def _race(bench: Bench, race: Race, lab: Lab) -> list[str]:
    run = bench.fresh()
    faults = [] if race.stop_at is None else [Fault("stop", race.stop_at)]
    pids = [bench.start(run, faults=faults) for _ in range(race.processes)]
    holder = None
    if race.stop_at is not None:
        holder = stopped_alone(pids)
        if holder is None:
            for pid in pids:
                send(pid, signal.SIGKILL)
                bench.wait(pid)
            return ["no process, or more than one, stood still while the others were done"]
        send(holder, signal.SIGCONT)
    outcomes = {pid: bench.wait(pid) for pid in pids}
    wrong = _wrong_outcomes(outcomes, holder)
    if race.stop_at is not None and not wrong:
        wrong = differences(lab.truth, digest(run))
    return wrong + wrong_end(bench.run(run), run, lab.truth)


def _wrong_outcomes(outcomes: dict[int, Outcome], holder: int | None) -> list[str]:
    """What is wrong with how the processes of a race ended; `holder` is the one that stood still."""
    winners = [pid for pid, outcome in outcomes.items() if outcome.code == 0]
    wrong = [] if winners else ["no process did the work"]
    if holder is not None and winners != [holder]:
        wrong.append(f"process {holder} held the folder, and {winners} did the work")
    for pid, outcome in outcomes.items():
        if outcome.code not in (0, LOCKED) or "Traceback" in outcome.said:
            wrong.append(f"exit {outcome.code}: {outcome.last_line}")
        elif outcome.code == LOCKED:
            named = [other for other in outcomes if f"process {other} on " in outcome.said and other != pid]
            if not named or holder not in (None, *named):
                wrong.append(f"the holder is not named: {outcome.last_line}")
    return wrong


def stopped_alone(pids: list[int]) -> int | None:
    """The one process that stands still, once all others are done; None where it does not come to that."""
    limit = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < limit:
        states = {pid: _state(pid) for pid in pids}
        stopped = [pid for pid, state in states.items() if state == "T"]
        if all(state in "TZ" for state in states.values()):
            return stopped[0] if len(stopped) == 1 else None
        time.sleep(0.01)
    return None


def _state(pid: int) -> str:
    """Of a process as the kernel tells it: T stopped, Z done and not waited for."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
