"""What a reader must know beside a run's numbers."""

from collections.abc import Iterator, Sequence

from pipeline.acceptance import describe_accepted
from pipeline.errors import CascadeError
from pipeline.experiments.report.stages import StageFacts
from pipeline.progress import size
from pipeline.runfolder import RunFolder

WAITS_FROM = 0.2
"""Share of a stage's training spent waiting for data from which a report says so."""
SATURATES_FROM = 0.01
"""Share of stored activations cut off from which a report says so."""


class Notes(list[str]):
    """What went wrong on the way, a line each."""

    def add(self, error: CascadeError) -> None:
        """What an error says is wrong, and what to do."""
        self.append("; next: ".join(part for part in str(error).split("\nnext: ") if part))


def caveats(run: RunFolder, stages: Sequence[StageFacts]) -> Iterator[str]:
    """A line each, of what is more than a curiosity."""
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
