"""`cascade probe`."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.experiments.commands.asked import as_settings, say_of_this_command_alone
from pipeline.opening import device_of, ingest_if_missing, open_to_look, reporter, should_stop
from pipeline.options import (
    accept_option,
    budget_options,
    device_option,
    json_option,
    run_option,
    set_option,
    shared_options,
    strict_option,
)

KINDS = ("linear", "cnn-1", "cnn-2")


@click.command()
@click.option("--j", "depths", type=int, multiple=True, help="Of the x_J; 0 is the images. Default: all there are.")
@click.option("--kind", "kinds", type=click.Choice(KINDS), multiple=True, help="Default: all three.")
@click.option("--epochs", type=click.IntRange(min=1), help="probe.train.epochs: of a CNN; default: train.epochs.")
@click.option("--samples", type=click.IntRange(min=8), help="probe.samples: training samples of a linear one, at most.")
@shared_options(
    run_option,
    set_option,
    budget_options,
    device_option,
    strict_option,
    accept_option("Probe what stages of other settings make, too, and record that."),
    json_option,
)
def probe(
    depths: tuple[int, ...],
    kinds: tuple[str, ...],
    epochs: int | None,
    samples: int | None,
    run_path: Path,
    settings: tuple[str, ...],
    device: str | None,
    strict: bool,
    accept_stale: bool,
    as_json: bool,
) -> None:
    """Say what can be read off x_J: by a linear classifier, and by CNNs of one and two hidden layers, by depth.

    The linear one is a logistic regression of each class against the rest, on x_J averaged to 2x2; the CNNs are
    trained as stages are. What is made already is only shown. For --j 0 alone the images are ingested
    first, where they are not.
    """
    from pipeline.experiments.probes import KINDS as ALL
    from pipeline.experiments.probes import probe_folder
    from pipeline.experiments.probing import probe as probe_run
    from pipeline.experiments.probing import probes_json, probes_table, reachable

    given = {"probe.train.epochs": epochs, "probe.samples": samples}
    with_given = (*settings, *as_settings(given))
    if set(depths) == {0}:
        ingest_if_missing(run_path, with_given)
    run = open_to_look(run_path, with_given, accept_stale)
    found = probe_run(
        run,
        sorted(set(depths)) or reachable(run),
        [kind for kind in ALL if kind in (kinds or ALL)],
        device_of(run, device),
        reporter(),
        strict=strict,
        should_stop=should_stop(),
    )
    click.echo(probes_json(run, found) if as_json else probes_table(run, found))
    without = open_to_look(run_path, settings, accept_stale)
    if any(probe_folder(without, one.j, one.kind).key != one.record.key for one in found):
        say_of_this_command_alone(given)
