"""The command line: parses, calls, prints. Whatever is heavy is imported inside the command that needs it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from pipeline.experiments.commands import COMMANDS
from pipeline.opening import device_of, load, open_run, open_to_look, open_to_show, reporter, should_stop
from pipeline.options import (
    accept_before_option,
    accept_option,
    accept_stores_option,
    budget_options,
    device_option,
    json_option,
    run_option,
    set_option,
    shared_options,
    skip_bad_option,
    strict_option,
)

EXIT_CODES = """
\b
Exit codes: 0 done, 1 failure, 2 usage or config, 3 stale or refused, 4 corrupt data,
5 run folder in use by another process, 6 not enough disk or memory, 130/143 interrupted.
"""


@click.group(epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="cascade-layerwise", prog_name="cascade")
def cascade() -> None:
    """Train a deep CNN one block at a time, through a store of activations on disk.

    \b
    cascade demo                    a whole training in under a minute
    cascade init cifar10-k3 DIR     a config to edit; then, in DIR:
    cascade plan                    which x_j to store, and how long it all takes
    cascade run                     ingest the images, train every stage
    cascade train-stage --j 3       train one
    cascade evaluate                every stage and the ensemble on the test images
    cascade report                  one HTML page with figures, at any time
    cascade verify                  every stored byte; cascade repair, where one is damaged
    cascade gc                      what could be deleted
    """


@cascade.command()
def presets() -> None:
    """List the configs that `init` copies."""
    from pipeline.presets import preset_names, preset_summary

    width = max(map(len, preset_names()))
    for name in preset_names():
        click.echo(f"{name:<{width}}  {preset_summary(name)}")


@cascade.command()
@click.argument("preset")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@set_option
def init(preset: str, folder: Path, settings: tuple[str, ...]) -> None:
    """Write PRESET's commented config to FOLDER/cascade.toml."""
    from pipeline.presets import first_command, write_preset

    path, command = write_preset(preset, folder, settings), first_command(preset)
    click.echo(f"{path} written: read and edit it, then\nnext: cascade {command} --run {shlex.quote(str(folder))}")


@cascade.command()
@shared_options(run_option, set_option, budget_options, skip_bad_option)
def ingest(run_path: Path, settings: tuple[str, ...], skip_bad: bool) -> None:
    """Decode and resize the images once, into x_0."""
    from pipeline.runs import ingest_data

    ingest_data(load(run_path, settings), run_path, reporter(), skip_bad=skip_bad, should_stop=should_stop())


@cascade.command("train-stage")
@click.option("--j", "j", type=int, required=True, help="Index of the stage, from 0.")
@shared_options(run_option, set_option, budget_options, device_option, strict_option, accept_before_option)
def train_stage(
    j: int, run_path: Path, settings: tuple[str, ...], device: str | None, strict: bool, accept_stale: bool
) -> None:
    """Train block J and its head on x_J, test them, write x_{J+1} back."""
    from pipeline.runs import run_stages

    run = open_run(run_path, settings, accept_before=j if accept_stale else None)
    run_stages(run, j, j, device, reporter(), strict=strict, should_stop=should_stop())


@cascade.command()
@click.option("--from", "first", type=int, help="First stage; default 0.")
@click.option("--to", "last", type=int, help="Last stage, of the plan too; default the network's last.")
@shared_options(
    run_option, set_option, budget_options, device_option, skip_bad_option, strict_option, accept_before_option
)
def run(
    first: int | None,
    last: int | None,
    run_path: Path,
    settings: tuple[str, ...],
    device: str | None,
    skip_bad: bool,
    strict: bool,
    accept_stale: bool,
) -> None:
    """Ingest the images and train all stages in turn, skipping what is done.

    With --accept-stale, stages before --from may be of other settings.
    """
    accept_before = (first or 0) if accept_stale else None
    _run(run_path, settings, first, last, device, skip_bad=skip_bad, strict=strict, accept_before=accept_before)


def _run(
    run_path: Path,
    settings: tuple[str, ...] = (),
    first: int | None = None,
    last: int | None = None,
    device: str | None = None,
    *,
    skip_bad: bool = False,
    strict: bool = False,
    accept_before: int | None = None,
) -> None:
    """`run`, with the folder held from the first image to the last stage."""
    from pipeline.lock import lock_folder
    from pipeline.runs import check_before_ingest, ingest_data, run_stages

    config, say, stops = load(run_path, settings), reporter(), should_stop()
    with lock_folder(run_path, "beginning") as lock:
        check_before_ingest(config, run_path, last, device, say, lock=lock)
        ingest_data(config, run_path, say, lock=lock, skip_bad=skip_bad, should_stop=stops)
        folder = open_run(run_path, settings, accept_before=accept_before)
        run_stages(folder, first, last, device, say, plan_to=last, lock=lock, strict=strict, should_stop=stops)


