"""How a stage is taken through the memory of its device: in which parts, and what else may stay there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from pipeline.config import Config, budget_bytes
from pipeline.corrected import corrected_peak, real_step
from pipeline.device import autocast_type
from pipeline.errors import DeviceMemoryError
from pipeline.microbatch import micro_batches
from pipeline.outline import Outline
from pipeline.peak import Peak, Work, stage_work
from pipeline.problem import Problem
from pipeline.progress import size
from pipeline.runfolder import RunFolder
from pipeline.smaller import Change, smallest_change
from pipeline.stepmemory import MeasuredSteps

HEADROOM = 0.95
"""Share of a budget that predictions may fill: the allocator rounds, and keeps freed blocks in pieces."""


@dataclass(frozen=True, kw_only=True)
class OnDevice:
    """What is chosen for a stage."""

    micro_batch: int
    recompute: bool
    """Whether only the inputs of the stage's parts are kept for the backward pass."""
    peak_bytes: int | None
    """As predicted; None where there is no budget to hold it against."""
    streamed: bool
    """Whether the prefix's weights wait on the host."""
    store_bytes: int
    """Of stored x_i that may stay there."""
    beside_bytes: int | None = None
    """What a real step took beside what its code allocates, which is in the peak; None where none was run."""


def device_budget(config: Config, device: torch.device) -> int | None:
    """Bytes of the device that a stage may take; None where nothing limits it, as on a CPU, whose memory the host has.

    On a CPU a stated budget limits the micro-batch too, so that a small GPU can be tried out.
    """
    stated = budget_bytes(config.budget.device)
    if stated is not None or device.type != "cuda":
        return stated
    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device))


def limit_device(config: Config, device: torch.device) -> None:
    """Have torch itself refuse what goes beyond a stated budget."""
    stated = budget_bytes(config.budget.device)
    if stated is not None and device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(stated / total, 1.0), device)


def choose_on_device(outline: Outline, j: int, *, anchor: int, device: torch.device) -> OnDevice:
    """The largest micro-batch of stage j whose predicted peak fits in the budget, without recomputation if that can be.

    What is left holds the prefix's weights and, on a GPU, stored x_i. Raises DeviceMemoryError where nothing fits.
    """

    def work(dtype: torch.dtype, recompute: bool) -> Work:
        return stage_work(outline, j, anchor=anchor, device_type=device.type, dtype=dtype, recompute=recompute)

    def change(room: int) -> Change | None:
        return smallest_change(outline, j, anchor=anchor, device=device, room=room)

    return _choose(outline.config, f"stage {j}", micro_batches(outline.config, j), work, change, device, outline.steps)


def choose_for(run: RunFolder, problem: Problem, *, anchor: int, device: torch.device) -> OnDevice:
    """The same of whatever is trained."""

    def work(dtype: torch.dtype, recompute: bool) -> Work:
        return problem_work(run, problem, anchor=anchor, device_type=device.type, dtype=dtype, recompute=recompute)

    def change(room: int) -> Change | None:
        is_stage = len(problem.blocks) == 1
        return smallest_change(run.outline, problem.j, anchor=anchor, device=device, room=room) if is_stage else None

    return _choose(run.config, problem.what, problem.micro_batches(run), work, change, device, run.outline.steps)


def problem_work(
    run: RunFolder, problem: Problem, *, anchor: int, device_type: str, dtype: torch.dtype, recompute: bool = False
) -> Work:
    """Whatever is trained, read from x_anchor, on a device of that type."""
    outline, j = run.outline, problem.j
    return replace(
        stage_work(outline, j, anchor=anchor, device_type=device_type, dtype=dtype, recompute=recompute),
        shapes=(*outline.shapes[: j + len(problem.blocks[:-1])], problem.shape.before_cut),
        blocks=len(problem.blocks),
        writes=problem.writes,
        k=problem.head.k,
        pool=problem.head.pool,
        average=problem.head.average,
        pooled_norm=problem.head.pooled_norm,
        similarity=problem.head.similarity > 0,
        batch_size=problem.train.batch_size,
    )


