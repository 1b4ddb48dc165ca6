"""What is to be trained is trained within the memory of its device, which is named where it has no room."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from pipeline.device import StepOutOfMemory, is_out_of_memory, peak_memory_bytes
from pipeline.errors import DeviceMemoryError
from pipeline.feed import Feed
from pipeline.fit import fit
from pipeline.ondevice import choose_for
from pipeline.problem import Problem
from pipeline.progress import Reporter, size
from pipeline.runfolder import RunFolder


def fitted(
    run: RunFolder,
    problem: Problem,
    device: torch.device,
    report: Reporter,
    *,
    strict: bool,
    should_stop: Callable[[], bool],
) -> Feed:
    """Fit what is not, where the device has no room for it and the config allows in smaller parts; its feed."""
    anchor = run.anchor(problem.j)
    for index in range(anchor + 1, run.config.augment.last_anchor(problem.j) + 1):
        if lost := run.lost(index):
            report.say(f"{problem.what}  {lost}; till then it starts from x_{anchor}")
    chosen = choose_for(run, problem, anchor=anchor, device=device)
    sizes = [size for size in problem.micro_batches(run) if size <= chosen.micro_batch]
    while True:
        feed = Feed(
            run,
            problem.j,
            device,
            batch_size=problem.train.batch_size,
            micro_batch=sizes[0],
            streamed=chosen.streamed,
            device_memory_bytes=chosen.store_bytes,
            what=problem.what,
            should_stop=should_stop,
        )
        try:
            if problem.folder.record is None:
                fit(run, problem, feed, report, recompute=chosen.recompute, strict=strict, should_stop=should_stop)
            return feed
        except StepOutOfMemory:
            if not run.config.machine.shrink or len(sizes) == 1:
                raise
        del feed
        report.say(f"{problem.what}: out of memory with micro-batches of {sizes[0]}; going on with {sizes[1]}")
        sizes = sizes[1:]
        if device.type == "cuda":
            torch.cuda.empty_cache()


@contextmanager
def naming_memory(run: RunFolder, problem: Problem, device: torch.device) -> Iterator[None]:
    """Say of a device without room what was on it and what would take less. Nothing is made smaller here."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        channels, side = run.input_shape(problem.j)
        lower = "set a smaller machine.micro_batch" if isinstance(error, StepOutOfMemory) else ""
        anew = (
            "train.batch_size or head.width, or with head.pool = 2"
            if lower
            else "order.run, which ingests anew too: delete x_0 first"
        )
        raise DeviceMemoryError(
            f"{problem.what}: out of memory on {device}: {str(error).splitlines()[0]}\n"
            f"  a step takes {problem.train.batch_size} samples (train.batch_size), in micro-batches where it said so, "
            f"evaluation and write-back {run.config.order.run} (order.run), of {channels}x{side}x{side}; "
            f"the peak so far was {size(peak_memory_bytes(device))}\n"
            f"next: free some{f', or {lower}' if lower else ''}, then the same command goes on where it was;\n"
            f"  or train anew with a smaller {anew}"
        ) from error
