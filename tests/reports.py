"""A small trained run for tests of reports, with a plan that nothing had to be measured for."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.experiments.report.facts import RunFacts
from pipeline.experiments.report.figure import Figure
from pipeline.experiments.report.figures import figures
from pipeline.opening import open_to_look
from pipeline.plan import PLAN, Plan, StagePlan, settings_digest
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.runs import run_stages
from pipeline.sealed import write_sealed
from tests.runs import tiny_run


def reported_run(folder: Path, *settings: str) -> RunFolder:
    """Two stages of two epochs trained, x_1 stored, and a plan of them."""
    run = tiny_run(folder, "cache.keep=all", *settings)
    run_stages(run, None, None, "cpu", Reporter())
    write_sealed(folder / PLAN, made_plan(run))
    return open_to_look(folder, (), False)


def made_plan(run: RunFolder) -> Plan:
    """Of two stages, the first of which writes x_1."""
    return Plan(
        anchors=[0, 1],
        keep=run.config.cache.keep,
        stages=[_stage_plan(run, 0), _stage_plan(run, 1)],
        predicted=[],
        measured=[],
        images=dict(run.info.samples),
        seconds=6.0,
        peak_bytes=3000,
        disk_bytes=10**9,
        peak_basis="raw",
        beside_bytes=0,
        drops=[],
        alternatives=[],
        samples=[],
        machine={},
    )


def _stage_plan(run: RunFolder, j: int) -> StagePlan:
    return StagePlan(
        j=j,
        anchor=j,
        writes=1 if j == 0 else None,
        written_bytes=2000 if j == 0 else 0,
        written_basis="raw" if j == 0 else None,
        deletes=None,
        alive_bytes=3000,
        alive_basis="raw",
        training_seconds=2.0,
        ending_seconds=0.5,
        writing_seconds=0.5,
        replaying_seconds=0.0,
        reading_seconds=0.0,
        images_per_second=50.0,
        limited_by="device",
        micro_batch=8,
        recompute=False,
        device_peak_bytes=None,
        settings=settings_digest(run.config, j),
    )


def by_name(runs: Sequence[RunFacts]) -> dict[str, Figure]:
    """The figures of a report."""
    return {figure.name: figure for figure in figures(runs)}


def values(figure: Figure, name: str) -> dict[float, float]:
    """Of a series."""
    (series,) = [series for series in figure.series if series.name == name]
    return {point.x: point.y for point in series.points}
