"""Numbers of stages, as points by depth."""

from collections.abc import Callable, Sequence

from pipeline.experiments.report.facts import RunFacts
from pipeline.experiments.report.figure import Point, across
from pipeline.experiments.report.stages import StageFacts

Value = Callable[[StageFacts], float | None]
"""A number of a stage, None where it has none yet."""


def trained(value: Value) -> Value:
    """The same of finished stages alone."""
    return lambda stage: value(stage) if stage.record else None


def numbers_of(run: RunFacts, value: Value) -> dict[float, float]:
    """By stage, of those that have one."""
    found = ((stage.j, value(stage)) for stage in run.stages)
    return {float(j): float(number) for j, number in found if number is not None}


def by_stage(runs: Sequence[RunFacts], value: Value) -> tuple[Point, ...]:
    return across([numbers_of(run, value) for run in runs])


def stage_axis(runs: Sequence[RunFacts]) -> tuple[float, float]:
    """An axis of all stages, trained or not."""
    return (-0.3, max(len(run.stages) for run in runs) - 0.7)
