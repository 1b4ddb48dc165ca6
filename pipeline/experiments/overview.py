"""What experiments keep beside the stages, as far as names and records say: for `status`, `gc` and whoever lists it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.acceptance import accept_stale
from pipeline.bad_images import printable
from pipeline.checkpoint import read_position
from pipeline.errors import ConfigError, CorruptDataError, first_line, remedy_of
from pipeline.experiments.end_to_end import NAME, end_to_end
from pipeline.experiments.linear_transfer import key_of_depth, read_transfer
from pipeline.experiments.places import (
    BASELINES,
    COMMANDS,
    PROBE_RECORD,
    SEEDS,
    TRANSFER,
    TRANSFER_RECORD,
    makes_again,
)
from pipeline.experiments.probes import KINDS, Kind, LinearRecord, cnn_problem, linear_fields, probe_folder, read_probe
from pipeline.experiments.seedstates import described_seeds, seed_states
from pipeline.keys import Fields, differences
from pipeline.paths import matching
from pipeline.problem import Problem
from pipeline.record import StageRecord, read_own_record
from pipeline.refits import Refit, find_refits
from pipeline.runfolder import RunFolder
from pipeline.sealed import read_sealed
from pipeline.status import refit_status

Kinds = Literal["refit", "baseline", "probe", "transfer", "seeds"]


@dataclass(frozen=True)
class Beside:
    """One row: a refit, the network end to end, a probe, a transfer, or the seeds of a sweep."""

    kind: Kinds
    what: str
    """As in "end to end", "linear on x_2"."""
    state: str
    """done; damaged (a file is missing or not whole); partial (some epochs); stale (made with other settings); begun
    (of a sweep, while a seed of it is not done)."""
    test_accuracy: float | None
    """Percent; None of what has several."""
    path: str
    """Its folder."""
    reason: str
    """Why it is in this state, what it came to, or what to type next."""


def beside(run: RunFolder, *, accepting: bool = False) -> list[Beside]:
    """What was begun under the present config, and what was made under another one; `accepting`, on the blocks that
    --accept-stale goes on from. What is damaged is a row like others."""
    run = accept_stale(run) if accepting else run
    refits = [_refit(one) for one in find_refits(run)]
    whole = _of_problem(run, end_to_end(run), "baseline")
    probes = [found for j in range(len(run.stages) + 1) for kind in KINDS if (found := _probe(run, j, kind))]
    transfers = [_transfer(run, path) for path in matching(run.path, f"{TRANSFER}/[!.]*/{TRANSFER_RECORD}")]
    seeds = _seeds(run)
    return [*refits, *([whole] if whole else []), *probes, *others(run), *transfers, *([seeds] if seeds else [])]


def others(run: RunFolder) -> list[Beside]:
    """The networks end to end and the probes that were made with other settings than the config's, and in what they
    differ: among them those of options that held for one command alone."""
    known = reached(run)
    folders = (path for name in COMMANDS for path in matching(run.path / name, "[!.]*-*") if path not in known)
    return [found for path in folders if path.name.partition("-")[0].isdigit() and (found := _other(run, path))]


def other_notes(run: RunFolder) -> list[str]:
    """What was made beside the stages with other settings, and so is in no figure, a line each."""
    return [
        f"not shown: {one.what}, {one.state}"
        + (f", test {one.test_accuracy:.2f}%" if one.test_accuracy is not None else "")
        + f": {one.reason}"
        for one in others(run)
    ]


def reached(run: RunFolder) -> set[Path]:
    """The folders of all that the config describes, whether it is there or not."""
    probes = {path for j in range(len(run.stages) + 1) for kind in KINDS if (path := _place(run, j, kind))}
    return {end_to_end(run).folder.path, *probes, *(refit.folder.path for refit in find_refits(run))}


def why_not_reached(run: RunFolder, folder: Path) -> str:
    """What a folder of other settings holds, and in what they differ."""
    if (row := _other(run, folder)) is None:
        return f"{_named(folder, None)} with other settings, not finished"
    test = f", test {row.test_accuracy:.2f}%" if row.test_accuracy is not None else f", {row.state}"
    return f"{row.what} with other settings{test}: {row.reason}"


def _other(run: RunFolder, folder: Path) -> Beside | None:
    """The row of a folder of other settings; None where what it holds is not finished."""
    kind: Kinds = "baseline" if folder.parent.name == BASELINES else "probe"
    try:
        record = read_any(folder)
    except CorruptDataError as error:
        return _damaged(kind, _named(folder, None), folder, error)
    if record is None:
        return None
    j, of = int(folder.name.partition("-")[0]), record.fields.get("of")
    now = _fields(run, j, of)
    reason = "; ".join(_changes(record.fields, now)) if now else f"the network has no x_{j} for it"
    return Beside(kind, _named(folder, of), "stale", record.test_accuracy, str(folder), reason)


def _named(folder: Path, of: object) -> str:
    """As in "end to end", "linear on x_2", or where nobody knows of what, "a probe of x_2"."""
    j = folder.name.partition("-")[0]
    if folder.parent.name == BASELINES:
        return NAME
    return f"a probe of x_{j}" if of is None else f"{of} on x_{j}"


def _damaged(kind: Kinds, what: str, folder: Path, error: CorruptDataError) -> Beside:
    """A row of what cannot be read, with what to do."""
    return Beside(kind, what, "damaged", None, str(folder), f"{first_line(error)}: {remedy_of(error)}")


def read_any(folder: Path) -> StageRecord | LinearRecord | None:
    """The record of a baseline or a probe, of whatever settings; None where it is not finished.

    Raises CorruptDataError.
    """
    remedy = f"delete {folder} and {makes_again(folder)}"
    return read_own_record(folder) or read_sealed(folder / PROBE_RECORD, LinearRecord, remedy=remedy)


def _fields(run: RunFolder, j: int, of: object) -> Fields | None:
    """Those of a baseline or a probe with the present settings; None where there is none."""
    if of == NAME:
        return end_to_end(run).fields
    kind = next((kind for kind in KINDS if kind == of), None)
    if kind is None or j > len(run.stages) or _place(run, j, kind) is None:
        return None
    return linear_fields(run, j) if kind == "linear" else cnn_problem(run, j, kind).fields


def _changes(then: Fields, now: Fields) -> list[str]:
    """What differs between something as it was trained and as the config has it."""
    return differences(then, now) or ["what it was trained on is another"]


def _refit(refit: Refit) -> Beside:
    """The last stage again, with another head."""
    row, what = refit_status(refit), f"last stage, head {refit.head_width}"
    return Beside("refit", what, row.state, row.test_accuracy, str(refit.folder.path), row.reason)


def _of_problem(run: RunFolder, problem: Problem, command: str) -> Beside | None:
    kind: Kinds = "baseline" if command == "baseline" else "probe"
    folder = problem.folder
    position = read_position(folder)  # before the record, which comes before the checkpoints go
    try:
        record = folder.record
    except CorruptDataError as error:
        return _damaged(kind, problem.what, folder.path, error)
    if record is not None:
        missing = folder.missing
        reason = f"{', '.join(missing)} missing: delete {folder.path} and {run.command(command)}" if missing else ""
        state = "damaged" if missing else "done"
        return Beside(kind, problem.what, state, record.test_accuracy, str(folder.path), reason)
    if position is None:
        return None
    done = f"{position.epochs} of {problem.epochs} epochs"
    done += f" and {position.consumed} images" if position.consumed else ""
    return Beside(kind, problem.what, "partial", None, str(folder.path), f"{done}: {run.command(command)}")


def _probe(run: RunFolder, j: int, kind: Kind) -> Beside | None:
    if (path := _place(run, j, kind)) is None:
        return None
    if kind != "linear":
        return _of_problem(run, cnn_problem(run, j, kind), f"probe --j {j} --kind {kind}")
    what = f"{kind} on x_{j}"
    try:
        record = read_probe(run, j, kind)
    except CorruptDataError as error:
        return _damaged("probe", what, path, error)
    return Beside("probe", what, "done", record.test_accuracy, str(path), "") if record else None


def _place(run: RunFolder, j: int, kind: Kind) -> Path | None:
    """A probe's folder; None where the network has no such probe."""
    try:
        return probe_folder(run, j, kind).path
    except ConfigError:
        return None


