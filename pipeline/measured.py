"""What came of a stage that is trained, as its record and metrics say."""

import msgspec

from pipeline.metrics import read_metrics
from pipeline.runfolder import RunFolder


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """Of a trained stage."""

    j: int
    seconds: float
    """Of its epochs with their validation."""
    images_per_second: float | None
    """Trained, over all epochs; None where their metrics are gone."""
    stored_bytes: int
    """Of x_{j+1} as far as it is there, over all splits."""
    micro_batch: int | None
    """At the end; None where the record does not say."""
    device_peak_bytes: int | None
    """Of the device; None on a CPU, where the process as a whole is measured and no stage."""


def measured_stages(run: RunFolder) -> list[Measured]:
    """All that are trained."""
    found = []
    for stage in run.stages:
        if (record := stage.record) is None:
            continue
        rates = [1 / epoch.images_per_second for epoch in read_metrics(stage)]
        found.append(
            Measured(
                j=stage.j,
                seconds=record.seconds,
                images_per_second=len(rates) / sum(rates) if rates else None,
                stored_bytes=sum(run.stored_bytes(stage.j + 1, split) for split in run.splits),
                micro_batch=record.machine.get("micro_batch"),
                device_peak_bytes=record.peak_memory_bytes if record.device.startswith("cuda") else None,
            )
        )
    return found
