"""What is known of a run at this moment, finished or not, for a report: nothing is written, no weights are read."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import torch

from cache import StoreError
from cascade import ensemble
from pipeline.acceptance import accept_stale
from pipeline.config_file import CONFIG_NAME, load_config
from pipeline.data_info import X_0
from pipeline.errors import CascadeError, first_line
from pipeline.evaluation import kept_logits, score
from pipeline.experiments.linear_transfer import Transfer
from pipeline.experiments.overview import other_notes
from pipeline.experiments.report.beside import (
    Refitted,
    Separability,
    end_to_end_of,
    refits_of,
    separability_of,
    transfers_of,
)
from pipeline.experiments.report.caveats import Notes, caveats
from pipeline.experiments.report.stages import StageFacts
from pipeline.experiments.seeds import reported
from pipeline.metrics import EpochRecord, read_metrics
from pipeline.networks import read_encoding
from pipeline.plan import Plan, StagePlan, as_planned, read_plan
from pipeline.record import StageRecord
from pipeline.runfolder import RunFolder
from pipeline.shapes import stage_epochs
from pipeline.status import OtherBranch, StageStatus, all_stored, other_branches, status


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
    refits: Sequence[Refitted]
    """The last stage with other heads, where it was trained so."""
    transfers: Sequence[Transfer]
    """To other images, with the rows of the present network."""
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


def stored_together(runs: Sequence[RunFacts]) -> int:
    """Bytes of all stores of some run folders; images that they share, as the seeds of a sweep do, count once."""
    images = {(facts.run.path / X_0).resolve(): facts.images_bytes for facts in runs}
    return sum(facts.stored_bytes - facts.images_bytes for facts in runs) + sum(images.values())


def reported_facts(path: Path, settings: Sequence[str], *, accepting: bool) -> list[RunFacts]:
    """Of a run folder; or of the seeds of its sweep, where no stage is trained in its own, with the network that was
    trained end to end in its own."""
    folders = reported(path)
    found = [
        run_facts(as_planned(RunFolder(folder, load_config(folder, settings), settings)), accepting=accepting)
        for folder in folders
    ]
    if folders == [path]:
        return found
    parent, notes = RunFolder(path, load_config(path, settings), settings), Notes()
    own = end_to_end_of(parent, notes)
    return [
        replace(one, end_to_end=own, warnings=[*one.warnings, *notes])
        if one.seed == parent.config.seed and one.end_to_end is None
        else one
        for one in found
    ]


def run_facts(look: RunFolder, *, accepting: bool = False) -> RunFacts:
    """What is known of a run folder; `accepting`, with the stages in it that --accept-stale goes on from.

    What is damaged beside the stages' records becomes a warning. Raises CorruptDataError where a record is.
    """
    run, notes = (accept_stale(look) if accepting else look), Notes()
    rows, plan = status(look, accepting=accepting), _plan(run, notes)
    together = _ensembles(run, notes)
    planned = {row.j: plan.prediction(look.asked, row.j) for row in rows if plan and not run.is_stand_in(row.j)}
    stages = [_stage_facts(run, row, planned.get(row.j), together, notes) for row in rows]
    stored = all_stored(run)
    return RunFacts(
        run=run,
        config_text=(run.path / CONFIG_NAME).read_text(errors="replace"),
        ingested=_time(run.path / X_0 / "ingest.json"),
        stages=stages,
        branches=other_branches(look, accepting=accepting),
        images_bytes=sum(run.stored_bytes(0, split) for split in run.splits),
        stored_bytes=stored.nbytes,
        separability=separability_of(run, notes),
        end_to_end=end_to_end_of(run, notes),
        refits=refits_of(run, notes),
        transfers=transfers_of(run, notes),
        warnings=[*caveats(run, stages), *stored.unreadable, *notes, *other_notes(run)],
    )


def _plan(run: RunFolder, notes: Notes) -> Plan | None:
    try:
        return read_plan(run.path)
    except CascadeError as error:
        notes.add(error)
        return None


def _stage_facts(
    run: RunFolder, row: StageStatus, planned: StagePlan | None, together: dict[int, float], notes: Notes
) -> StageFacts:
    folder = run.stages[row.j]
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
        due_epochs=stage_epochs(run.config, run.shapes[row.j]),
        record=record,
        ended=_time(folder.record_path) if record else None,
        epochs=epochs,
        ensemble_accuracy=together.get(row.j),
        encoding=encoding,
        planned=planned,
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


def _time(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime).astimezone()
