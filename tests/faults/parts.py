"""What is broken: a command in a folder that others left, with its calls and what it leaves where nothing happens.

A trial of the whole run costs all of it. Its commands one by one are cheaper to break and to compare: what comes after
them follows from the bytes that they leave.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.lab import Lab
from tests.faults.syscalls import Event, Fault
from tests.faults.tiny import Digest, digest

Looks = Sequence[tuple[str, tuple[int, ...]]]
"""Commands, each with the exit codes that it may have."""
SOUND: Looks = (("status", (0,)), ("verify", (0,)), ("run", (0,)))
OTHER_SETTINGS = "stages.1.train.lr=0.05"


@dataclass(frozen=True)
class Part:
    """One command."""

    name: str
    arguments: tuple[str, ...]
    """Of `cascade`."""
    before: Path
    """A folder in which it is given. Not to be changed."""
    events: Sequence[Event]
    """Its calls."""
    truth: Digest
    """What of the folder is then there."""
    between: Looks = ()
    """What may be asked once it was broken, before it is given again."""
    afterwards: Looks = ()
    """What may be asked in the end, and changes nothing."""


def whole_run(lab: Lab) -> Part:
    """All of it at once."""
    return Part("run", ("run",), lab.template, lab.events, lab.truth)


def part(lab: Lab, name: str) -> Part:
    """The part of a name among PARTS."""
    return PARTS[name](lab)


def _recorded(lab: Lab, name: str, before: Path, *arguments: str, between: Looks = (), afterwards: Looks = ()) -> Part:
    run = lab.bench.copy(before)
    outcome, events = lab.bench.recorded(run, *arguments)
    if outcome.code:
        raise RuntimeError(f"undisturbed, {name} exits {outcome.code}:\n{outcome.said}")
    return Part(name, arguments, before, events, digest(run), between, afterwards)


def _after(lab: Lab, *commands: tuple[str, ...]) -> Path:
    """A folder in which these were given."""
    run = lab.bench.fresh()
    for arguments in commands:
        if lab.bench.run(run, *arguments).code:
            raise RuntimeError(f"undisturbed, cascade {' '.join(arguments)} fails")
    return run


def _killed(lab: Lab, at: int) -> Path:
    """A folder as it is before a call of the whole run."""
    run = lab.bench.fresh()
    lab.bench.run(run, faults=[Fault("kill", at)])
    return run


def _ingest(lab: Lab) -> Part:
    return _recorded(lab, "ingest", lab.template, "ingest")


def _stage(j: int) -> Callable[[Lab], Part]:
    before = ("run", "--to", str(j - 1)) if j else ("ingest",)
    return lambda lab: _recorded(lab, f"stage-{j}", _after(lab, before), "run", "--to", str(j))


def _last_stage(lab: Lab) -> Part:
    return _recorded(lab, "stage-2", _after(lab, ("run", "--to", "1")), "run")


def _write_back(lab: Lab) -> Part:
    """From the first call of the write-back of x_2 on: stage 1 is trained."""
    first = next(n for n, event in enumerate(lab.events) if "/x_2" in event.path)
    return _recorded(lab, "write-back", _killed(lab, first), "train-stage", "--j", "1")


def _checkpoint(lab: Lab) -> Part:
    """The last checkpoint of the last stage, with two before it, and what ends the stage."""
    last = max(n for n, event in enumerate(lab.events) if event.op == "open" and "checkpoint" in event.path)
    return _recorded(lab, "checkpoint", _killed(lab, last), "run")


def _gc(lab: Lab) -> Part:
    """Two stages of other settings, one with its stores, stores that nothing reads again, and leftovers."""
    run = _after(lab, ("run",), ("run", "--set", OTHER_SETTINGS))
    for path in (run / ".cascade.toml.new", run / "x_0.partial/train/c", run / ".disk-speed"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"left")
    between = (("status", (0,)), ("verify", (0,)))
    return _recorded(lab, "gc", run, "gc", "--yes", between=between, afterwards=SOUND)


def _repair(lab: Lab) -> Part:
    """A chunk flipped, one gone, labels cut, metadata emptied, and a store without its manifest."""
    run = lab.bench.copy(lab.whole)
    first, second = (next(run.glob(f"stages/{j}-*/x_{j + 1}")) for j in (0, 1))
    chunk = min((run / "x_0/train/x").glob("c.*"))
    chunk.write_bytes(bytes([chunk.read_bytes()[0] ^ 1]) + chunk.read_bytes()[1:])
    min(next(first.glob("*.train*")).glob("x/c.*")).unlink()
    labels = min(next(first.glob("*.test*")).glob("y/c*"))
    labels.write_bytes(labels.read_bytes()[:-1])
    (next(second.glob("*.train*")) / "zarr.json").write_bytes(b"")
    (next(second.glob("*.validation*")) / "manifest.json").unlink()
    return _recorded(
        lab,
        "repair",
        run,
        "repair",
        between=(("status", (0,)), ("verify", (0, 4))),
        afterwards=SOUND,
    )


PARTS: dict[str, Callable[[Lab], Part]] = {
    "run": whole_run,
    "ingest": _ingest,
    "stage-0": _stage(0),
    "stage-1": _stage(1),
    "stage-2": _last_stage,
    "write-back": _write_back,
    "checkpoint": _checkpoint,
    "gc": _gc,
    "repair": _repair,
}
OF_A_RUN = ("ingest", "stage-0", "stage-1", "stage-2")
"""That together make every call of it."""
