"""`cascade compare`: two trainings, or two sweeps, seed by seed."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.options import json_option


@click.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@json_option
def compare(a: Path, b: Path, as_json: bool) -> None:
    """Compare the test accuracy of run folders A and B, or of their sweeps, stage by stage.

    Differences are paired by seed, over the seeds that both have.
    """
    from pipeline.experiments.compare import compare as compare_runs
    from pipeline.experiments.seedtables import comparison_json, comparison_table

    found = compare_runs(a, b)
    click.echo(comparison_json(found) if as_json else comparison_table(found))
