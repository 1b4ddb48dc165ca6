"""What the network end to end takes of time and of the device, known before it is trained."""

from dataclasses import asdict, dataclass, replace

import msgspec
import torch

from pipeline.bench import Bench
from pipeline.device import autocast_type
from pipeline.experiments.end_to_end import NAME, end_to_end
from pipeline.fitting import naming_memory
from pipeline.learner import make_learner
from pipeline.microbatch import check_parts
from pipeline.ondevice import choose_for, limit_device
from pipeline.progress import duration, size
from pipeline.runfolder import RunFolder
from pipeline.tables import as_json

SMALL_LR = 1e-3
"""On noise a larger one might diverge."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """The whole training, whatever of it is done."""

    seconds: float
    """Of all epochs with their validation, and of the test; reading and checkpoints are not counted."""
    epochs: int
    images_per_second: float
    """Trained."""
    micro_batch: int
    recompute: bool
    """Whether a step keeps only the inputs of blocks and head for the backward pass."""
    device_peak_bytes: int | None
    """Predicted; None where nothing limits it, and nothing was predicted."""
    device: str


def plan_baseline(run: RunFolder, device: torch.device) -> Planned:
    """Choose the parts of a step as the training does, and time steps on as many samples as take a part of a second.

    Raises ConfigError where batches have no parts of machine.micro_batch, DeviceMemoryError where nothing fits.
    """
    problem = end_to_end(run)
    check_parts(run.config, problem.what, problem.micro_batches(run))
    limit_device(run.config, device)
    chosen = choose_for(run, problem, anchor=0, device=device)
    bench, entry = Bench(run.outline, device, autocast_type(device, run.config.network.precision)), run.shapes[0]
    timed = replace(problem, train=msgspec.structs.replace(problem.train, lr=SMALL_LR))
    with naming_memory(run, problem, device):
        learner = make_learner(run, timed, device, recompute=chosen.recompute)
        image = bench.image() * entry.in_channels * entry.in_side**2
        step, test = image + bench.step(learner, entry, chosen.micro_batch), image + bench.test(learner, entry)
    samples, epochs, train = run.info.samples, problem.epochs, problem.train
    looks = (epochs + 1) * samples["train"] if train.keep == "best" else 0
    tests = looks + epochs * samples.get("validation", 0) + samples["test"]
    return Planned(
        seconds=epochs * samples["train"] * step + tests * test,
        epochs=epochs,
        images_per_second=1 / step,
        micro_batch=chosen.micro_batch,
        recompute=chosen.recompute,
        device_peak_bytes=chosen.peak_bytes,
        device=str(device),
    )


def planned_json(planned: Planned) -> str:
    """`{"seconds", "epochs", "images_per_second", "micro_batch", "recompute", "device_peak_bytes", "device"}`."""
    return as_json(asdict(planned))


def planned_text(planned: Planned) -> str:
    """In a line."""
    peak = f", {size(planned.device_peak_bytes)} of its memory predicted" if planned.device_peak_bytes else ""
    return (
        f"{NAME}: {duration(planned.seconds)} for {planned.epochs} epochs, {planned.images_per_second:,.0f} images/s, "
        f"in micro-batches of {planned.micro_batch}{' with recomputation' if planned.recompute else ''}, as some steps "
        f"on {planned.device} say{peak}; reading and checkpoints not counted"
    )
