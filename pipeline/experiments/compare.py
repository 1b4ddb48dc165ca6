"""Two trainings, or two sweeps, compared seed by seed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import RefusedError
from pipeline.experiments.scores import ENSEMBLE, Scored, scores_of
from pipeline.experiments.statistics import CONFIDENCE, Interval, Mean, interval_of, mean_of


@dataclass(frozen=True)
class Difference:
    """B less A in test accuracy, in points, over the seeds that have both."""

    what: str
    """As in "stage 2", or "ensemble"."""
    seeds: list[int]
    """Those that have both; of two single runs with other seeds none."""
    a: Mean
    """Percent, over these seeds."""
    b: Mean
    """Likewise."""
    difference: float
    interval: Interval | None
    """Of the difference, paired by seed; None of one seed."""

    @property
    def verdict(self) -> str:
        """Whether the difference is within noise, in words."""
        if self.interval is None:
            return "one pair: no interval" if self.seeds else "other seeds, not paired: no interval"
        if self.interval.holds_zero:
            return "within noise"
        return "B better" if self.difference > 0 else "A better"


@dataclass(frozen=True)
class Comparison:
    """All of it."""

    differences: list[Difference]
    notes: list[str]
    """What the reader should know."""


def compare(a: Path, b: Path) -> Comparison:
    """Two run folders or sweeps. Raises RefusedError where nothing of the two can be compared."""
    return compared(scores_of(a), scores_of(b))


def compared(a: Mapping[int, Scored], b: Mapping[int, Scored]) -> Comparison:
    """Scores by seed, paired where both have a seed; of one run each, compared in any case."""
    pairs = [(a[seed], b[seed]) for seed in a if seed in b]
    notes = [*_alone("A", a, b), *_alone("B", b, a)]
    if not pairs and len(a) == len(b) == 1:
        pairs, notes = [(next(iter(a.values())), next(iter(b.values())))], []
    if not pairs:
        raise RefusedError(
            f"no seed has both: A has {_named(a)}, B has {_named(b)}\nnext: cascade sweep --seeds with the same seeds"
        )
    names = _common(pairs)
    if not names:
        raise RefusedError("no stage is trained in both\nnext: train the same stages in both")
    if any(one.images != other.images for one, other in pairs):
        notes.append("A and B are not of the same images, or not in the same order and split: part of what differs")
    for label, side in (("A", 0), ("B", 1)):
        if more := sorted({name for pair in pairs for name in pair[side].test} - set(names)):
            notes.append(f"{label} alone has {', '.join(more)}")
    if any(len(pair[0].test) != len(pair[1].test) for pair in pairs) and ENSEMBLE in names:
        notes.append("the ensembles are of other numbers of stages")
    return Comparison([_difference(name, pairs) for name in names], notes)


def _common(pairs: list[tuple[Scored, Scored]]) -> list[str]:
    """What some pair has both of: stages in order, then the ensemble."""
    names = {name for one, other in pairs for name in one.test if name in other.test}
    stages = sorted(names - {ENSEMBLE}, key=lambda name: int(name.split()[1]))
    return [*stages, *({ENSEMBLE} & names)]


def _difference(name: str, pairs: list[tuple[Scored, Scored]]) -> Difference:
    having = [(one, other) for one, other in pairs if name in one.test and name in other.test]
    differences = [other.test[name] - one.test[name] for one, other in having]
    return Difference(
        what=name,
        seeds=[one.seed for one, other in having if one.seed == other.seed],
        a=mean_of([one.test[name] for one, _ in having]),
        b=mean_of([other.test[name] for _, other in having]),
        difference=mean_of(differences).mean,
        interval=interval_of(differences),
    )


def _alone(label: str, own: Mapping[int, Scored], other: Mapping[int, Scored]) -> list[str]:
    left = {seed: one for seed, one in own.items() if seed not in other}
    return [f"{label} alone has {_named(left)}, left out"] if left else []


def _named(found: Mapping[int, Scored]) -> str:
    return f"seed{'s' if len(found) > 1 else ''} {', '.join(map(str, sorted(found)))}"


def explained(comparison: Comparison) -> str:
    """What the intervals are."""
    if all(one.interval is None for one in comparison.differences):
        return "one run of each: nothing is known of the noise; cascade sweep --seeds 0..4 trains more"
    return (
        f"intervals: {CONFIDENCE:.0%} by Student's t, over seeds paired, each row by itself; "
        f"within noise: the interval holds 0"
    )
