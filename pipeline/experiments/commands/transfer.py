"""`cascade transfer`: features of every depth on another data set."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.opening import device_of, open_to_look, reporter, should_stop
from pipeline.options import (
    accept_option,
    budget_options,
    device_option,
    json_option,
    run_option,
    set_option,
    shared_options,
)


@click.command()
@click.option("--data", required=True, metavar="ADDRESS", help="As data.source; or folder:DIR with DIR/CLASS/*.")
@click.option("--j", "depths", type=int, multiple=True, help="Of x_J, more than once; default all past the images.")
@click.option("--per-class", type=click.IntRange(min=1), default=30, help="Images of each class to train on; 30.")
@click.option("--splits", type=click.IntRange(min=1, max=1000), default=10, help="Random ones; 10.")
@click.option("--seed", type=click.IntRange(min=0, max=2**63 - 1), default=0, help="Of the splits.")
@click.option("--skip-small", is_flag=True, help="Leave out classes of too few images.")
@click.option("--skip-bad", is_flag=True, help="Leave out damaged images; all are decoded once more to find them.")
@shared_options(
    run_option,
    set_option,
    budget_options,
    device_option,
    accept_option("Take stages of other settings too where those of the config are not trained."),
    json_option,
)
def transfer(
    data: str,
    depths: tuple[int, ...],
    per_class: int,
    splits: int,
    seed: int,
    skip_small: bool,
    skip_bad: bool,
    run_path: Path,
    settings: tuple[str, ...],
    device: str | None,
    accept_stale: bool,
    as_json: bool,
) -> None:
    """Tell apart the classes of another data set by what the network makes of its images.

    Of each x_J the average over its pixels, PCA to 500 and multinomial logistic regression by SAGA, fitted on some
    images of each class and scored on all others, in several random splits.
    """
    from pipeline.config_file import absolute_source
    from pipeline.experiments.linear_transfer import Settings
    from pipeline.experiments.linear_transfer import transfer as transfer_to
    from pipeline.experiments.transfertables import transfer_json, transfer_table

    folder = open_to_look(run_path, settings, accept_stale)
    address = absolute_source(data, Path.cwd())
    asked = Settings(
        data=address, per_class=per_class, splits=splits, seed=seed, skip_small=skip_small, skip_bad=skip_bad
    )
    found = transfer_to(folder, asked, depths, device_of(folder, device), reporter(), should_stop=should_stop())
    click.echo(transfer_json(found) if as_json else transfer_table(found))
