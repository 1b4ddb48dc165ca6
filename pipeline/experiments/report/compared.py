"""Figures of several methods: a line each, or a row."""

import math
from collections.abc import Callable, Sequence

from pipeline.experiments.report.depth import Value, by_stage, numbers_of, stage_axis, trained
from pipeline.experiments.report.facts import RunFacts
from pipeline.experiments.report.figure import (
    BYTES,
    PERCENT,
    SECONDS,
    Figure,
    Point,
    Series,
    Tone,
    across,
    line,
    unit_of,
)
from pipeline.experiments.report.methods import Method
from pipeline.experiments.report.words import of_training

NO_LESS_THAN_0 = (0.0, math.inf)


def compared_figures(methods: Sequence[Method]) -> list[Figure]:
    """All those that there are numbers for."""
    made = [
        _by_depth(
            methods,
            "accuracy-by-depth",
            "Test accuracy by depth",
            "Of each stage's own head, on the test images.",
            lambda stage: stage.test_accuracy,
        ),
        where_each_ends(methods),
        _by_depth(
            methods,
            "ensemble-by-depth",
            "The ensemble by depth",
            "Of the heads up to each stage together, on the test images.",
            lambda stage: stage.ensemble_accuracy,
        ),
        _by_depth(
            methods,
            "training-by-depth",
            "Training accuracy by depth",
            f"Of each stage's own head, on {of_training([facts.run for one in methods for facts in one.runs])}.",
            trained(lambda stage: stage.train_accuracy),
        ),
        training_risk(methods),
        separability(methods),
        _measured(
            methods,
            "time",
            "Time of training",
            "Of each stage's epochs with their validation.",
            trained(lambda stage: stage.seconds),
            SECONDS,
        ),
        _measured(
            methods,
            "memory",
            "Memory at its peak",
            "While each stage trained, of the device; on a CPU, of the process.",
            lambda stage: stage.peak_memory_bytes,
            BYTES,
        ),
    ]
    return [figure for figure in made if figure.points]


def training_risk(methods: Sequence[Method]) -> Figure:
    """Of those methods whose stages keep their best point."""
    return Figure(
        name="training-risk",
        title="Training risk by depth",
        description="Mean cross entropy over all training images, in evaluation, at each stage's best point; of "
        "methods that keep it.",
        x_name="stage",
        y_name="cross entropy",
        x_range=_all_stages(methods),
        y_limits=NO_LESS_THAN_0,
        digits=4,
        label_digits=4,
        series=tuple(
            line(method.name, method.tone, by_stage(method.runs, lambda stage: stage.best.risk if stage.best else None))
            for method in methods
        ),
    )


def where_each_ends(methods: Sequence[Method]) -> Figure:
    """The last stage that all of a method's runs have, the ensemble up to it, and the network trained as a whole."""

    def series(name: str, tone: Tone, value: Callable[[RunFacts], float | None]) -> Series:
        points = []
        for row, method in enumerate(methods):
            found = [number for facts in ended(method) if (number := value(facts)) is not None]
            points += [
                Point(float(row), point.y, point.deviation, point.n)
                for point in across([{0.0: number} for number in found])
            ]
        return line(name, tone, points)

    return Figure(
        name="where-each-ends",
        title="Where each ends",
        description="Test accuracy of the last trained stage's head, of the ensemble of all heads up to it, and of the "
        "same network trained end to end where it was.",
        kind="dots",
        x_name=" method",
        y_name="test accuracy, %",
        x_range=(-0.5, len(methods) - 0.5),
        y_limits=PERCENT,
        rows=tuple(method.name for method in methods),
        series=(
            series("last stage", "test", lambda facts: facts.trained[-1].test_accuracy if facts.trained else None),
            series("ensemble", "ensemble", _ensemble),
            series("end to end", "whole", lambda facts: facts.end_to_end.test_accuracy if facts.end_to_end else None),
        ),
    )


def _ensemble(facts: RunFacts) -> float | None:
    """Of more than one head."""
    return facts.trained[-1].ensemble_accuracy if len(facts.trained) > 1 else None


def ended(method: Method) -> Sequence[RunFacts]:
    """Those of its runs that are trained the farthest: the others are of another depth."""
    farthest = max(len(facts.trained) for facts in method.runs)
    return [facts for facts in method.runs if len(facts.trained) == farthest]


def separability(methods: Sequence[Method]) -> Figure:
    """Of linear probes."""
    found = [
        line(
            method.name,
            method.tone,
            across(
                [
                    {float(one.j): one.test_accuracy for one in facts.separability if one.probe == "linear"}
                    for facts in method.runs
                ]
            ),
        )
        for method in methods
    ]
    return Figure(
        name="separability",
        title="Separability by depth",
        description="Test accuracy of linear probes on x_j, the input of stage j; x_0 are the images.",
        x_name="j",
        y_name="test accuracy, %",
        x_range=(-0.3, max((point.x for series in found for point in series.points), default=0.0) + 0.3),
        y_limits=PERCENT,
        series=tuple(found),
    )


def _by_depth(methods: Sequence[Method], name: str, title: str, description: str, value: Value) -> Figure:
    return Figure(
        name=name,
        title=title,
        description=description,
        x_name="stage",
        y_name="accuracy, %",
        x_range=_all_stages(methods),
        y_limits=PERCENT,
        series=tuple(line(method.name, method.tone, by_stage(method.runs, value)) for method in methods),
    )


def _measured(
    methods: Sequence[Method],
    name: str,
    title: str,
    description: str,
    value: Value,
    units: Sequence[tuple[float, str]],
) -> Figure:
    numbers = [[numbers_of(facts, value) for facts in method.runs] for method in methods]
    every = [number for runs in numbers for run in runs for number in run.values()]
    unit, unit_name = unit_of(every, units)
    scaled = [[{x: y / unit for x, y in run.items()} for run in runs] for runs in numbers]
    return Figure(
        name=name,
        title=title,
        description=description,
        x_name="stage",
        y_name=unit_name,
        x_range=_all_stages(methods),
        y_limits=NO_LESS_THAN_0,
        label_digits=0 if max(every, default=0.0) >= 100 * unit else 1,
        series=tuple(
            line(method.name, method.tone, across(runs)) for method, runs in zip(methods, scaled, strict=True)
        ),
    )


def _all_stages(methods: Sequence[Method]) -> tuple[float, float]:
    return stage_axis([facts for method in methods for facts in method.runs])
