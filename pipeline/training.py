"""Stage j: trained on x_j, the scale of x_{j+1} taken, x_{j+1} written back."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from cache import sync
from pipeline.calibration import calibrate_output, describe_encoding, scale_is_due
from pipeline.checkpoint import sweep
from pipeline.device import StepOutOfMemory, determinism, is_out_of_memory, peak_memory_bytes
from pipeline.errors import DeviceMemoryError
from pipeline.feed import Feed
from pipeline.fit import fit_stage
from pipeline.microbatch import micro_batches
from pipeline.needed import output_is_due
from pipeline.ondevice import choose_on_device
from pipeline.progress import Reporter, size
from pipeline.room import naming_full_disk
from pipeline.runfolder import RunFolder
from pipeline.stopping import never
from pipeline.writeback import sweep_output, write_output


def is_due(run: RunFolder, j: int, *, output_asked_for: bool = False) -> bool:
    """Whether anything of stage j is still to be done."""
    if run.stages[j].record is None or scale_is_due(run, j):
        return True
    return output_is_due(run, j, asked_for=output_asked_for)


def train_stage(
    run: RunFolder,
    j: int,
    device: torch.device,
    report: Reporter,
    *,
    output_asked_for: bool = False,
    strict: bool = False,
    should_stop: Callable[[], bool] = never,
) -> bool:
    """Bring stage j to its end from wherever it is. Returns False where there was nothing to do.

    With `output_asked_for`, x_{j+1} is written though no stage will read it any more. Once `should_stop` says so, the
    step at hand is finished, a checkpoint is written, and Stopped is raised.

    Raises RefusedError where there is nothing to start from, or, `strict`, where the stage began on another machine;
    CascadeError where a loss is no number; CorruptDataError where a link is in the way; DeviceMemoryError.
    """
    run.check_stores_unlinked(j + 1)
    folder = run.stages[j]
    _make_durable(run, j)
    sweep_output(run, j)
    if folder.record is not None:
        sweep(folder)  # a process may have been killed before it could
    if not is_due(run, j, output_asked_for=output_asked_for):
        return False
    with (
        determinism(device, asked_for=run.config.machine.deterministic),
        _naming_memory(run, j, device),
        naming_full_disk(run, j),
    ):
        feed = _fitted(run, j, device, report, strict=strict, should_stop=should_stop)
        if scale_is_due(run, j):
            encoding = calibrate_output(run, j, device, should_stop=should_stop)
            if run.config.keeps(j + 1):
                report.say(f"stage {j}  x_{j + 1} as {describe_encoding(encoding)}")
        if output_is_due(run, j, asked_for=output_asked_for):
            if lost := run.lost(j + 1):
                report.say(f"stage {j}  {lost}, which compares with what is left; now it is written anew")
            write_output(run, j, feed, report)
        elif run.config.keeps(j + 1) and not run.is_stored(j + 1) and not run.frees:
            report.say(
                f"stage {j}  x_{j + 1} is not written: stage {j + 1} is trained already; "
                f"{run.train_command(j)} writes it"
            )
    return True


def _make_durable(run: RunFolder, j: int) -> None:
    """Make the names of x_0 and of what trained stages up to j keep durable: whoever put one in place may have been
    killed, or its disk have failed, before it was."""
    sync(run.path)
    for folder in run.stages[: j + 1]:
        if folder.record_path.exists():
            sync(folder.path)


def _fitted(
    run: RunFolder, j: int, device: torch.device, report: Reporter, *, strict: bool, should_stop: Callable[[], bool]
) -> Feed:
    """Train the stage, if it is not; where the device has no room for it and the config allows, in smaller parts."""
    anchor = run.anchor(j)
    for index in range(anchor + 1, run.config.augment.last_anchor(j) + 1):
        if lost := run.lost(index):
            report.say(f"stage {j}  {lost}; till then it starts from x_{anchor}")
    chosen = choose_on_device(run.outline, j, anchor=anchor, device=device)
    sizes = [size for size in micro_batches(run.config, j) if size <= chosen.micro_batch]
    while True:
        feed = Feed(
            run,
            j,
            device,
            micro_batch=sizes[0],
            streamed=chosen.streamed,
            device_memory_bytes=chosen.store_bytes,
            should_stop=should_stop,
        )
        try:
            if run.stages[j].record is None:
                fit_stage(run, feed, report, recompute=chosen.recompute, strict=strict, should_stop=should_stop)
            return feed
        except StepOutOfMemory:
            if not run.config.machine.shrink or len(sizes) == 1:
                raise
        del feed
        report.say(f"stage {j}: out of memory with micro-batches of {sizes[0]}; going on with {sizes[1]}")
        sizes = sizes[1:]
        if device.type == "cuda":
            torch.cuda.empty_cache()


@contextmanager
def _naming_memory(run: RunFolder, j: int, device: torch.device) -> Iterator[None]:
    """Say of a device without room what was on it and what would take less. Nothing is made smaller here."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        shape, config = run.shapes[j], run.config.for_stage(j)
        lower = "set a smaller machine.micro_batch" if isinstance(error, StepOutOfMemory) else ""
        anew = (
            "train.batch_size or head.width, or with head.pool = 2"
            if lower
            else "order.run, which ingests anew too: delete x_0 first"
        )
        raise DeviceMemoryError(
            f"stage {j}: out of memory on {device}: {str(error).splitlines()[0]}\n"
            f"  a step takes {config.train.batch_size} samples (train.batch_size), in micro-batches where it said so, "
            f"evaluation and write-back {config.order.run} (order.run), of {shape.in_channels}x{shape.in_side}x"
            f"{shape.in_side}; "
            f"the peak so far was {size(peak_memory_bytes(device))}\n"
            f"next: free some{f', or {lower}' if lower else ''}, then the same command goes on where it was;\n"
            f"  or train anew with a smaller {anew}"
        ) from error
