"""Power cuts: what the record of a command's calls lets a disk lose at any moment, and how it goes on from there."""

from dataclasses import dataclass
from typing import get_args

from tests.faults.campaign import Campaign, Failure, Report, sampled
from tests.faults.disk import Loss, after
from tests.faults.lab import Bench
from tests.faults.parts import Part
from tests.faults.protocol import breaches
from tests.faults.sweep import wrong_end, wrong_looks

LOSSES: tuple[Loss, ...] = get_args(Loss)


@dataclass(frozen=True)
class Cut:
    """A trial: the power goes before a call."""

    at: int
    loss: Loss
    seed: int


def power_cuts(
    part: Part, losses: tuple[Loss, ...] = LOSSES, *, count: int | None = None, seed: int = 0
) -> Campaign[Cut]:
    """Power cuts before `count` of a part's calls, or before every one, each with every loss."""
    numbers = [number for number, event in enumerate(part.events, 1) if not event.failed]
    trials = [Cut(at, loss, seed) for loss in losses for at in sampled(numbers, count, seed)]
    return campaign(part, trials)


def campaign(part: Part, trials: list[Cut]) -> Campaign[Cut]:
    """The campaign of these trials."""

    def make(bench: Bench, cut: Cut) -> list[str]:
        left = bench.place()
        after(part.before, part.events[: cut.at]).after_power_cut(left, cut.loss, cut.seed + cut.at)
        wrong = wrong_looks(bench, left, part.between)
        return wrong + wrong_end(bench.run(left, *part.arguments), left, part.truth)

    def replay(cut: Cut) -> str:
        return f"power --parts {part.name} --at {cut.at} --losses {cut.loss} --seed {cut.seed}"

    return Campaign(f"{part.name}: power cut", trials, make, replay)


def protocol(part: Part) -> Report:
    """The order of a part's calls against the protocol."""
    found = breaches(part.before, part.events)
    failures = [Failure(what, f"python -m tests.faults protocol --parts {part.name}") for what in found]
    return Report(f"{part.name}: order of calls", len(part.events), failures)
