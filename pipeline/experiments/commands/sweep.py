"""`cascade sweep`: the same training with several seeds."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.opening import reporter, should_stop
from pipeline.options import (
    budget_options,
    device_option,
    json_option,
    run_option,
    set_option,
    shared_options,
    skip_bad_option,
    strict_option,
)


@click.command()
@click.option("--seeds", metavar="SEEDS", help="As in 0..4 or 0,1,7; without it nothing is trained.")
@click.option("--to", "last", type=int, help="Last stage; default the network's last.")
@click.option("--baseline", is_flag=True, help="Train the network end to end with each seed, too, after its stages.")
@shared_options(run_option, set_option, budget_options, device_option, skip_bad_option, strict_option, json_option)
def sweep(
    seeds: str | None,
    last: int | None,
    baseline: bool,
    run_path: Path,
    settings: tuple[str, ...],
    device: str | None,
    skip_bad: bool,
    strict: bool,
    as_json: bool,
) -> None:
    """Train all stages with each of several seeds, skipping what is done, and say what they scored.

    Each seed has a run folder of its own, DIR/seeds/SEED, on the images of DIR. Budgets are of all together; that of
    the disk also where one is run by hand. Only seeds that are of the same settings count: those of the config with
    --set, or, where none is, those that there are.
    """
    from pipeline.errors import ConfigError
    from pipeline.experiments.seeds import parse_seeds
    from pipeline.experiments.seedtables import summary_json, summary_table
    from pipeline.experiments.summary import summarise
    from pipeline.experiments.sweep import sweep as train

    if seeds is None and (baseline or last is not None):
        raise ConfigError("without --seeds nothing is trained\nnext: --seeds 0..4, or no --baseline and no --to")
    if seeds is None:
        summary = summarise(run_path, settings)
    else:
        summary = train(
            run_path,
            parse_seeds(seeds),
            settings,
            last,
            device,
            reporter(),
            baseline=baseline,
            skip_bad=skip_bad,
            strict=strict,
            should_stop=should_stop(),
        )
    click.echo(summary_json(summary) if as_json else summary_table(summary))
