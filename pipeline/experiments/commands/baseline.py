"""`cascade baseline`."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.experiments.commands.asked import as_settings, say_of_this_command_alone
from pipeline.opening import device_of, ingest_if_missing, open_run, reporter, should_stop
from pipeline.options import (
    budget_options,
    device_option,
    json_option,
    run_option,
    set_option,
    shared_options,
    strict_option,
)


@click.command()
@click.option("--epochs", type=click.IntRange(min=1), help="baseline.train.epochs; default: the last stage's.")
@click.option(
    "--head-width",
    type=click.IntRange(min=1),
    help="baseline.head_width: channels of the head; default: the last stage's.",
)
@click.option("--plan", "is_planned", is_flag=True, help="Only say how long it takes; nothing is trained.")
@shared_options(run_option, set_option, budget_options, device_option, strict_option, json_option)
def baseline(
    epochs: int | None,
    head_width: int | None,
    is_planned: bool,
    run_path: Path,
    settings: tuple[str, ...],
    device: str | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Train the same network end to end, all blocks and the last stage's head at once, to compare the stages with.

    On the images in the order, batches and augmentation of stage 0, by the section [baseline] of the config. The images
    are ingested first, where they are not. With --plan some steps are timed and what the device's memory takes is
    predicted, or refused as the training is.
    """
    from pipeline.experiments.baseline import baseline_json, baseline_table, compared, train_baseline
    from pipeline.experiments.end_to_end import end_to_end
    from pipeline.experiments.foreseen import plan_baseline, planned_json, planned_text

    given = {"baseline.train.epochs": epochs, "baseline.head_width": head_width}
    with_given = (*settings, *as_settings(given))
    ingest_if_missing(run_path, with_given)
    run = open_run(run_path, with_given)
    if is_planned:
        planned = plan_baseline(run, device_of(run, device))
        click.echo(planned_json(planned) if as_json else planned_text(planned))
        return
    record = train_baseline(run, device_of(run, device), reporter(), strict=strict, should_stop=should_stop())
    rows = compared(run, record)
    click.echo(baseline_json(rows) if as_json else baseline_table(rows))
    if end_to_end(open_run(run_path, settings)).key != record.key:
        say_of_this_command_alone(given)
