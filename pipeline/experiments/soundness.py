"""Whether what experiments keep beside the stages is as it was written."""

from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.checked import Checked, Damage
from pipeline.errors import CorruptDataError, first_line, remedy_of
from pipeline.experiments.linear_transfer import read_transfer
from pipeline.experiments.places import COMMANDS, SEEDS, SUMMARY, TRANSFER, TRANSFER_RECORD
from pipeline.experiments.summary import read_summary
from pipeline.paths import matching
from pipeline.runfolder import RunFolder
from pipeline.stage_files import check_stage


def check_beside(run: RunFolder, should_stop: Callable[[], bool]) -> Iterator[Checked]:
    """Every file of the network end to end and of probes, and the records of transfers and of a sweep.

    Raises Stopped.
    """
    for folder in (one for name in COMMANDS for one in matching(run.path / name, "[!.]*-*")):
        yield check_stage(run, folder, {}, should_stop, kind="experiment")
    for path in matching(run.path, f"{TRANSFER}/[!.]*/{TRANSFER_RECORD}"):
        yield _check_record(run, path)
    if (run.path / SEEDS / SUMMARY).exists():
        yield _check_record(run, run.path / SEEDS / SUMMARY)


def _check_record(run: RunFolder, path: Path) -> Checked:
    what, damage = str(path.relative_to(run.path)), []
    try:
        run.check_unlinked(path)
        found = read_summary(run.path) if path.name == SUMMARY else read_transfer(path)
    except CorruptDataError as error:
        found = None
        damage.append(Damage(what, first_line(error), remedy_of(error)))
    nbytes = path.stat().st_size if found is not None else 0
    return Checked(what, 1, nbytes, 0, damage, kind="experiment")
