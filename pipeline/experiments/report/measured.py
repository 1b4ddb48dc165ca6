"""Figures of what was measured beside what was planned: time, disk, memory; and of what rounding costs."""

from collections.abc import Sequence

from pipeline.experiments.report.depth import Value, numbers_of, stage_axis, trained
from pipeline.experiments.report.facts import RunFacts
from pipeline.experiments.report.figure import BYTES, SECONDS, Figure, Point, across, line, unit_of


def training_time(runs: Sequence[RunFacts]) -> Figure:
    """As measured, and as planned; the mean of several runs is of finished stages alone."""
    return _measured(
        runs,
        "time",
        "Time of training",
        "Of each stage's epochs with their validation",
        trained(lambda stage: stage.seconds) if len(runs) > 1 else lambda stage: stage.seconds,
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
    is_bound = any(stage.planned_store_is_bound for run in runs for stage in run.stages)
    return _bars(
        "disk",
        "Bytes on disk",
        "Of each stored x_j, all splits; x_0 are the images. A store that was deleted, or never written, has no bar."
        + (" What is predicted is a bound, before compression." if is_bound else ""),
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
    predictions = [numbers_of(run, planned) for run in runs]
    beside = ", with what the plan predicted." if any(predictions) else "."
    values = [numbers_of(run, measured) for run in runs]
    low, high = stage_axis(runs)
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
