"""What is known of a stage, as far as it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import harmonic_mean

from cascade import StageShape
from pipeline.metrics import EpochRecord
from pipeline.networks import EncodingRecord
from pipeline.plan import StagePlan
from pipeline.record import Kept, StageRecord
from pipeline.status import StageStatus


@dataclass(frozen=True, kw_only=True)
class StageFacts:
    """A stage, as far as it is."""

    status: StageStatus
    shape: StageShape
    due_epochs: int
    """By the config, those after a compression included."""
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
    """What was predicted of all of it, under the same settings and stores; None where nothing was."""

    @property
    def j(self) -> int:
        return self.status.j

    @property
    def test_accuracy(self) -> float | None:
        """Percent; None where it is not finished."""
        return self.record.test_accuracy if self.record else None

    @property
    def train_accuracy(self) -> float | None:
        """Percent: as the record has it, before that of the last epoch so far, over its samples."""
        if self.record:
            return self.record.train_accuracy
        return self.epochs[-1].train_accuracy if self.epochs else None

    @property
    def validation_accuracy(self) -> float | None:
        """Percent: of the weights that are kept, before that after the last epoch so far."""
        if self.record:
            return self.record.validation_accuracy
        return self.epochs[-1].validation_accuracy if self.epochs else None

    @property
    def best(self) -> Kept | None:
        """The point of least training risk, where that is kept."""
        return self.record.best if self.record else None

    @property
    def planned_seconds(self) -> float | None:
        """Of its epochs with their validation."""
        return self.planned.training_seconds if self.planned else None

    def planned_left(self, images: int) -> float:
        """Seconds of what is left of it, with its end: of a stage in the middle the epochs of `images` that it has not
        had, without their validation; 0 where nothing was predicted or it is trained."""
        if self.planned is None or self.planned.images_per_second is None or self.record is not None:
            return 0.0
        epochs = (self.due_epochs - len(self.epochs)) * images / self.planned.images_per_second
        done = self.planned.training_seconds - epochs if self.epochs else 0.0
        return self.planned.seconds - max(done, 0.0)

    @property
    def planned_images_per_second(self) -> float | None:
        return self.planned.images_per_second if self.planned else None

    @property
    def planned_peak_bytes(self) -> int | None:
        """Of the device; None where nothing limits it."""
        return self.planned.device_peak_bytes if self.planned else None

    @property
    def planned_store_bytes(self) -> int | None:
        """Of x_{j+1}, if it is to be stored and was not there yet."""
        return (
            self.planned.written_bytes if self.planned and self.planned.written_basis not in (None, "stored") else None
        )

    @property
    def planned_store_is_bound(self) -> bool:
        """Whether that is before compression."""
        return self.planned is not None and self.planned.written_basis == "bound"

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
