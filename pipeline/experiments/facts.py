"""What is known of a run at this moment, finished or not, for a report: nothing is written, no weights are read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import harmonic_mean

import torch

from cache import StoreError
from cascade import StageShape, ensemble
from pipeline.acceptance import accept_stale, describe_accepted
from pipeline.config_file import CONFIG_NAME
from pipeline.data_info import X_0
from pipeline.errors import CascadeError, first_line
from pipeline.evaluation import kept_logits, score
from pipeline.metrics import EpochRecord, read_metrics
from pipeline.networks import EncodingRecord, read_encoding
from pipeline.plan import Plan, StagePlan, read_plan
from pipeline.progress import size
from pipeline.record import StageRecord
from pipeline.runfolder import RunFolder
from pipeline.status import OtherBranch, StageStatus, all_stored, other_branches, status

WAITS_FROM = 0.2
"""Share of a stage's training spent waiting for data from which a report says so."""
SATURATES_FROM = 0.01
"""Share of stored activations cut off from which a report says so."""


@dataclass(frozen=True, kw_only=True)
class Separability:
    """How well what a probe learned on x_j tells the classes apart."""

    probe: str
    """As in "linear", "CNN-1"."""
    j: int
    """Index of x_j."""
    test_accuracy: float
    """Percent."""


@dataclass(frozen=True, kw_only=True)
class StageFacts:
    """A stage, as far as it is."""

    status: StageStatus
    shape: StageShape
    due_epochs: int
    """By the config."""
    record: StageRecord | None
    ended: datetime | None
    """When its record was written, by the file's time; None where it is not finished."""
    epochs: Sequence[EpochRecord]
    """Of the training so far."""
    ensemble_accuracy: float | None
    """Percent on the test split, of the heads 0..j together; None where one of them is not trained."""
    encoding: EncodingRecord | None
    """How x_{j+1} is rounded, where that is known."""
    planned: StagePlan | None
    """What the plan that is kept said of it."""

    @property
    def j(self) -> int:
        return self.status.j

    @property
    def test_accuracy(self) -> float | None:
        """Percent; None where it is not finished."""
        return self.record.test_accuracy if self.record else None

    @property
    def train_accuracy(self) -> float | None:
        """Of the last epoch so far, over its augmented samples, in percent."""
        return self.epochs[-1].train_accuracy if self.epochs else None

    @property
    def validation_accuracy(self) -> float | None:
        """After the last epoch so far, in percent."""
        return self.epochs[-1].validation_accuracy if self.epochs else None

    @property
    def planned_seconds(self) -> float | None:
        """Of its epochs with their validation; None where none were left when the plan was made."""
        return (self.planned.training_seconds or None) if self.planned else None

    @property
    def planned_images_per_second(self) -> float | None:
        return self.planned.images_per_second if self.planned else None

    @property
    def planned_peak_bytes(self) -> int | None:
        """Of the device; None where nothing limits it."""
        return self.planned.device_peak_bytes if self.planned else None

    @property
    def planned_store_bytes(self) -> int | None:
        """Of x_{j+1}, if it is to be stored; before compression a bound."""
        return self.planned.written_bytes if self.planned and self.planned.written_basis else None

    @property
    def peak_memory_bytes(self) -> int | None:
        """Of the device, on the CPU of the process, so far."""
        seen = [epoch.peak_memory_bytes for epoch in self.epochs]
        return self.record.peak_memory_bytes if self.record else max(seen, default=None)

    @property
    def seconds(self) -> float | None:
        """Of its training so far."""
        return self.record.seconds if self.record else sum(epoch.seconds for epoch in self.epochs) or None

    @property
    def images_per_second(self) -> float | None:
        """Trained, over all epochs so far."""
        return harmonic_mean([epoch.images_per_second for epoch in self.epochs]) if self.epochs else None

    @property
    def wait_share(self) -> float:
        """Share of its training spent waiting for stored data, 0..1."""
        total = sum(epoch.seconds for epoch in self.epochs)
        return sum(epoch.wait_share * epoch.seconds for epoch in self.epochs) / total if total else 0.0


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


def run_facts(
    look: RunFolder,
    *,
    accepting: bool = False,
    separability: Sequence[Separability] = (),
    end_to_end: StageRecord | None = None,
) -> RunFacts:
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
        separability=separability,
        end_to_end=end_to_end,
        warnings=[*_warnings(run, stages), *stored.unreadable, *notes],
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


def _warnings(run: RunFolder, stages: Sequence[StageFacts]) -> Iterator[str]:
    if run.accepted:
        yield f"accepted though stale: {describe_accepted(run.accepted)}"
    if run.info.skipped:
        counts = ", ".join(f"{count:,} {split}" for split, count in run.info.skipped.items())
        yield f"left out of the images because they are bad: {counts}"
    for stage in stages:
        folder, record = run.stages[stage.j], stage.record
        if record is None and folder.fault.exists():
            yield f"stage {stage.j} stopped at a number that is none: {folder.fault}"
        if record is not None and len(machines := {str(one.machine) for one in record.sessions}) > 1:
            yield f"stage {stage.j} was trained on {len(machines)} machines, one after the other"
        if stage.wait_share >= WAITS_FROM:
            yield f"stage {stage.j} waited for stored data {stage.wait_share:.0%} of its time"
        if stage.encoding and stage.encoding.saturated_share >= SATURATES_FROM:
            share = f"{stage.encoding.saturated_share:.1%}"
            yield f"{stage.encoding.encoding} cuts off {share} of the activations of x_{stage.j + 1}"
        if (peak := _unforeseen_peak(stage)) is not None:
            yield f"stage {stage.j} took {peak}"


def _unforeseen_peak(stage: StageFacts) -> str | None:
    """Where it took more of the device than was predicted, both."""
    predicted, peak = stage.planned_peak_bytes, stage.peak_memory_bytes
    if predicted is None or peak is None or peak <= predicted:
        return None
    return f"{size(peak)} of the device, more than the {size(predicted)} that were predicted"


def _time(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime).astimezone()
