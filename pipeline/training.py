"""Stage j: trained on x_j, the scale of x_{j+1} taken, x_{j+1} written back."""

from collections.abc import Callable

import torch

from cache import sync
from pipeline.calibration import calibrate_output, describe_encoding, scale_is_due
from pipeline.checkpoint import sweep
from pipeline.device import determinism
from pipeline.fitting import fitted, naming_memory
from pipeline.needed import output_is_due
from pipeline.problem import stage_problem
from pipeline.progress import Reporter
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
    folder, problem = run.stages[j], stage_problem(run, j)
    _make_durable(run, j)
    sweep_output(run, j)
    if folder.record is not None:
        sweep(folder)  # a process may have been killed before it could
    if not is_due(run, j, output_asked_for=output_asked_for):
        return False
    with (
        determinism(device, asked_for=run.config.machine.deterministic),
        naming_memory(run, problem, device),
        naming_full_disk(run, j),
    ):
        feed = fitted(run, problem, device, report, strict=strict, should_stop=should_stop)
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