def _choose(
    config: Config,
    what: str,
    allowed: Sequence[int],
    work_of: Callable[[torch.dtype, bool], Work],
    change: Callable[[int], Change | None],
    device: torch.device,
    steps: MeasuredSteps,
) -> OnDevice:
    sizes = [config.machine.micro_batch] if config.machine.micro_batch else allowed
    budget = device_budget(config, device)
    if budget is None:
        return OnDevice(
            micro_batch=sizes[0],
            recompute=config.machine.recompute == "always",
            peak_bytes=None,
            streamed=False,
            store_bytes=0,
        )
    room, dtype = int(HEADROOM * budget), autocast_type(device, config.network.precision)
    ways = {"auto": (False, True), "never": (False,), "always": (True,)}[config.machine.recompute]
    smallest: Peak | None = None

    def peak_of(work: Work, micro_batch: int) -> Peak:
        return corrected_peak(work, micro_batch, steps, device)

    for recompute in ways:
        work = work_of(dtype, recompute)
        for micro_batch in sizes:
            peak = peak_of(work, micro_batch)
            smallest = peak if smallest is None or peak.streamed < smallest.streamed else smallest
            if (left := room - peak.streamed) < 0:
                continue
            step = real_step(work, micro_batch, steps, device)
            stays = peak.prefix_resident - peak.prefix_streamed <= left
            return OnDevice(
                micro_batch=micro_batch,
                recompute=recompute,
                peak_bytes=peak.resident if stays else peak.streamed,
                streamed=not stays,
                store_bytes=(room - peak.resident if stays else left) if device.type == "cuda" else 0,
                beside_bytes=step.beside_bytes if step else None,
            )
    assert smallest is not None, "a batch has a size"
    free = _smaller_parts(allowed, work_of, peak_of, dtype, ways, room) if config.machine.micro_batch else ""
    raise _too_small(config, what, budget, smallest, free, change(room))


def _smaller_parts(
    allowed: Sequence[int],
    work_of: Callable[[torch.dtype, bool], Work],
    peak_of: Callable[[Work, int], Peak],
    dtype: torch.dtype,
    ways: Sequence[bool],
    room: int,
) -> str:
    """The largest micro-batch that fits where the one that is set does not, as advice; "" where none does."""
    for recompute in ways:
        work = work_of(dtype, recompute)
        for micro_batch in allowed:
            if (needed := peak_of(work, micro_batch).streamed) <= room:
                return (
                    f"leave machine.micro_batch out or set it to {micro_batch}, which takes {size(needed)} and is "
                    f"the same method; or "
                )
    return ""


def _too_small(
    config: Config, what: str, budget: int, peak: Peak, free: str, change: Change | None
) -> DeviceMemoryError:
    """What to say of a stage that fits in no way; `free` is advice that trains nothing anew, `change` what does."""
    phases = {
        "a training step": peak.training,
        "replaying its prefix": peak.replay,
        f"taking the scale of its output from {config.order.run} samples at a time (order.run)": peak.calibration,
        f"evaluating {config.order.run} samples (order.run)": peak.evaluation,
        f"writing {config.order.run} samples back (order.run)": peak.write_back,
    }
    worst = max(phases, key=phases.__getitem__)
    parts = ", ".join(f"{name} {size(nbytes)}" for name, nbytes in peak.parts.items() if nbytes)
    return DeviceMemoryError(
        f"{what} needs {'' if config.machine.micro_batch else 'at least '}{size(peak.streamed)} of device memory"
        f"{f' with machine.micro_batch = {config.machine.micro_batch}' if config.machine.micro_batch else ''}, "
        f"for {worst}; {size(budget)} are allowed, of "
        f"which {HEADROOM:.0%} is planned with (a training step: {parts})\n"
        f"next: {free}raise budget.device to {size(peak.streamed / HEADROOM)} or more; {_changed(change)}"
    )


def _changed(change: Change | None) -> str:
    """A change of the method, as advice."""
    if change is None:
        return "no smaller head.width, order.run or network.bn_group, nor a larger head.pool, is enough by itself"
    anew = (
        "ingests and trains anew: delete x_0 where it is there already"
        if change.setting == "order.run"
        else ("trains anew")
    )
    return f"or set {change.setting} = {change.value}, which takes {size(change.peak_bytes)} and {anew}"
