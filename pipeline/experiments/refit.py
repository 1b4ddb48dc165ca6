"""The last stage trained again with a head of another width (Sec. 4.2, "smaller final head")."""

from collections.abc import Callable

from pipeline.device import choose_device
from pipeline.errors import ConfigError, RefusedError, Stopped
from pipeline.evaluation import left_out
from pipeline.lock import is_writable, lock_folder
from pipeline.microbatch import check_micro_batch
from pipeline.ondevice import limit_device
from pipeline.progress import Reporter
from pipeline.refits import with_last_head
from pipeline.runfolder import RunFolder
from pipeline.runs import check_stages_memory, check_stages_writable
from pipeline.stopping import never
from pipeline.training import is_due, train_stage


def refit_last(
    run: RunFolder,
    width: int,
    device_name: str | None,
    report: Reporter,
    *,
    strict: bool = False,
    should_stop: Callable[[], bool] = never,
) -> None:
    """Train block and head of the last stage from fresh weights, the head's hidden layers of `width` channels.

    The stage itself stays, and so do refits with other widths. No store is written, and none is deleted.

    Raises ConfigError where there is no such head, or the stage itself has it, RefusedError where a network of one
    stage has none to compare it with, and like `train_stage`.
    """
    last = len(run.stages) - 1
    if last == 0 and run.stages[0].record is None:
        raise RefusedError(f"there is no trained stage to compare a refit with{left_out(run, 0)}")
    if width == run.shapes[last].head_width:
        raise ConfigError(
            f"the head of the last stage has {width} channels itself\nnext: another --head-width, or "
            f"{run.train_command(last)}"
        )
    seen = with_last_head(run, width).following([], frees=False)
    if not is_writable(run.path) and seen.stages[last].record is not None:
        return  # it is only shown
    with lock_folder(run.path, f"refitting stage {last} with a head of {width}"):
        check_stages_writable(seen, last, last)
        machine = seen.config.machine
        device = choose_device(
            machine.device if device_name is None else device_name, deterministic=machine.deterministic
        )
        check_micro_batch(seen.config, last)
        limit_device(seen.config, device)
        check_stages_memory(seen, range(last, last + 1), device)
        if should_stop() and is_due(seen, last):
            raise Stopped(f"stopped before stage {last}")
        report.say(f"stage {last} again with a head of {width} channels, in {seen.stages[last].path}")
        if not train_stage(seen, last, device, report, strict=strict, should_stop=should_stop):
            report.say("done already")
