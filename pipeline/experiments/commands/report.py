"""`cascade report`."""

import errno
import os
from contextlib import suppress
from pathlib import Path

import click

from pipeline.options import accept_option, json_option, set_option, shared_options


@click.command()
@click.option(
    "--run",
    "run_paths",
    type=click.Path(path_type=Path),
    multiple=True,
    default=(".",),
    metavar="DIR",
    help="Run folder; default: this one; of a sweep its seeds. Several that differ in their seeds give means and "
    "deviations, such as differ in more are compared.",
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
    disk and memory beside what was planned, and what was run. Or on several, beside each other.

    The page needs no network and no script. With --json it is not written, and its numbers are printed.
    """
    from datetime import datetime

    from pipeline.errors import ConfigError
    from pipeline.experiments.report.facts import reported_facts
    from pipeline.experiments.report.whole import report_html, report_json

    found = (one for path in run_paths for one in reported_facts(path, settings, accepting=accept_stale))
    facts = list({one.run.path.resolve(): one for one in found}.values())
    out = run_paths[0] / "report.html" if out is None else out
    if out.suffix != ".html":
        raise ConfigError(f"--out {out}: a page, and its name does not end in .html\nnext: a name that does")
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}\nnext: make it, or give another file")
    if as_json:
        click.echo(report_json(facts))
        return
    _put(out, report_html(facts, now=datetime.now().astimezone()).encode())
    click.echo(f"{out} written")


def _put(out: Path, page: bytes) -> None:
    """Put a page in its place as a whole, by way of a file of this process alone: nobody holds the folder.

    Raises CascadeError where nothing can be written there.
    """
    from cache.files import sync, write_synced
    from pipeline.errors import CascadeError

    beside = out.with_name(f".report.{os.getpid()}.new")
    try:
        write_synced(beside, page)
        os.replace(beside, out)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise CascadeError(
            f"{out} cannot be written: {error.strerror}\nnext: --out FILE.html, in a folder that can be written"
        ) from error
    sync(out.parent)