@cascade.command()
@click.option("--measure", "anew", is_flag=True, help="Measure this machine again, and run a real step of every stage.")
@click.option(
    "--images", type=click.IntRange(min=1), help="Plan for as many training images, as if all was to be done."
)
@click.option(
    "--from", "first", type=int, help="First stage to train, where --accept-stale takes those before it; default 0."
)
@click.option("--to", "last", type=int, help="Last stage, as of run; default the network's last.")
@shared_options(run_option, set_option, budget_options, device_option, accept_before_option, json_option)
def plan(
    anew: bool,
    images: int | None,
    first: int | None,
    last: int | None,
    run_path: Path,
    settings: tuple[str, ...],
    device: str | None,
    accept_stale: bool,
    as_json: bool,
) -> None:
    """Say which x_J to store for the least time on this machine and disk, what each stage takes, and what else could
    be done. Before anything is ingested, too.

    With --accept-stale, stages before --from may be of other settings, as they may for `run`.
    """
    from pipeline.device import choose_device
    from pipeline.keeping import check_kept
    from pipeline.planning import plan_run
    from pipeline.plantable import plan_json, plan_table

    config = load(run_path, settings)
    name = config.machine.device if device is None else device
    chosen = choose_device(name, deterministic=config.machine.deterministic)
    folder = open_run(run_path, settings, accept_before=first or 0) if accept_stale else None
    found = plan_run(run_path, config, chosen, reporter(), anew=anew, images=images, last=last, run=folder)
    click.echo(plan_json(found) if as_json else plan_table(found))
    if found.is_refused:
        check_kept(run_path, config, chosen, run=folder, last=last)


@cascade.command()
@shared_options(
    run_option,
    set_option,
    accept_option("Show the stages of other settings that a command with --accept-stale goes on from."),
    json_option,
)
def status(run_path: Path, settings: tuple[str, ...], accept_stale: bool, as_json: bool) -> None:
    """Show every stage: state, accuracy, where its input comes from, bytes on disk, reason."""
    from pipeline.experiments.overview import beside
    from pipeline.experiments.seedstates import seed_states
    from pipeline.planning import outcomes
    from pipeline.plantable import outcome_table
    from pipeline.room import over_budget
    from pipeline.status import all_stored, next_action, other_branches
    from pipeline.status import status as stage_status
    from pipeline.tables import status_json, status_table

    folder, damage = open_to_show(run_path, settings)
    rows = stage_status(folder, accepting=accept_stale)
    branches, others = other_branches(folder, accepting=accept_stale), beside(folder, accepting=accept_stale)
    found, rows_of_plan = (folder, rows, branches, all_stored(folder), others), [] if damage else outcomes(folder)
    over, seeds = over_budget(folder), seed_states(run_path)
    click.echo(status_json(*found, rows_of_plan, seeds, over) if as_json else status_table(*found))
    if not as_json and rows_of_plan:
        click.echo(outcome_table(rows_of_plan))
    if not as_json and over:
        click.echo(f"{over.reason}\nnext: {over.next}")
    if not as_json and (action := next_action(folder, rows, accepting=accept_stale)):
        click.echo(action)
    if damage:
        click.echo(damage, err=True)


@cascade.command()
@click.option("--recompute", is_flag=True, help="From the images through the network, not from kept outputs.")
@shared_options(
    run_option,
    set_option,
    device_option,
    accept_option("Score stages of other settings too where those of the config are not trained, and say which."),
    json_option,
)
def evaluate(
    recompute: bool,
    run_path: Path,
    settings: tuple[str, ...],
    device: str | None,
    accept_stale: bool,
    as_json: bool,
) -> None:
    """Score every trained stage's head, and their ensemble, on the test images."""
    from pipeline.acceptance import describe_accepted
    from pipeline.evaluation import evaluate as evaluate_run
    from pipeline.evaluation import left_out, span
    from pipeline.tables import evaluation_json, evaluation_table

    folder = open_to_look(run_path, settings, accept_stale)
    recompute_on = device_of(folder, device) if recompute else None
    evaluation = evaluate_run(folder, recompute_on=recompute_on, should_stop=should_stop())
    click.echo(evaluation_json(evaluation, folder.accepted) if as_json else evaluation_table(folder, evaluation))
    for note in evaluation.notes:
        click.echo(f"not scored: {note}", err=True)
    if folder.accepted:
        click.echo(f"accepted though stale: {describe_accepted(folder.accepted)}", err=True)
    if (trained := len(evaluation.stages)) < len(folder.stages):
        rest = span(trained, len(folder.stages) - 1)
        click.echo(f"left out: {rest}; stage {trained} is not trained{left_out(folder, trained)}", err=True)


