"""`cascade verify` finds and names a damage, `cascade repair` restores every byte."""

from dataclasses import dataclass
from pathlib import Path

from tests.faults.campaign import Campaign, sampled
from tests.faults.corruption import damages, subjects
from tests.faults.damage import Damage
from tests.faults.lab import Bench, Lab
from tests.faults.tiny import differences, digest

CORRUPT = 4


@dataclass(frozen=True)
class Repair:
    """A trial."""

    store: str
    """Path in the run folder."""
    damage: Damage
    number: int
    """Of the trial, for its replay."""


def repairs(lab: Lab, other: Path, *, count: int, seed: int = 0, only: int | None = None) -> Campaign[Repair]:
    """`count` damages to the stores of the whole run, or the one with the number `only` among them."""
    found = [
        (str(subject.folder.relative_to(lab.whole)), damage)
        for subject in subjects(lab.whole, other)
        if subject.folder != lab.whole
        for damage in damages(subject, seed)
    ]
    trials = [Repair(*case, number) for number, case in enumerate(sampled(found, count, seed))]

    def replay(trial: Repair) -> str:
        return f"repair --trials {count} --seed {seed} --at {trial.number}"

    chosen = [trial for trial in trials if only in (None, trial.number)]
    return Campaign("repair", chosen, lambda bench, trial: _make(bench, trial, lab), replay)


def _make(bench: Bench, trial: Repair, lab: Lab) -> list[str]:
    run = bench.copy(lab.whole)
    for path, data in trial.damage.now.items():
        damaged = run / trial.store / path
        damaged.unlink() if data is None else damaged.write_bytes(data)
    wrong = []
    found = bench.run(run, "verify")
    if found.code != CORRUPT or not all(path in found.said for path in trial.damage.now):
        wrong.append(f"verify exits {found.code} without naming {', '.join(trial.damage.now)}: {found.last_line}")
    for command in ("repair", "verify"):
        outcome = bench.run(run, command)
        if outcome.code:
            wrong.append(f"{command} exits {outcome.code} then: {outcome.last_line}")
    return [f"{trial.store}: {trial.damage.name}: {what}" for what in wrong + differences(lab.truth, digest(run))]
