"""How far the seeds of a sweep are, as far as their run folders say."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config_file import load_config
from pipeline.errors import CascadeError, first_line
from pipeline.experiments.seeds import seed_folder, seeds_there
from pipeline.runfolder import RunFolder
from pipeline.status import StageStatus, status


@dataclass(frozen=True)
class SeedState:
    """A seed of a sweep that has a run folder."""

    seed: int
    state: str
    """done; damaged (a record or file of it); partial (begun); stale (trained with other settings alone); todo."""
    trained: int
    """Stages that are, from the first on."""
    stages: int
    """Of the network."""
    test_accuracy: float | None
    """Percent, of the last of them; None where none is."""
    path: str
    """Its run folder."""
    reason: str
    """What the first stage that is not done says of itself, or what is damaged; "" of one that is done."""


def seed_states(parent: Path) -> list[SeedState]:
    """Of every seed below a run folder, in order; which x_j are stored is no part of how far one is."""
    return [_state(seed, seed_folder(parent, seed)) for seed in seeds_there(parent)]


def _state(seed: int, path: Path) -> SeedState:
    try:
        rows = status(RunFolder(path, load_config(path)).following([], frees=False))
    except CascadeError as error:
        return SeedState(seed, "damaged", 0, 0, None, str(path), first_line(error))
    trained = next((row.j for row in rows if row.state not in ("done", "trained")), len(rows))
    first = next((row for row in rows if row.state != "done"), None)
    accuracy = rows[trained - 1].test_accuracy if trained else None
    return SeedState(seed, _of(rows), trained, len(rows), accuracy, str(path), first.reason if first else "")


def _of(rows: Sequence[StageStatus]) -> str:
    """Of a whole run."""
    states = {row.state for row in rows}
    if states in ({"done"}, {"todo"}):
        return states.pop()
    if "damaged" in states:
        return "damaged"
    return "stale" if states <= {"stale", "todo"} else "partial"


def described_seeds(seeds: Sequence[SeedState]) -> str:
    """As in "2 of 3 done; seed 2 is partial, 1 of 4 stages"."""
    done = sum(one.state == "done" for one in seeds)
    open_ones = [one for one in seeds if one.state != "done"]
    others = [f"seed {one.seed} is {one.state}, {one.trained} of {one.stages} stages" for one in open_ones]
    return "; ".join([f"{done} of {len(seeds)} done", *others])
