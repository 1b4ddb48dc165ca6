"""One preset on one device: trains its stages for a few epochs, checks them, and prints images/s and peak memory.

    python -m tests.benchmarks.device --source npz:cifar10.npz --preset cifar10-k3 --epochs 2 --device cuda

Checks that batches read from a store equal batches replayed from the images within a tolerance, and that the network
run from the images scores what each stage scored when it ended. Exits 1 where one fails.
"""

import argparse
import datetime
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import torch

from pipeline.config_file import load_config
from pipeline.device import choose_device, machine_record
from pipeline.evaluation import evaluate
from pipeline.feed import Feed
from pipeline.metrics import EpochRecord
from pipeline.presets import write_preset
from pipeline.progress import Reporter, size
from pipeline.runfolder import RunFolder
from pipeline.runs import ingest_data, run_stages

REPLAY_TOLERANCE = 0.05
"""Of the largest activation: convolutions of another batch may round differently in bfloat16."""
SCORE_TOLERANCE = 0.2
"""Percentage points between kept and recomputed outputs."""


def stage_row(run: RunFolder, j: int) -> dict[str, Any]:
    """Speed and memory of a trained stage, from its own records; the best epoch's speed, the first warms up."""
    record = run.stages[j].record
    assert record is not None
    lines = run.stages[j].metrics.read_bytes().splitlines()
    epochs = [msgspec.json.decode(line, type=EpochRecord) for line in lines]
    best = max(epochs, key=lambda epoch: epoch.images_per_second)
    return {
        "j": j,
        "images_per_second": best.images_per_second,
        "wait_share": best.wait_share,
        "peak_memory_bytes": record.peak_memory_bytes,
        "test_accuracy": record.test_accuracy,
    }


def replay_difference(run: RunFolder, device: torch.device, batches: int = 5) -> float:
    """Largest difference between stored and replayed x_j over all stages, as a share of the largest activation."""
    worst = 0.0
    for j in range(1, len(run.stages)):
        pairs = zip(Feed(run, j, device).training(0), Feed(run, j, device, anchor=0).training(0), strict=True)
        for _, ((x, _), (again, _)) in zip(range(batches), pairs, strict=False):
            worst = max(worst, ((x - again).abs().max() / x.abs().max()).item())
    return worst


def main() -> int:
    """Run the checks; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="digits:", help="data set address")
    parser.add_argument("--preset", default="digits")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    parser.add_argument("--json", type=Path, help="write the record here")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    reporter = Reporter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        settings = [f"data.source={arguments.source}", f"train.epochs={arguments.epochs}", *arguments.settings]
        write_preset(arguments.preset, path, settings)
        ingest_data(load_config(path), path, reporter)
        run = RunFolder(path, load_config(path))
        run_stages(run, None, None, str(device), reporter)
        stages = [stage_row(run, j) for j in range(len(run.stages))]
        difference = replay_difference(run, device)
        kept, recomputed = evaluate(run), evaluate(run, recompute_on=device)
        score_gap = max(abs(kept.stages[j].top1 - recomputed.stages[j].top1) for j in kept.stages)
        dtype = Feed(run, 0, device).dtype
    passed = difference <= REPLAY_TOLERANCE and score_gap <= SCORE_TOLERANCE
    record = {
        "preset": arguments.preset,
        "settings": settings[1:],
        "machine": machine_record(device, dtype),
        "date": datetime.date.today().isoformat(),
        "stages": stages,
        "replay_difference": difference,
        "score_gap": score_gap,
        "passed": passed,
    }
    for row in stages:
        print(
            f"stage {row['j']}  {row['images_per_second']:>9,.0f} images/s  waiting {row['wait_share']:4.0%}  "
            f"peak {size(row['peak_memory_bytes'])}  test {row['test_accuracy']:.2f}%"
        )
    print(f"stored against replayed: {difference:.2g} of the largest activation (at most {REPLAY_TOLERANCE})")
    print(f"kept against recomputed accuracy: {score_gap:.2g} points (at most {SCORE_TOLERANCE})")
    print("passed" if passed else "FAILED")
    if arguments.json:
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(record)))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