def _transfer(run: RunFolder, path: Path) -> Beside:
    """What a transfer came to, of the depths of the present network."""
    folder = path.parent
    try:
        run.check_unlinked(path)
        record = read_transfer(path)
    except CorruptDataError as error:
        return _damaged("transfer", "transfer", folder, error)
    assert record is not None, "its file was found"
    drawn = f"{record.splits} split{'s' * (record.splits > 1)} of seed {record.seed}"
    what = f"to {printable(record.data)}, {record.per_class} a class, {drawn}"
    keys = {key_of_depth(run, j) for j in range(len(run.stages) + 1)}
    rows = [row for row in record.rows if row.key in keys]
    if not rows:
        return Beside("transfer", "transfer", "stale", None, str(folder), f"{what}: of blocks with other settings")
    shown = ", ".join(f"x_{row.j} {row.accuracy}%" for row in rows)
    return Beside("transfer", "transfer", "done", None, str(folder), f"{what}: {shown}")


def _seeds(run: RunFolder) -> Beside | None:
    """The seeds of a sweep that have a run folder."""
    if not (seeds := seed_states(run.path)):
        return None
    what = f"seeds {', '.join(str(one.seed) for one in seeds)}"
    state = "done" if all(one.state == "done" for one in seeds) else "begun"
    reason = f"{described_seeds(seeds)}: {run.command('sweep')} says what they scored"
    return Beside("seeds", what, state, None, str(run.path / SEEDS), reason)
