"""A stage's training steps, by where its input comes from: what streaming costs, and what waiting is for.

    python -m tests.benchmarks.step --source npz:cifar10.npz --preset cifar10-small --steps 64 --repeat 3

For each stage, in interleaved rounds, images/s of the same steps on

- a constant batch, which never changes: no input at all;
- the device: the store, as it is stored, in the device's memory, gathered and decoded there;
- host memory: decoded chunks kept on the host, gathered by threads;
- the store: read, checked and decompressed each time, in the memory of two windows and no more.

Then what writing x_{j+1} back costs beside the forward pass alone. Stages are trained for one epoch first.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from pipeline.budget import ring_bytes
from pipeline.checkpoint import Progress
from pipeline.config_file import load_config
from pipeline.device import choose_device, place
from pipeline.feed import Feed
from pipeline.learner import make_learner
from pipeline.networks import load_block, load_quantiser
from pipeline.presets import write_preset
from pipeline.problem import stage_problem
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.runs import ingest_data, run_stages
from pipeline.step import train_step
from pipeline.transfer import batches_held, download
from pipeline.writeback import write_output
from tests.benchmarks import machine

EVERYTHING = 2**62
Steps = Callable[[int], Iterator[tuple[Tensor, Tensor]]]
"""Batches of an epoch."""


def inputs(run: RunFolder, j: int, device: torch.device) -> dict[str, tuple[Feed, Steps]]:
    """Where the steps of a stage may get their batches from."""
    plenty = RunFolder(run.path, load_config(run.path, ['budget.host="64 GB"']))
    ring = ring_bytes(run.outline, run.anchor(j), run.config.for_stage(j).train.batch_size, hold=batches_held(device))
    scarce = RunFolder(run.path, load_config(run.path, [f"budget.host={ring}"]))
    on_device = Feed(run, j, device, device_memory_bytes=EVERYTHING)
    on_host, streamed = Feed(plenty, j, device), Feed(scarce, j, device)
    constant = next(iter(on_device.training(0)))
    return {
        "constant": (on_device, lambda epoch: iter(lambda: constant, None)),
        "device": (on_device, on_device.training),
        "host": (on_host, on_host.training),
        "store": (streamed, streamed.training),
    }


def images_per_second(run: RunFolder, feed: Feed, batches: Steps, epoch: int, steps: int) -> float:
    """Of the first `steps` steps of an epoch, reading for the first one included, by a learner that is warm."""
    learner = make_learner(run, stage_problem(run, feed.j), feed.device)
    learner.train(True)
    shape = run.shapes[feed.j]
    x = torch.zeros(feed.batch_size, shape.in_channels, shape.in_side, shape.in_side, device=feed.device)
    y = torch.zeros(feed.batch_size, dtype=torch.int64, device=feed.device)
    for _ in range(2):
        train_step(learner, [(x, y)], len(y), feed.dtype, Progress.fresh(feed.device))
    progress = Progress.fresh(feed.device)
    progress.seen.item()  # waits for the device
    began = time.perf_counter()
    for x, y in islice(batches(epoch), steps):
        train_step(learner, [(x, y)], len(y), feed.dtype, progress)
    return float(progress.seen.item() / (time.perf_counter() - began))


def stage_rates(run: RunFolder, j: int, device: torch.device, steps: int, repeat: int) -> dict[str, Any]:
    """Rates of one stage in every round, and the waiting of its streamed steps by cause."""
    sources = inputs(run, j, device)
    for _, batches in sources.values():  # fills what is kept, and warms up
        for _ in islice(batches(0), steps):
            pass
    rates: dict[str, list[float]] = {name: [] for name in sources}
    streamed = sources["store"][0]
    waits, seconds = streamed.waits, 0.0
    for _ in range(repeat):
        for name, (feed, batches) in sources.items():
            began = time.perf_counter()
            rates[name].append(images_per_second(run, feed, batches, 0, steps))
            seconds += (time.perf_counter() - began) * (name == "store")
    waiting = {cause: (value - waits[cause]) / seconds for cause, value in streamed.waits.items()}
    return {"j": j, "rates": rates, "wait_by_cause": waiting}


def write_back_cost(run: RunFolder, j: int, device: torch.device) -> dict[str, float]:
    """Seconds of the forward pass that makes x_{j+1} of training samples, and of writing all splits beside it."""
    feed = Feed(run, j, device)
    block, quantiser = load_block(run, j), load_quantiser(run, j).to(device)
    place(block, device)
    began = time.perf_counter()
    for split in run.splits:
        for view in range(run.config.augment.stored_views if split == "train" else 1):
            for _ in download(
                x.contiguous() for x, _ in feed.sequential(split, lambda x: quantiser.encode(block(x)), view=view)
            ):
                pass
    forward = time.perf_counter() - began
    for split in run.splits:
        shutil.rmtree(run.store(j + 1, split), ignore_errors=True)
    began = time.perf_counter()
    write_output(run, j, feed, Reporter())
    return {"forward_seconds": forward, "written_seconds": time.perf_counter() - began}


def rows(stages: list[dict[str, Any]]) -> list[list[str]]:
    """One row a stage: rates of the best round, ratios by the median over rounds."""
    table = []
    for stage in stages:
        rates = stage["rates"]
        ratios = [
            median(a / b for a, b in zip(rates[other], rates["store"], strict=True)) for other in ("device", "host")
        ]
        kept = median(a / b for a, b in zip(rates["device"], rates["constant"], strict=True))
        waits = ", ".join(f"{cause} {share:.1%}" for cause, share in stage["wait_by_cause"].items())
        speeds = [f"{max(all_):,.0f}" for all_ in rates.values()]
        table.append([str(stage["j"]), *speeds, f"{kept:.3f}", *(f"{ratio:.3f}" for ratio in ratios), waits])
    return table


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="digits:", help="data set address")
    parser.add_argument("--preset", default="digits")
    parser.add_argument("--steps", type=int, default=64, help="in a round; best four windows of samples or more")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    parser.add_argument("--folder", type=Path, help="run folder to use, or to make and keep")
    parser.add_argument("--json", type=Path, help="write the record here")
    arguments = parser.parse_args(argv)
    device = choose_device(arguments.device)
    with tempfile.TemporaryDirectory() as temporary:
        path = arguments.folder or Path(temporary)
        if not (path / "cascade.toml").exists():
            settings = [f"data.source={arguments.source}", "train.epochs=1", *arguments.settings]
            write_preset(arguments.preset, path, settings)
        ingest_data(load_config(path), path, Reporter())
        run = RunFolder(path, load_config(path))
        run_stages(run, None, None, str(device), Reporter())
        stages = []
        for j in range(len(run.stages)):
            stages.append(stage_rates(run, j, device, arguments.steps, arguments.repeat))
            if run.config.keeps(j + 1):
                stages[-1] |= write_back_cost(run, j, device)
    header = [
        "stage",
        "constant",
        "device",
        "host",
        "store",
        "device/constant",
        "device/store",
        "host/store",
        "waiting",
    ]
    machine.print_table(header, rows(stages))
    for stage in stages:
        if "forward_seconds" in stage:
            ratio = stage["written_seconds"] / stage["forward_seconds"]
            print(
                f"x_{stage['j'] + 1}: forward {stage['forward_seconds']:.1f} s, "
                f"with write-back {stage['written_seconds']:.1f} s, {ratio:.2f} times"
            )
    if arguments.json:
        machine.write_json(arguments.json, {"machine": machine.record(), "device": str(device), "stages": stages})
    return 0


if __name__ == "__main__":
    sys.exit(main())
