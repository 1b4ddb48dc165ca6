"""The figures of a report, from what is known of one run, or of several that differ in their seeds alone."""

import math
from collections.abc import Callable, Iterator, Sequence

from pipeline.experiments.facts import RunFacts, StageFacts
from pipeline.experiments.figure import BYTES, SECONDS, Figure, Point, Tone, across, line, unit_of

PERCENT = (0.0, 100.0)
NO_LESS_THAN_0 = (0.0, math.inf)
PROBE_TONES: tuple[Tone, ...] = ("test", "train", "validation", "ensemble")

Value = Callable[[StageFacts], float | None]
"""A number of a stage, None where it has none yet."""


def figures(runs: Sequence[RunFacts]) -> list[Figure]:
    """All those that there are numbers for."""
    made = [
        accuracy_by_depth(runs),
        ensemble_by_depth(runs),
        separability_by_depth(runs),
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
        description="Of each stage's own head: on the test images, on those held out for validation, and on the "
        "augmented training images of its last epoch.",
        x_name="stage",
        y_name="accuracy, %",
        x_range=_stages(runs),
        y_limits=PERCENT,
        series=(
            line("train", "train", _by_stage(runs, _trained(lambda stage: stage.train_accuracy))),
            line(
                "validation",
                "validation",
                _by_stage(runs, _trained(lambda stage: stage.validation_accuracy)),
            ),
            line("test", "test", _by_stage(runs, lambda stage: stage.test_accuracy)),
        ),
    )


def ensemble_by_depth(runs: Sequence[RunFacts]) -> Figure:
    """Beside each head alone; and the network trained as a whole, where it is."""
    whole = across([{0.0: run.end_to_end.test_accuracy} for run in runs if run.end_to_end])
    low, high = _stages(runs)
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
            line("head", "test", _by_stage(runs, lambda stage: stage.test_accuracy)),
            line("ensemble", "ensemble", _by_stage(runs, lambda stage: stage.ensemble_accuracy)),
            line("end to end", "whole", level),
        ),
    )


def separability_by_depth(runs: Sequence[RunFacts]) -> Figure:
    """The paper's Figure 2."""
    probes = list(dict.fromkeys(one.probe for run in runs for one in run.separability))
    found = [
        line(
            probe,
            PROBE_TONES[index % len(PROBE_TONES)],
            across([{one.j: one.test_accuracy for one in run.separability if one.probe == probe} for run in runs]),
        )
        for index, probe in enumerate(probes)
    ]
    return Figure(
        name="separability",
        title="Separability by depth",
        description="Test accuracy of probes trained on x_j, the input of stage j; x_0 are the images.",
        x_name="j",
        y_name="test accuracy, %",
        x_range=(-0.3, max((point.x for series in found for point in series.points), default=0.0) + 0.3),
        y_limits=PERCENT,
        series=tuple(found),
    )


def accuracy_by_epoch(runs: Sequence[RunFacts]) -> Figure:
    """Of every stage, one after the other."""
    return Figure(
        name="accuracy-by-epoch",
        title="Accuracy while training",
        description="After each epoch, the stages one after the other: on the epoch's augmented training images, and "
        "on those held out for validation.",
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
        description="Mean cross entropy over each epoch's augmented training images, the stages one after the other.",
        x_name="epochs, all stages in turn",
        y_name="cross entropy",
        digits=4,
        label_digits=2,
        y_limits=NO_LESS_THAN_0,
        series=(line("train", "train", *_by_epoch(runs, "train_loss")),),
        x_range=_epochs(runs),
        divisions=_divisions(runs),
    )


def training_time(runs: Sequence[RunFacts]) -> Figure:
    """As measured, and as planned; the mean of several runs is of finished stages alone."""
    return _measured(
        runs,
        "time",
        "Time of training",
        "Of each stage's epochs with their validation",
        _trained(lambda stage: stage.seconds) if len(runs) > 1 else lambda stage: stage.seconds,
        lambda stage: stage.planned_seconds,
        units=SECONDS,
    )


def throughput(runs: Sequence[RunFacts]) -> Figure:
    """As measured, and as planned."""
    return _measured(
        runs,
        "throughput",
        "Images a second",
        "Trained, over all epochs of each stage",
        lambda stage: stage.images_per_second,
        lambda stage: stage.planned_images_per_second,
        units=((1.0, "images/s"), (1e3, "thousand images/s")),
    )


