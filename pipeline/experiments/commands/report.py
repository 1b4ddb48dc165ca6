"""`cascade report`."""

from pathlib import Path

import click

from pipeline.opening import open_run
from pipeline.options import accept_option, json_option, set_option, shared_options


@click.command()
@click.option(
    "--run",
    "run_paths",
    type=click.Path(path_type=Path),
    multiple=True,
    default=(".",),
    metavar="DIR",
    help="Run folder; default: this one. Several that differ in their seeds give means and deviations.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The page; default: report.html in the first run folder.",
)
@shared_options(
    set_option,
    accept_option("Report on the stages of other settings that a command with --accept-stale goes on from."),
    json_option,
)
def report(
    run_paths: tuple[Path, ...], out: Path | None, settings: tuple[str, ...], accept_stale: bool, as_json: bool
) -> None:
    """Write one HTML page with figures on a run, finished or not: accuracy by depth and by epoch, the ensemble, time,
    disk and memory beside what was planned, and what was run.

    The page needs no network and no script. With --json it is not written, and its numbers are printed.
    """
    from datetime import datetime

    from cache import replace_file
    from pipeline.errors import ConfigError
    from pipeline.experiments.report.facts import run_facts
    from pipeline.experiments.report.whole import check_alike, report_html, report_json
    from pipeline.plan import as_planned

    folders = [as_planned(open_run(path, settings)) for path in dict.fromkeys(run_paths)]
    check_alike(folders)
    out = folders[0].path / "report.html" if out is None else out
    if out.suffix != ".html":
        raise ConfigError(f"--out {out}: a page, and its name does not end in .html\nnext: a name that does")
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}\nnext: make it, or give another file")
    facts = [run_facts(folder, accepting=accept_stale) for folder in folders]
    if as_json:
        click.echo(report_json(facts))
        return
    replace_file(out, report_html(facts, now=datetime.now().astimezone()).encode())
    click.echo(f"{out} written")
