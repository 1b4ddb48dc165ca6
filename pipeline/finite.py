"""A loss or a weight that is no number: found before anything of it is kept, and recorded."""

import math

import msgspec

from pipeline.checkpoint import Progress
from pipeline.errors import CascadeError
from pipeline.feed import Feed, shortened
from pipeline.learner import Learner
from pipeline.problem import Problem
from pipeline.sealed import write_sealed

NAMES_SHOWN = 3


class FaultRecord(msgspec.Struct, frozen=True, kw_only=True):
    """fault.json: what went wrong in a training, and where."""

    j: int
    """Of the x_j that it was on: of a stage its index."""
    epoch: int
    """From 0."""
    step: int | None
    """Of the epoch, from 0: the first whose loss was no number; None where every loss was one."""
    sample_ids: list[int]
    """Of the batch of that step, as in `sample_id` of x_0."""
    not_finite: list[str]
    """Weights, buffers and momenta that are no numbers by now."""


def check_finite(problem: Problem, feed: Feed, learner: Learner, epoch: int, progress: Progress) -> None:
    """Raise CascadeError where a loss of the epoch so far or a weight is no number, and leave a record of it."""
    loss = progress.loss.item() / progress.seen.item()
    if math.isfinite(loss) and learner.is_finite():
        return
    step = None if math.isfinite(loss) else int(progress.sound.item()) // feed.batch_size
    record = FaultRecord(
        j=feed.j,
        epoch=epoch,
        step=step,
        sample_ids=[] if step is None else feed.batch_ids(epoch, step),
        not_finite=learner.not_finite(),
    )
    path = problem.folder.fault
    write_sealed(path, record)
    lr = learner.optimiser.lr
    raise CascadeError(
        f"{problem.what}, epoch {epoch + 1}{_what(record, loss)}; nothing since the last checkpoint was kept, "
        f"more in {path}\n"
        f"next: lower the learning rate (--set {problem.section}.train.lr={lr / 3:.2g}), or set "
        f"network.precision = float32"
    )


def _what(record: FaultRecord, loss: float) -> str:
    if record.step is not None:
        return f", step {record.step + 1}: the loss is {loss}, first with sample ids {shortened(record.sample_ids)}"
    return f": the weights are no longer finite ({', '.join(record.not_finite[:NAMES_SHOWN])})"
