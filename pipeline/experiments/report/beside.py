"""What experiments left beside the stages of a run: probes, the network end to end, refits, transfers."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from cache import StoreError
from pipeline.errors import CascadeError, ConfigError, first_line
from pipeline.evaluation import evaluate
from pipeline.experiments.end_to_end import end_to_end
from pipeline.experiments.linear_transfer import Transfer, key_of_depth, read_transfer
from pipeline.experiments.places import TRANSFER, TRANSFER_RECORD
from pipeline.experiments.probes import KINDS, read_probe
from pipeline.experiments.report.caveats import Notes
from pipeline.paths import matching
from pipeline.record import StageRecord
from pipeline.refits import find_refits
from pipeline.runfolder import RunFolder
from pipeline.status import refit_status


@dataclass(frozen=True, kw_only=True)
class Separability:
    """How well what a probe learned on x_j tells the classes apart."""

    probe: str
    """As in "linear", "cnn-1"."""
    j: int
    """Index of x_j."""
    test_accuracy: float
    """Percent."""


@dataclass(frozen=True, kw_only=True)
class Refitted:
    """The last stage again with another head."""

    head_width: int
    """Channels of its hidden layers."""
    state: str
    """As in `status`."""
    reason: str
    """Likewise."""
    record: StageRecord | None
    """None where it is not finished."""
    ensemble_accuracy: float | None
    """Percent on the test split, with it in place of the last stage; None where it is not known."""


def separability_of(run: RunFolder, notes: Notes) -> Sequence[Separability]:
    """Of every probe that was made with the present settings."""
    found = []
    for j, kind in itertools.product(range(len(run.stages) + 1), KINDS):
        try:
            record = read_probe(run, j, kind)
        except ConfigError:
            continue  # the network has no such probe
        except CascadeError as error:
            notes.add(error)
            continue
        if record:
            found.append(Separability(probe=kind, j=j, test_accuracy=record.test_accuracy))
    return found


def end_to_end_of(run: RunFolder, notes: Notes) -> StageRecord | None:
    """Of the same network trained as a whole, where it is."""
    try:
        return end_to_end(run).folder.record
    except CascadeError as error:
        notes.add(error)
        return None


def refits_of(run: RunFolder, notes: Notes) -> Sequence[Refitted]:
    """By their width, those that have only begun, too."""
    refits, together = find_refits(run), dict[int, float]()
    try:
        if any(refit.folder.record for refit in refits):
            together = {one.head_width: one.ensemble.top1 for one in evaluate(run).refits}
    except (CascadeError, StoreError, OSError) as error:
        notes.append(first_line(error))
    rows = ((refit, refit_status(refit)) for refit in refits)
    return [
        Refitted(
            head_width=refit.head_width,
            state=row.state,
            reason=row.reason,
            record=refit.folder.record,
            ensemble_accuracy=together.get(refit.head_width),
        )
        for refit, row in rows
    ]


def transfers_of(run: RunFolder, notes: Notes) -> Sequence[Transfer]:
    """Each with its rows of the present network, those without any left out."""
    keys, found = {key_of_depth(run, j) for j in range(len(run.stages) + 1)}, []
    for path in matching(run.path, f"{TRANSFER}/[!.]*/{TRANSFER_RECORD}"):
        try:
            run.check_unlinked(path)
            record = read_transfer(path)
        except CascadeError as error:
            notes.add(error)
            continue
        if record and (rows := [row for row in record.rows if row.key in keys]):
            found.append(msgspec.structs.replace(record, rows=rows))
    return found
