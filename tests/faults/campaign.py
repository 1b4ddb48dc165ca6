"""What a campaign found, and how it is told."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from tests.faults.lab import Bench, Lab

Trial = TypeVar("Trial")


@dataclass(frozen=True)
class Failure:
    """A trial that did not end as it must."""

    what: str
    """In one line."""
    replay: str
    """The command that makes it again."""


@dataclass(frozen=True)
class Report:
    """One row of the table."""

    name: str
    trials: int
    """In which what was to go wrong did."""
    failures: Sequence[Failure]
    note: str = ""
    """What else was counted."""


@dataclass(frozen=True)
class Campaign(Generic[Trial]):
    """Trials of one sort, each independent of the others."""

    name: str
    trials: Sequence[Trial]
    make: Callable[[Bench, Trial], list[str] | None]
    """Make a trial; returns what is wrong, None where what was to go wrong never did: then it proves nothing."""
    replay: Callable[[Trial], str]
    """Arguments of `python -m tests.faults` for one trial."""

    def run(self, lab: Lab) -> Report:
        """Make all trials, on all benches."""
        wrong = lab.map(self.make, self.trials)
        failures = [
            Failure("; ".join(found), f"python -m tests.faults {self.replay(trial)}")
            for trial, found in zip(self.trials, wrong, strict=True)
            if found
        ]
        missed = wrong.count(None)
        return Report(self.name, len(wrong) - missed, failures, f"{missed} more were never hit" if missed else "")


def sampled(items: Sequence[Trial], count: int | None, seed: int) -> list[Trial]:
    """`count` of the items in their order, drawn with a seed; all of them where it is None."""
    if count is None or count >= len(items):
        return list(items)
    return [items[i] for i in sorted(random.Random(seed).sample(range(len(items)), count))]


def table(reports: Sequence[Report]) -> str:
    """Markdown, and below it each failure with the command that makes it again."""
    lines = ["| campaign | trials | failures | |", "|---|---:|---:|---|"]
    lines += [f"| {r.name} | {r.trials:,} | {len(r.failures):,} | {r.note} |" for r in reports]
    failures = [f"{r.name}: {failure.what}\n    {failure.replay}" for r in reports for failure in r.failures]
    return "\n".join([*lines, "", *failures])