def disk(runs: Sequence[RunFacts]) -> Figure:
    """Of x_0 and of what each stage has written."""

    def stored(run: RunFacts) -> dict[float, float]:
        written = {float(stage.j + 1): float(stage.status.store_bytes) for stage in run.stages}
        return {0.0: float(run.images_bytes), **{index: nbytes for index, nbytes in written.items() if nbytes}}

    predicted = [
        {stage.j + 1.0: float(stage.planned_store_bytes) for stage in run.stages if stage.planned_store_bytes}
        for run in runs
    ]
    return _bars(
        "disk",
        "Bytes on disk",
        "Of each stored x_j, all splits; x_0 are the images. A store that was deleted, or never written, has no bar."
        + (" Predictions before a stage is trained are bounds." if any(predicted) else ""),
        [stored(run) for run in runs],
        predicted,
        x_name="j of x_j",
        x_range=(-0.6, max(len(run.stages) for run in runs) - 0.4),
        units=BYTES,
    )


def memory(runs: Sequence[RunFacts]) -> Figure:
    """The peak, as measured and as planned."""
    on = {stage.record.device.partition(":")[0] for run in runs for stage in run.stages if stage.record}
    what = "of the process, on a CPU" if on <= {"cpu"} else "of the device"
    return _measured(
        runs,
        "memory",
        "Memory at its peak",
        f"While each stage trained, {what}",
        lambda stage: stage.peak_memory_bytes,
        lambda stage: stage.planned_peak_bytes,
        units=BYTES,
    )


def signal_to_noise(runs: Sequence[RunFacts]) -> Figure:
    """What the encodings cost."""
    return _bars(
        "signal-to-noise",
        "What rounding leaves",
        "Signal to noise of x_j as it is stored or replayed, measured on other samples than its scale was taken from. "
        "Where an encoding makes no error there is no bar.",
        [
            {
                stage.j + 1.0: stage.encoding.signal_to_noise_db
                for stage in run.stages
                if stage.encoding and stage.encoding.signal_to_noise_db is not None
            }
            for run in runs
        ],
        [],
        x_name="j of x_j",
        x_range=(0.4, max(max(len(run.stages) for run in runs) - 0.4, 1.6)),
        units=((1.0, "dB"),),
    )


def _measured(
    runs: Sequence[RunFacts],
    name: str,
    title: str,
    description: str,
    measured: Value,
    planned: Value,
    *,
    units: Sequence[tuple[float, str]],
) -> Figure:
    """Bars by stage."""
    predictions = [_numbers(run, planned) for run in runs]
    beside = ", with what the plan predicted." if any(predictions) else "."
    values = [_numbers(run, measured) for run in runs]
    low, high = _stages(runs)
    return _bars(
        name,
        title,
        description + beside,
        values,
        predictions,
        x_name="stage",
        x_range=(low - 0.3, high + 0.3),
        units=units,
    )


def _bars(
    name: str,
    title: str,
    description: str,
    measured: Sequence[dict[float, float]],
    predicted: Sequence[dict[float, float]],
    *,
    x_name: str,
    x_range: tuple[float, float],
    units: Sequence[tuple[float, str]],
) -> Figure:
    every = [value for run in (*measured, *predicted) for value in run.values()]
    unit, unit_name = unit_of(every, units)

    def points(runs: Sequence[dict[float, float]]) -> tuple[Point, ...]:
        return across([{x: value / unit for x, value in run.items()} for run in runs])

    return Figure(
        name=name,
        title=title,
        description=description,
        kind="bars",
        x_name=x_name,
        y_name=unit_name,
        x_range=x_range,
        label_digits=0 if max(every, default=0.0) >= 100 * unit else 1,
        series=(
            line("measured", "test", points(measured)),
            line("predicted", "predicted", points(predicted)),
        ),
    )


def _trained(value: Value) -> Value:
    """The same of finished stages alone."""
    return lambda stage: value(stage) if stage.record else None


def _numbers(run: RunFacts, value: Value) -> dict[float, float]:
    """By stage, of those that have one."""
    found = ((stage.j, value(stage)) for stage in run.stages)
    return {float(j): float(number) for j, number in found if number is not None}


def _by_stage(runs: Sequence[RunFacts], value: Value) -> tuple[Point, ...]:
    return across([_numbers(run, value) for run in runs])


def _stages(runs: Sequence[RunFacts]) -> tuple[float, float]:
    """An axis of all stages, trained or not."""
    return (-0.3, max(len(run.stages) for run in runs) - 0.7)


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
