"""What experiments keep beside the stages, as far as names and records say: for `status`, `gc` and whoever lists it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.acceptance import accept_stale
from pipeline.checkpoint import read_position
from pipeline.errors import ConfigError, CorruptDataError, first_line
from pipeline.experiments.end_to_end import NAME, end_to_end
from pipeline.experiments.linear_transfer import key_of_depth, read_transfer
from pipeline.experiments.places import BASELINES, COMMANDS, PROBE_RECORD, SEEDS, TRANSFER, TRANSFER_RECORD
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
    """done; damaged (a file is missing or not whole); partial (some epochs); stale (trained with other settings alone);
    begun (of a sweep, while a seed of it is not done)."""
    test_accuracy: float | None
    """Percent; None of what has several."""
    path: str
    """Its folder."""
    reason: str
    """Why it is in this state, what it came to, or what to type next."""


def beside(run: RunFolder, *, accepting: bool = False) -> list[Beside]:
    """What was begun under the present config, or, of the network end to end, under another one alone; `accepting`, on
    the blocks that --accept-stale goes on from."""
    run = accept_stale(run) if accepting else run
    refits = [_refit(one) for one in find_refits(run)]
    whole = _of_problem(run, end_to_end(run), "baseline") or _stale(run)
    probes = [found for j in range(len(run.stages) + 1) for kind in KINDS if (found := _probe(run, j, kind))]
    transfers = [_transfer(run, path) for path in matching(run.path, f"{TRANSFER}/[!.]*/{TRANSFER_RECORD}")]
    seeds = _seeds(run)
    return [*refits, *([whole] if whole else []), *probes, *transfers, *([seeds] if seeds else [])]


def reached(run: RunFolder) -> set[Path]:
    """The folders of all that the config describes, whether it is there or not."""
    probes = {path for j in range(len(run.stages) + 1) for kind in KINDS if (path := _place(run, j, kind))}
    return {end_to_end(run).folder.path, *probes, *(refit.folder.path for refit in find_refits(run))}


def why_not_reached(run: RunFolder, folder: Path) -> str:
    """What a folder of other settings holds, and in what they differ. Raises CorruptDataError."""
    j, is_whole = int(folder.name.partition("-")[0]), folder.parent.name == BASELINES
    record = read_any(folder)
    if record is None:
        return f"{NAME if is_whole else f'a probe of x_{j}'} with other settings, not finished"
    of = record.fields.get("of")
    what = f"{of}{'' if is_whole else f' on x_{j}'} with other settings, test {record.test_accuracy:.2f}%"
    now = _fields(run, j, of)
    return f"{what}: {'; '.join(_changes(record.fields, now)) if now else f'the network has no x_{j} for it'}"


def read_any(folder: Path) -> StageRecord | LinearRecord | None:
    """The record of a baseline or a probe, of whatever settings; None where it is not finished.

    Raises CorruptDataError.
    """
    return read_own_record(folder) or read_sealed(folder / PROBE_RECORD, LinearRecord, remedy=f"delete {folder}")


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


def command_of(folder: Path) -> str:
    """The command that makes what a folder holds, as in "baseline" or "probe --j 2"."""
    command = COMMANDS[folder.parent.name]
    return f"{command} --j {folder.name.partition('-')[0]}" if command == "probe" else command


def _refit(refit: Refit) -> Beside:
    """The last stage again, with another head."""
    row, what = refit_status(refit), f"last stage, head {refit.head_width}"
    return Beside("refit", what, row.state, row.test_accuracy, str(refit.folder.path), row.reason)


def _of_problem(run: RunFolder, problem: Problem, command: str) -> Beside | None:
    kind: Kinds = "baseline" if command == "baseline" else "probe"
    folder = problem.folder
    position = read_position(folder)  # before the record, which comes before the checkpoints go
    record = folder.record
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


def _stale(run: RunFolder) -> Beside | None:
    """The baseline nearest to the config, where there is none of its own."""
    now, known = end_to_end(run).fields, []
    for path in matching(run.path / BASELINES, "[!.]*-*"):
        if not path.is_symlink() and (record := read_own_record(path)):
            known.append((_changes(record.fields, now), record.key, path, record))
    if not known:
        return None
    changed, _, path, record = min(known, key=lambda one: (len(one[0]), one[1]))
    return Beside("baseline", NAME, "stale", record.test_accuracy, str(path), "; ".join(changed))


def _probe(run: RunFolder, j: int, kind: Kind) -> Beside | None:
    if (path := _place(run, j, kind)) is None:
        return None
    if kind != "linear":
        return _of_problem(run, cnn_problem(run, j, kind), f"probe --j {j} --kind {kind}")
    if not (path / PROBE_RECORD).exists():
        return None
    record = read_probe(run, j, kind)
    return Beside("probe", f"{kind} on x_{j}", "done", record.test_accuracy if record else None, str(path), "")


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
        return Beside("transfer", "transfer", "damaged", None, str(folder), first_line(error))
    assert record is not None, "its file was found"
    what = f"to {record.data}, {record.per_class} a class, {record.splits} splits"
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