@cascade.command()
@click.option("--deep", is_flag=True, help="Compute some chunks of each store again from its parent, and compare.")
@shared_options(run_option, set_option, device_option, accept_stores_option, json_option)
def verify(
    deep: bool, run_path: Path, settings: tuple[str, ...], device: str | None, accept_stale: bool, as_json: bool
) -> None:
    """Read every store and every stage's files, and name what is damaged."""
    from pipeline.errors import Stopped
    from pipeline.tables import verification_json, verification_sum, verification_table
    from pipeline.verify import verify as verify_run

    folder, rows = open_to_look(run_path, settings, accept_stale), []
    deep_on = device_of(folder, device) if deep else None
    try:
        for row in verify_run(folder, reporter(), deep_on=deep_on, should_stop=should_stop()):
            rows.append(row)
    except Stopped as stop:
        if any(row.damage for row in rows) and not as_json:
            click.echo(verification_table(rows))
        raise Stopped(f"{stop}; {verification_sum(rows)}") from stop
    click.echo(verification_json(rows) if as_json else verification_table(rows))
    if any(row.damage for row in rows):
        sys.exit(4)


@cascade.command()
@shared_options(run_option, set_option, device_option, accept_stores_option, json_option)
def repair(run_path: Path, settings: tuple[str, ...], device: str | None, accept_stale: bool, as_json: bool) -> None:
    """Compute what is damaged of a store again from its parent, and put back what comes out the same."""
    from pipeline.errors import Stopped
    from pipeline.repair import repair as repair_run
    from pipeline.tables import repair_json, repair_text

    folder, outcomes = open_to_look(run_path, settings, accept_stale), []
    try:
        for outcome in repair_run(folder, device_of(folder, device), reporter(), should_stop=should_stop()):
            outcomes.append(outcome)
    except Stopped:
        if outcomes and not as_json:
            click.echo(repair_text(outcomes))
        raise
    click.echo(repair_json(outcomes) if as_json else repair_text(outcomes))
    if any(outcome.left for outcome in outcomes):
        sys.exit(4)


@cascade.command()
@click.option("--yes", is_flag=True, help="Delete; without it nothing is.")
@click.option("--keep-branches", is_flag=True, help="Leave what was made with other settings.")
@shared_options(
    run_option,
    set_option,
    accept_option("Leave stages of other settings that a command with --accept-stale goes on from."),
    json_option,
)
def gc(
    yes: bool, keep_branches: bool, run_path: Path, settings: tuple[str, ...], accept_stale: bool, as_json: bool
) -> None:
    """List what nothing needs any more, and with --yes delete it: stages of other settings, stores that nothing will
    read again, and what interrupted commands left. Never the images, x_0.

    With --accept-stale, stages and stores of other settings that a command with it would start from are left.
    """
    from pipeline.gc import collect
    from pipeline.tables import garbage_json, garbage_table

    folder = open_to_look(run_path, settings, False)
    garbage = collect(folder, delete=yes, keep_branches=keep_branches, accept_stale=accept_stale)
    click.echo(garbage_json(garbage, deleted=yes) if as_json else garbage_table(folder, garbage, deleted=yes))
    for lost in filter(None, map(folder.lost, range(1, len(folder.stages) + 1))):
        click.echo(f"not listed: {lost}", err=True)
    if garbage and not yes and not as_json:
        options = f"{' --keep-branches' * keep_branches}{' --accept-stale' * accept_stale}"
        if any(one.kind == "branch" for one in garbage):
            click.echo("--keep-branches leaves what was made with other settings", err=True)
        click.echo(f"nothing is deleted yet\nnext: {folder.command(f'gc --yes{options}')}", err=True)


@cascade.command()
@click.option(
    "--run", "run_path", type=click.Path(path_type=Path), default="cascade-demo", metavar="DIR", help="Where to."
)
@device_option
def demo(run_path: Path, device: str | None) -> None:
    """Train a three-block network on handwritten digits, from nothing, in under a minute."""
    from pipeline.presets import write_preset

    say, place = reporter().say, shlex.quote(str(run_path))
    if not (run_path / "cascade.toml").exists():
        say(f"$ cascade init digits {place}")
        write_preset("digits", run_path, ())
    say(f"$ cascade run --run {place}")
    _run(run_path, device=device)
    say(f"$ cascade status --run {place}")
    click.get_current_context().invoke(status, run_path=run_path)
    say(f"$ cascade evaluate --run {place}")
    click.get_current_context().invoke(evaluate, run_path=run_path, device=device)


for command in COMMANDS:
    cascade.add_command(command)


def main() -> None:
    """Entry point of the `cascade` command."""
    from pipeline.errors import Stopped
    from pipeline.stopping import StopSignals

    with StopSignals() as signals:
        try:
            cascade(standalone_mode=False, obj=signals)
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except (Stopped, KeyboardInterrupt, click.Abort) as stop:
            click.echo(f"interrupted: {str(stop) or 'at once'}\nnext: {_same_command()}", err=True)
            sys.exit(signals.exit_code)
        except Exception as error:
            from pipeline.failure import failure

            known = failure(error)
            if known is None:
                raise
            click.echo(f"error: {known[0]}", err=True)
            sys.exit(known[1])


def _same_command() -> str:
    """What was typed, to type it again."""
    return shlex.join(["cascade", *sys.argv[1:]])


if __name__ == "__main__":
    main()
