"""What is known of a run at this moment, finished or not, for a report: nothing is written, no weights are read."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import torch

from cache import StoreError
from cascade import ensemble
from pipeline.acceptance import accept_stale
from pipeline.config_file import CONFIG_NAME
from pipeline.data_info import X_0
from pipeline.errors import CascadeError, ConfigError, first_line
from pipeline.evaluation import kept_logits, score
from pipeline.experiments.end_to_end import end_to_end
from pipeline.experiments.overview import other_notes
from pipeline.experiments.probes import KINDS, read_probe
from pipeline.experiments.report.caveats import caveats
from pipeline.experiments.report.stages import StageFacts
from pipeline.metrics import EpochRecord, read_metrics
from pipeline.networks import read_encoding
from pipeline.plan import Plan, read_plan
from pipeline.record import StageRecord
from pipeline.runfolder import RunFolder
from pipeline.status import OtherBranch, StageStatus, all_stored, other_branches, status


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
class RunFacts:
    """A run folder."""

    run: RunFolder
    config_text: str
    """Of its file."""
    ingested: datetime
    """By the file's time."""
    stages: Sequence[StageFacts]
    branches: Sequence[OtherBranch]
    """Stages of other settings that lie beside."""
    images_bytes: int
    """Of x_0, all splits."""
    stored_bytes: int
    """Of all stores of the folder."""
    separability: Sequence[Separability]
    end_to_end: StageRecord | None
    """Of the same network trained as a whole, where it is."""
    warnings: Sequence[str]
    """What a reader must know beside the numbers, a line each."""

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.run.path.resolve().name

    @property
    def seed(self) -> int:
        return self.run.config.seed

    @property
    def trained(self) -> Sequence[StageFacts]:
        """Stages from 0 up to the first that is not."""
        count = next((stage.j for stage in self.stages if stage.record is None), len(self.stages))
        return self.stages[:count]


class Notes(list[str]):
    """What went wrong on the way, a line each."""

    def add(self, error: CascadeError) -> None:
        """What an error says is wrong, and what to do."""
        self.append("; next: ".join(part for part in str(error).split("\nnext: ") if part))


def run_facts(look: RunFolder, *, accepting: bool = False) -> RunFacts:
    """What is known of a run folder; `accepting`, with the stages in it that --accept-stale goes on from.

    What is damaged beside the stages' records becomes a warning. Raises CorruptDataError where a record is.
    """
    run, notes = (accept_stale(look) if accepting else look), Notes()
    rows, plan = status(look, accepting=accepting), _plan(run, notes)
    together = _ensembles(run, notes)
    stages = [_stage_facts(run, row, plan, together, notes) for row in rows]
    stored = all_stored(run)
    return RunFacts(
        run=run,
        config_text=(run.path / CONFIG_NAME).read_text(errors="replace"),
        ingested=_time(run.path / X_0 / "ingest.json"),
        stages=stages,
        branches=other_branches(look, accepting=accepting),
        images_bytes=sum(run.stored_bytes(0, split) for split in run.splits),
        stored_bytes=stored.nbytes,
        separability=_separability(run, notes),
        end_to_end=_end_to_end(run, notes),
        warnings=[*caveats(run, stages), *stored.unreadable, *notes, *other_notes(run)],
    )


def _plan(run: RunFolder, notes: Notes) -> Plan | None:
    try:
        return read_plan(run.path)
    except CascadeError as error:
        notes.add(error)
        return None


def _stage_facts(
    run: RunFolder, row: StageStatus, plan: Plan | None, together: dict[int, float], notes: Notes
) -> StageFacts:
    folder, planned = run.stages[row.j], {stage.j: stage for stage in plan.stages} if plan else {}
    epochs: Sequence[EpochRecord] = []
    encoding, record = None, folder.record
    try:
        epochs = read_metrics(folder)
    except CascadeError as error:
        notes.add(error)
    try:
        encoding = read_encoding(run, row.j) if record and folder.scale.exists() else None
    except CascadeError as error:
        notes.add(error)
    return StageFacts(
        status=row,
        shape=run.shapes[row.j],
        due_epochs=run.config.for_stage(row.j).train.epochs,
        record=record,
        ended=_time(folder.record_path) if record else None,
        epochs=epochs,
        ensemble_accuracy=together.get(row.j),
        encoding=encoding,
        planned=planned.get(row.j),
    )


def _ensembles(run: RunFolder, notes: Notes) -> dict[int, float]:
    """Accuracy of the heads 0..j together, in percent, by j, up to the first stage that is not trained."""
    found: dict[int, float] = {}
    try:
        y = torch.from_numpy(run.open_store(0, "test").y)
        kept: list[torch.Tensor] = []
        for j, stage in enumerate(run.stages):
            if stage.record is None:
                break
            kept.append(kept_logits(run, j, y))
            together = ensemble(kept, over=run.config.evaluate.ensemble)
            found[j] = score(together, y, classes=run.classes).top1
    except (CascadeError, StoreError, OSError) as error:
        notes.append(first_line(error))
    return found


def _separability(run: RunFolder, notes: Notes) -> list[Separability]:
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


def _end_to_end(run: RunFolder, notes: Notes) -> StageRecord | None:
    try:
        return end_to_end(run).folder.record
    except CascadeError as error:
        notes.add(error)
        return None


def _time(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime).astimezone()
