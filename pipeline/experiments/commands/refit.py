"""`cascade refit-last`: the last stage again, with another head."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.opening import open_to_look, reporter, should_stop
from pipeline.options import (
    accept_before_option,
    budget_options,
    device_option,
    json_option,
    run_option,
    set_option,
    shared_options,
    strict_option,
)


@click.command("refit-last")
@click.option(
    "--head-width",
    "width",
    type=click.IntRange(1, 2**16),
    required=True,
    metavar="M",
    help="Channels of the head's hidden layers.",
)
@shared_options(run_option, set_option, budget_options, device_option, strict_option, accept_before_option, json_option)
def refit_last(
    width: int,
    run_path: Path,
    settings: tuple[str, ...],
    device: str | None,
    strict: bool,
    accept_stale: bool,
    as_json: bool,
) -> None:
    """Train the last block again, from fresh weights, with a head of M channels, beside the last stage.

    What is trained already is only scored: every stage, the refits, and the ensemble with each of them.
    """
    from pipeline.evaluation import evaluate
    from pipeline.experiments.refit import refit_last as train
    from pipeline.tables import evaluation_json, evaluation_table

    folder = open_to_look(run_path, settings, accept_stale)
    train(folder, width, device, reporter(), strict=strict, should_stop=should_stop())
    found = evaluate(folder)
    click.echo(evaluation_json(found, folder.accepted) if as_json else evaluation_table(folder, found))
    for note in found.notes:
        click.echo(f"not scored: {note}", err=True)
