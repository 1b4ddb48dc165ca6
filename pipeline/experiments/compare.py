"""Two trainings, or two sweeps, compared seed by seed; or what one has trained, with another of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.errors import RefusedError
from pipeline.experiments.alike import differing
from pipeline.experiments.scores import END_TO_END, ENSEMBLE, Scored, in_order
from pipeline.experiments.seeds import list_of_seeds
from pipeline.experiments.seedscores import scores_of
from pipeline.experiments.statistics import CONFIDENCE, Interval, Mean, interval_of, mean_of
from pipeline.paths import run_option


@dataclass(frozen=True)
class Difference:
    """B less A in test accuracy, in points, over the seeds that have both."""

    what: str
    """As in "stage 2", "ensemble", "end to end"."""
    seeds: list[int]
    """Those that have both; of two single runs with other seeds none."""
    a: Mean
    """Percent, over these seeds."""
    b: Mean
    """Likewise."""
    difference: float
    interval: Interval | None
    """Of the difference, paired by seed; None of one seed."""
    against: str = ""
    """What of the same runs A is, as `what` is B; "" where A and B are runs, and both of what is the same."""
    is_identical: bool = False
    """Whether no seed has any difference."""

    @property
    def verdict(self) -> str:
        """Whether the difference is within noise, in words."""
        if self.is_identical:
            return "identical"
        if self.interval is None:
            return "one pair: no interval" if self.seeds else "other seeds, not paired: no interval"
        if self.interval.holds_zero:
            return "within noise"
        if self.against:
            return "better" if self.difference > 0 else "worse"
        return "B better" if self.difference > 0 else "A better"


@dataclass(frozen=True)
class Comparison:
    """All of it."""

    differences: list[Difference]
    notes: list[str]
    """What the reader should know."""
    settings: list[str] = field(default_factory=list)
    """What A and B differ in beside their seeds, as "train.lr 0.1 -> 0.05"."""


def compare(a: Path, b: Path) -> Comparison:
    """Two run folders or sweeps. Raises RefusedError where nothing of the two can be compared."""
    one, other = scores_of(a), scores_of(b)
    found = compared(one.scores, other.scores)
    notes = [f"{label}: {note}" for label, side in (("A", one), ("B", other)) for note in side.notes]
    return replace(found, notes=[*notes, *found.notes])


def compared(a: Mapping[int, Scored], b: Mapping[int, Scored]) -> Comparison:
    """Scores by seed, paired where both have a seed; of one run each, compared in any case; a side is alike."""
    pairs = [(a[seed], b[seed]) for seed in a if seed in b]
    notes = [*_alone("A", a, b), *_alone("B", b, a)]
    if not pairs and len(a) == len(b) == 1:
        pairs, notes = [(next(iter(a.values())), next(iter(b.values())))], []
    if not pairs:
        raise RefusedError(
            f"no seed has both: A has {list_of_seeds([*a])}, B has {list_of_seeds([*b])}\n"
            f"next: cascade sweep --seeds with the same seeds"
        )
    names = in_order(name for one, other in pairs for name in one.test if name in other.test)
    if not names:
        raise RefusedError("no stage is trained in both\nnext: train the same stages in both")
    if any(one.images != other.images for one, other in pairs):
        notes.append("A and B are not of the same images, or not in the same order and split: part of what differs")
    for label, side in (("A", 0), ("B", 1)):
        if more := {name for pair in pairs for name in pair[side].test} - set(names):
            notes.append(f"{label} alone has {', '.join(in_order(more))}")
    if any(_depth(one) != _depth(other) for one, other in pairs) and ENSEMBLE in names:
        notes.append("the ensembles are of other numbers of stages")
    differences = [_difference(name, pairs, name) for name in names]
    return Comparison(differences, notes, differing(pairs[0][0].settings, pairs[0][1].settings))


def compare_within(path: Path, against: str = END_TO_END) -> Comparison:
    """What a run folder or the seeds of a sweep have trained, each with `against`, which they have trained too.

    Raises RefusedError where they have not.
    """
    counted = scores_of(path)
    found = compared_within(counted.scores, against, path)
    return replace(found, notes=[*counted.notes, *found.notes])


def compared_within(scores: Mapping[int, Scored], against: str, path: Path = Path()) -> Comparison:
    """Every name but `against` with that, paired by seed, over the seeds of a run folder that have both."""
    having = {seed: one for seed, one in scores.items() if against in one.test}
    names = in_order(name for one in scores.values() for name in one.test)
    if not having:
        sweep = f"cascade sweep --seeds {','.join(map(str, scores))} --baseline{run_option(path)}"
        baseline = sweep if len(scores) > 1 else f"cascade baseline{run_option(path)}"
        trained = (
            f"{baseline}; cascade status{run_option(path)} says what there is"
            if against == END_TO_END
            else ("one of these")
        )
        raise RefusedError(
            f"nothing is trained that is called {against!r}: there is {', '.join(names)}\nnext: {trained}"
        )
    without = [seed for seed in scores if seed not in having]
    notes = [f"left out, without {against}: {list_of_seeds(without)}"] if without else []
    pairs = [(one, one) for one in having.values()]
    there = [name for name in names if name != against and any(name in one.test for one in having.values())]
    return Comparison([_difference(name, pairs, against, against) for name in there], notes)


def _depth(scored: Scored) -> int:
    return sum(name.startswith("stage ") for name in scored.test)


def _difference(name: str, pairs: Sequence[tuple[Scored, Scored]], of_a: str, against: str = "") -> Difference:
    """Of `name` in B to `of_a` in A."""
    having = [(one, other) for one, other in pairs if of_a in one.test and name in other.test]
    differences = [other.test[name] - one.test[of_a] for one, other in having]
    return Difference(
        what=name,
        seeds=[one.seed for one, other in having if one.seed == other.seed],
        a=mean_of([one.test[of_a] for one, _ in having]),
        b=mean_of([other.test[name] for _, other in having]),
        difference=mean_of(differences).mean,
        interval=interval_of(differences),
        against=against,
        is_identical=not any(differences),
    )


def _alone(label: str, own: Mapping[int, Scored], other: Mapping[int, Scored]) -> list[str]:
    left = [seed for seed in own if seed not in other]
    return [f"{label} alone has {list_of_seeds(left)}, left out"] if left else []


def explained(comparison: Comparison) -> str:
    """What the intervals are."""
    if all(one.interval is None for one in comparison.differences):
        return "one run of each: nothing is known of the noise; cascade sweep --seeds 0..4 trains more"
    return (
        f"intervals: {CONFIDENCE:.0%} by Student's t, over seeds paired, each row by itself; "
        f"within noise: the interval holds 0"
    )
