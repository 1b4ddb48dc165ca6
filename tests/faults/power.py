"""Power cuts: what the record of a run's calls lets a disk lose at any moment, and how the run goes on from there."""

from dataclasses import dataclass
from typing import get_args

from tests.faults.campaign import Campaign, Failure, Report, sampled
from tests.faults.disk import Loss, after
from tests.faults.lab import Bench, Lab
from tests.faults.protocol import breaches
from tests.faults.sweep import wrong_end

LOSSES: tuple[Loss, ...] = get_args(Loss)


@dataclass(frozen=True)
class Cut:
    """A trial: the power goes before a call."""

    at: int
    loss: Loss
    seed: int


def power_cuts(
    lab: Lab, losses: tuple[Loss, ...] = LOSSES, *, count: int | None = None, seed: int = 0
) -> Campaign[Cut]:
    """Power cuts before `count` of a run's calls, or before every one, each with every loss."""
    numbers = [number for number, event in enumerate(lab.events, 1) if not event.failed]
    trials = [Cut(at, loss, seed) for loss in losses for at in sampled(numbers, count, seed)]
    return campaign(lab, trials)


def campaign(lab: Lab, trials: list[Cut]) -> Campaign[Cut]:
    """The campaign of these trials."""

    def make(bench: Bench, cut: Cut) -> list[str]:
        left = bench.place()
        after(lab.template, lab.events[: cut.at]).after_power_cut(left, cut.loss, cut.seed + cut.at)
        return wrong_end(bench.run(left), left, lab.truth)

    return Campaign("power cut", trials, make, lambda cut: f"power --at {cut.at} --losses {cut.loss} --seed {cut.seed}")


def protocol(lab: Lab) -> Report:
    """The order of a run's calls against the protocol."""
    found = breaches(lab.template, lab.events)
    failures = [Failure(what, "python -m tests.faults protocol") for what in found]
    return Report("order of calls", len(lab.events), failures)
