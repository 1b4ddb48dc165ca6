"""Which x_i to store: a shortest path over the anchors 0 = a_0 < a_1 < ..., as arithmetic.

Stage j in a_m..a_{m+1}-1 starts from x_{a_m}. The last of them writes x_{a_{m+1}} beside it, and then x_{a_m} is
deleted, unless it is x_0: so no more than x_0 and two neighbours are ever on the disk, and whether a step of the path
fits there depends on its two ends alone. That makes the cheapest path exact in J^2 steps.
"""

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Seconds = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What a path is chosen by, for J stages."""

    train_seconds: Seconds
    """[i, j], (J, J): of the training of stage j from x_i, for i <= j; zero for one that is trained."""
    write_seconds: Seconds
    """[h, i], (J, J): of the writing of x_i by stage i-1 from x_h, for h < i; zero where x_i exists."""
    store_bytes: NDArray[np.int64]
    """[i], (J,): of x_i on disk, over all splits and views; of x_0 as ingested."""
    may_store: NDArray[np.bool_]
    """[i], (J,): whether x_i may be an anchor, as the augmentation policy has it; x_0 always is one."""

    @property
    def stages(self) -> int:
        return len(self.store_bytes)

    def until(self, stages: int) -> "Choices":
        """Those of the first stages alone."""
        return Choices(
            train_seconds=self.train_seconds[:stages, :stages],
            write_seconds=self.write_seconds[:stages, :stages],
            store_bytes=self.store_bytes[:stages],
            may_store=self.may_store[:stages],
        )


@dataclass(frozen=True)
class Route:
    """The stores to keep."""

    anchors: tuple[int, ...]
    """Indices of the x_i that stages start from, ascending; the first is 0, the images."""
    seconds: float
    """Of training and writing, all stages together."""
    peak_bytes: int
    """Of the stores on disk at a time, x_0 included, where it is largest."""
    frees: bool
    """Whether stores are deleted on the way: not where all of them fit in the budget together."""

    def anchor(self, j: int) -> int:
        """The index of what stage j starts from."""
        return self.anchors[bisect_right(self.anchors, j) - 1]

    def alive(self, j: int) -> list[int]:
        """The x_i on disk when stage j ends, before any is deleted."""
        there = [i for i in self.anchors if i <= j + 1]
        return [i for i in there if i == 0 or i >= self.anchor(j)] if self.frees else there

    def last_reader(self, index: int) -> int | None:
        """The stage after which x_index, of this route, is deleted: the one that writes the next. None where it stays.

        What the last stages read stays like x_0: nothing is written after it.
        """
        following = [i for i in self.anchors if i > index]
        return following[0] - 1 if self.frees and index and following else None


def shortest_route(choices: Choices, budget_bytes: int) -> Route | None:
    """The stores of least predicted time among those that the disk has room for; None where x_0 alone has not.

    Of equals the one with the longest steps, counted from the end. Where no x_i, i >= 1, fits, everything is
    recomputed from the images.
    """
    stages, sizes = choices.stages, choices.store_bytes
    if sizes[0] > budget_bytes:
        return None
    alive = np.where(np.arange(stages) > 0, sizes, 0)  # beside x_0
    steps = step_seconds(choices)
    steps[:, :stages][sizes[0] + alive[:, None] + alive[None, :] > budget_bytes] = np.inf
    steps[:, :stages][:, ~choices.may_store] = np.inf
    seconds, before = np.full(stages + 1, np.inf), np.zeros(stages + 1, np.int64)
    seconds[0] = 0.0
    for i in range(1, stages + 1):
        through = seconds[:i] + steps[:i, i]
        before[i] = np.argmin(through)
        seconds[i] = through[before[i]]
    anchors, i = [], stages
    while i:
        i = int(before[i])
        anchors.append(i)
    return _route(tuple(reversed(anchors)), float(seconds[stages]), alive, int(sizes[0]), budget_bytes)


def step_seconds(choices: Choices) -> Seconds:
    """[h, i], (J, J+1): stages h..i-1 trained from x_h and, for i < J, x_i written at their end."""
    stages = choices.stages
    trained = np.triu(choices.train_seconds).cumsum(axis=1)
    steps = np.full((stages, stages + 1), np.inf)
    later = np.triu(np.ones((stages, stages), bool))
    steps[:, 1:][later] = trained[later]
    steps[:, :stages] += choices.write_seconds
    return steps


def route_of(choices: Choices, anchors: tuple[int, ...], budget_bytes: int, *, frees: bool | None = None) -> Route:
    """A given set of stores, ascending from 0, whether or not the disk has room for it; `frees` where it is not for the
    room to say whether each goes once the next is written."""
    steps, ends = step_seconds(choices), (*anchors[1:], choices.stages)
    seconds = sum(float(steps[h, i]) for h, i in zip(anchors, ends, strict=True))
    alive = np.where(np.arange(choices.stages) > 0, choices.store_bytes, 0)
    return _route(anchors, seconds, alive, int(choices.store_bytes[0]), budget_bytes, frees=frees)


def _route(
    anchors: tuple[int, ...],
    seconds: float,
    alive: NDArray[np.int64],
    images: int,
    budget_bytes: int,
    *,
    frees: bool | None = None,
) -> Route:
    kept = [int(alive[i]) for i in anchors]
    together = images + sum(kept)
    if together <= budget_bytes if frees is None else not frees:
        return Route(anchors, seconds, together, frees=False)
    neighbours = max(map(sum, zip(kept, [*kept[1:], 0], strict=True)))
    return Route(anchors, seconds, images + neighbours, frees=True)
