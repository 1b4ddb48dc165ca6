"""What experiments keep in a run folder beside its stages, for status and verify."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.checked import Checked, Damage
from pipeline.errors import CorruptDataError, first_line, remedy_of
from pipeline.experiments.linear_transfer import RECORD, TRANSFER, key_of_depth, read_transfer
from pipeline.experiments.seeds import SEEDS, seeds_there
from pipeline.experiments.sweep import SUMMARY, read_summary
from pipeline.paths import matching
from pipeline.runfolder import RunFolder


def kept_lines(run: RunFolder) -> list[str]:
    """A line for each transfer and one for a sweep."""
    lines = []
    for path in _transfers(run.path):
        try:
            run.check_unlinked(path)
            record = read_transfer(path)
        except CorruptDataError as error:
            lines.append(f"not shown: {first_line(error)}")
            continue
        keys = {key_of_depth(run, j) for j in range(len(run.stages) + 1)}
        rows = [row for row in record.rows if row.key in keys] if record else []
        if record and rows:
            shown = ", ".join(f"x_{row.j} {row.accuracy}%" for row in rows)
            lines.append(f"transfer to {record.data}, {record.per_class} a class, {record.splits} splits: {shown}")
    if seeds := seeds_there(run.path):
        named = ", ".join(map(str, seeds))
        lines.append(
            f"seeds {named} have run folders in {run.path / SEEDS}: {run.command('sweep')} says what they scored"
        )
    return lines


def check_kept(run: RunFolder) -> Iterator[Checked]:
    """Every record of an experiment, whole or damaged."""
    for path in _transfers(run.path):
        yield _checked(run, path)
    if (run.path / SEEDS / SUMMARY).exists():
        yield _checked(run, run.path / SEEDS / SUMMARY)


def _checked(run: RunFolder, path: Path) -> Checked:
    what, damage = str(path.relative_to(run.path)), []
    try:
        run.check_unlinked(path)
        found = read_summary(run.path) if path.name == SUMMARY else read_transfer(path)
    except CorruptDataError as error:
        found = None
        damage.append(Damage(what, first_line(error), remedy_of(error)))
    nbytes = path.stat().st_size if found is not None else 0
    return Checked(what, 1, nbytes, 0, damage, kind="record")


def _transfers(folder: Path) -> list[Path]:
    return matching(folder, f"{TRANSFER}/[!.]*/{RECORD}")
