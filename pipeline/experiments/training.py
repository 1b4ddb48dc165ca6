"""What is trained beside the stages: with their loop, memory, checkpoints and records, and with room on the disk."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from cache import sync
from cascade import parameter_count
from pipeline.checkpoint import sweep
from pipeline.config import budget_bytes
from pipeline.device import determinism
from pipeline.disk import described_room, folder_bytes, room
from pipeline.errors import DiskError
from pipeline.fitting import fitted, naming_memory
from pipeline.gc import freeable
from pipeline.lock import check_writable
from pipeline.microbatch import check_parts
from pipeline.ondevice import limit_device
from pipeline.problem import Problem
from pipeline.progress import Reporter, size
from pipeline.record import StageRecord
from pipeline.room import FULL
from pipeline.runfolder import RunFolder

CHECKPOINTS = 3
"""Two, and a new one beside them; each of weights and momentum."""
NUMBER_BYTES = 4


def train_beside(
    run: RunFolder,
    problem: Problem,
    device: torch.device,
    report: Reporter,
    *,
    strict: bool,
    should_stop: Callable[[], bool],
) -> StageRecord:
    """Train what is not, from its last checkpoint on; its record. The caller holds the folder.

    Raises like `train_stage`, and DiskError, before anything is trained, where its files have no room.
    """
    folder = problem.folder
    run.check_unlinked(folder.path)
    if (record := folder.record) is not None:
        sync(folder.path)  # whoever put the record in place may have been killed before it was durable
        sweep(folder)
        return record
    check_parts(run.config, problem.what, problem.micro_batches(run))
    check_writable(folder.path.parent)
    check_writable(folder.path)
    limit_device(run.config, device)
    _check_room(run, problem)
    with (
        determinism(device, asked_for=run.config.machine.deterministic),
        naming_memory(run, problem, device),
        _naming_full_disk(run, problem),
    ):
        fitted(run, problem, device, report, strict=strict, should_stop=should_stop)
    record = folder.record
    assert record is not None, "it is written last"
    return record


def files_bytes(run: RunFolder, problem: Problem) -> int:
    """What its files take at most, checkpoints included."""
    with torch.device("meta"):
        blocks, head = problem.new_modules(run)
    weights = NUMBER_BYTES * parameter_count([*blocks, head])
    logits = NUMBER_BYTES * run.classes * run.info.samples["test"]
    return (2 * CHECKPOINTS + 1) * weights + logits


def _check_room(run: RunFolder, problem: Problem) -> None:
    needed = files_bytes(run, problem) - folder_bytes(problem.folder.path)
    budget = budget_bytes(run.config.budget.disk)
    if needed > room(run.path, budget):
        raise DiskError(
            f"{problem.what}: weights and checkpoints take {size(needed)}, and {described_room(run.path, budget)}\n"
            f"next: {freeable(run) or 'make room on that disk'}; or raise budget.disk"
        )


@contextmanager
def _naming_full_disk(run: RunFolder, problem: Problem) -> Iterator[None]:
    """Say of a disk that fills up meanwhile what is free, and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        left = described_room(run.path, budget_bytes(run.config.budget.disk))
        raise DiskError(
            f"the disk is full at {error.filename or problem.folder.path}: {left}; what was committed is intact\n"
            f"next: {freeable(run) or 'make room on that disk'}; then the same command goes on"
        ) from error
