"""`cascade compare`: two trainings, or two sweeps, seed by seed; or what one has trained, with its end to end."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.options import json_option


@click.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path), required=False)
@click.option(
    "--against",
    metavar="NAME",
    help='Of A alone: what all else is compared with, as in "stage 2" or "ensemble"; default: "end to end".',
)
@json_option
def compare(a: Path, b: Path | None, against: str | None, as_json: bool) -> None:
    """Compare the test accuracy of run folders A and B, or of their sweeps, stage by stage.

    Without B, compare the stages and the ensemble of A with the same network trained end to end, or with what --against
    names. Differences are paired by seed, over the seeds that have both.
    """
    from pipeline.errors import ConfigError
    from pipeline.experiments.compare import compare as compare_runs
    from pipeline.experiments.compare import compare_within
    from pipeline.experiments.seedtables import comparison_json, comparison_table

    if b is not None and against is not None:
        raise ConfigError(f"--against {against}: two run folders are compared name by name\nnext: leave it out, or {b}")
    if b is not None:
        found = compare_runs(a, b)
    else:
        found = compare_within(a) if against is None else compare_within(a, against)
    click.echo(comparison_json(found) if as_json else comparison_table(found))
