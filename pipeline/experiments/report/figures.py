"""The figures of a report, from what is known of one run, or of several that differ in their seeds alone."""

import math
from collections.abc import Iterator, Sequence

from pipeline.experiments.report.depth import by_stage, stage_axis, trained
from pipeline.experiments.report.experiments import (
    filters_kept,
    last_heads,
    separability_by_depth,
    transfers_by_depth,
)
from pipeline.experiments.report.facts import RunFacts
from pipeline.experiments.report.figure import PERCENT, Figure, Point, across, line
from pipeline.experiments.report.measured import disk, memory, signal_to_noise, throughput, training_time
from pipeline.experiments.report.words import of_training, training_images

NO_LESS_THAN_0 = (0.0, math.inf)


def figures(runs: Sequence[RunFacts]) -> list[Figure]:
    """All those that there are numbers for."""
    made = [
        accuracy_by_depth(runs),
        ensemble_by_depth(runs),
        risk_by_depth(runs),
        separability_by_depth(runs),
        last_heads(runs),
        transfers_by_depth(runs),
        filters_kept(runs),
        accuracy_by_epoch(runs),
        loss_by_epoch(runs),
        training_time(runs),
        throughput(runs),
        disk(runs),
        memory(runs),
        signal_to_noise(runs),
    ]
    return [figure for figure in made if figure.points]


def accuracy_by_depth(runs: Sequence[RunFacts]) -> Figure:
    """The paper's Figure 3."""
    return Figure(
        name="accuracy-by-depth",
        title="Accuracy by depth",
        description="Of each stage's own head: on the test images, on those held out for validation, and on "
        f"{of_training([run.run for run in runs])}.",
        x_name="stage",
        y_name="accuracy, %",
        x_range=stage_axis(runs),
        y_limits=PERCENT,
        series=(
            line("train", "train", by_stage(runs, trained(lambda stage: stage.train_accuracy))),
            line(
                "validation",
                "validation",
                by_stage(runs, trained(lambda stage: stage.validation_accuracy)),
            ),
            line("test", "test", by_stage(runs, lambda stage: stage.test_accuracy)),
        ),
    )


def ensemble_by_depth(runs: Sequence[RunFacts]) -> Figure:
    """Beside each head alone; and the network trained as a whole, where it is."""
    whole = across([{0.0: run.end_to_end.test_accuracy} for run in runs if run.end_to_end])
    low, high = stage_axis(runs)
    xs = (low, *map(float, range(len(runs[0].stages))), high)
    level = [Point(x, point.y, point.deviation, point.n) for point in whole for x in xs]
    return Figure(
        name="ensemble-by-depth",
        title="The ensemble by depth",
        description="Accuracy on the test images of each stage's head alone, and of the heads up to it together, "
        "head j weighing 2 to the power of j"
        + (", beside that of the same network trained end to end." if level else "."),
        x_name="stage",
        y_name="test accuracy, %",
        x_range=(low, high),
        y_limits=PERCENT,
        series=(
            line("head", "test", by_stage(runs, lambda stage: stage.test_accuracy)),
            line("ensemble", "ensemble", by_stage(runs, lambda stage: stage.ensemble_accuracy)),
            line("end to end", "whole", level),
        ),
    )


def risk_by_depth(runs: Sequence[RunFacts]) -> Figure:
    """Progressive improvement (Prop. 3.1), where stages keep their best point: their others have no such number."""
    return Figure(
        name="training-risk",
        title="Training risk by depth",
        description="Mean cross entropy over all training images, in evaluation: as each stage starts, and at its best "
        "point, which is kept. A stage that starts from the identity and the head before it starts where that ended.",
        x_name="stage",
        y_name="cross entropy",
        x_range=stage_axis(runs),
        y_limits=NO_LESS_THAN_0,
        digits=4,
        label_digits=4,
        series=(
            line("start", "train", by_stage(runs, lambda stage: stage.best.start_risk if stage.best else None)),
            line("kept", "test", by_stage(runs, lambda stage: stage.best.risk if stage.best else None)),
        ),
    )


def accuracy_by_epoch(runs: Sequence[RunFacts]) -> Figure:
    """Of every stage, one after the other."""
    return Figure(
        name="accuracy-by-epoch",
        title="Accuracy while training",
        description="After each epoch, the stages one after the other: on the epoch's "
        f"{training_images([run.run for run in runs])}, and on those held out for validation.",
        x_name="epochs, all stages in turn",
        y_name="accuracy, %",
        y_limits=PERCENT,
        series=(
            line("train", "train", *_by_epoch(runs, "train_accuracy")),
            line("validation", "validation", *_by_epoch(runs, "validation_accuracy")),
        ),
        x_range=_epochs(runs),
        divisions=_divisions(runs),
    )


def loss_by_epoch(runs: Sequence[RunFacts]) -> Figure:
    """Of every stage, one after the other."""
    return Figure(
        name="loss-by-epoch",
        title="Loss while training",
        description=f"Mean cross entropy over each epoch's {training_images([run.run for run in runs])}, the stages "
        "one after the other.",
        x_name="epochs, all stages in turn",
        y_name="cross entropy",
        digits=4,
        label_digits=2,
        y_limits=NO_LESS_THAN_0,
        series=(line("train", "train", *_by_epoch(runs, "train_loss")),),
        x_range=_epochs(runs),
        divisions=_divisions(runs),
    )


def _begins(runs: Sequence[RunFacts]) -> list[int]:
    """Epochs before each stage by the config, and before the end; runs of one report have the same."""
    total = [0]
    for stage in runs[0].stages:
        total.append(total[-1] + stage.due_epochs)
    return total


def _epochs(runs: Sequence[RunFacts]) -> tuple[float, float]:
    return (0.0, float(_begins(runs)[-1]))


def _divisions(runs: Sequence[RunFacts]) -> tuple[tuple[float, str], ...]:
    return tuple((float(begin), f"stage {j}") for j, begin in enumerate(_begins(runs)[:-1]))


def _by_epoch(runs: Sequence[RunFacts], name: str) -> Iterator[tuple[Point, ...]]:
    """A segment for each stage: a number of its epochs, each at its end."""
    for j, begin in enumerate(_begins(runs)[:-1]):
        lines = ({begin + 1.0 + one.epoch: getattr(one, name) for one in run.stages[j].epochs} for run in runs)
        yield across([{x: y for x, y in points.items() if y is not None} for points in lines])
