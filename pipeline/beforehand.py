"""What run and plan refuse before any image is read: parts that no batch has, memory that is not there."""

from collections.abc import Callable, Iterable

import torch

from pipeline.budget import host_memory_error, ring_bytes
from pipeline.microbatch import check_micro_batch
from pipeline.ondevice import choose_on_device
from pipeline.outline import Outline
from pipeline.transfer import batches_held


def check_parts(outline: Outline) -> None:
    """Raise ConfigError where `machine.micro_batch` is no size for some stage."""
    for j in range(len(outline.shapes)):
        check_micro_batch(outline.config, j)


def check_host_memory(
    outline: Outline, stages: Iterable[int], is_there: Callable[[int], bool], host_bytes: int, *, hold: int = 1
) -> None:
    """Raise BudgetError where what one of the stages starts from cannot be read within the host memory.

    A stage starts from the nearest x_i that `is_there` by then. `hold` is the number of batches that the device copies
    from at a time.
    """
    needed: dict[int, int] = {}
    for j in stages:
        index, batch_size = outline.nearest(j, is_there), outline.config.for_stage(j).train.batch_size
        needed[index] = max(ring_bytes(outline, index, batch_size, hold=hold), needed.get(index, 0))
    worst = max(needed, key=needed.__getitem__, default=None)
    if worst is not None and needed[worst] > host_bytes:
        raise host_memory_error(outline.config, worst, needed[worst], host_bytes)


def check_device_memory(
    outline: Outline, stages: Iterable[int], is_there: Callable[[int], bool], device: torch.device
) -> None:
    """Raise DeviceMemoryError where one of the stages, each from the nearest x_i that `is_there`, fits in no way."""
    for j in stages:
        choose_on_device(outline, j, anchor=outline.nearest(j, is_there), device=device)


def check_memory(
    outline: Outline, stages: range, is_there: Callable[[int], bool], host_bytes: int, device: torch.device
) -> None:
    """Both, of stages none of which is trained."""
    check_host_memory(outline, stages, is_there, host_bytes, hold=batches_held(device))
    check_device_memory(outline, stages, is_there, device)
