"""The planner's choice against every other, all of them executed, on a disk that is made slow.

    python -m tests.benchmarks.plans

Five stages on images of noise, in one thread. Reads and writes of stores go through a bucket of tokens, so fast that
reading x_2 takes a stated share of the time that training on it takes. Every set of stores is trained to its end, in
interleaved rounds, each after the machine was measured anew, since a shared one drifts. Then three disk budgets: for
all of them, for x_2 alone, for x_4 alone. For each the planner's choices, by the rates of each round, are compared with
the best of all sets that stay within it, by the medians over the rounds; and every stage's predicted time with its
measured one.
"""

import argparse
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from cache.files import write_synced
from cache.place import _File
from pipeline.config_file import load_config
from pipeline.device import choose_device
from pipeline.footprint import known_store
from pipeline.host import host_budget
from pipeline.outline import read_outline
from pipeline.plan import Plan, make_plan
from pipeline.presets import write_preset
from pipeline.progress import Reporter, size
from pipeline.rates import Rates, measure
from pipeline.runfolder import RunFolder
from pipeline.runs import ingest_data
from pipeline.training import train_stage
from pipeline.workload import Budgets
from tests.benchmarks import machine

Stores = tuple[int, ...]
SETTINGS = (
    "network.stages=5",
    "network.width=32",
    "network.downsample_at=[1, 3]",
    "network.precision=float32",
    "head.k=1",
    "data.validation=0.1",
    "augment.policy=none",
    "train.epochs=4",
    "stages.2.train.epochs=8",
    "train.batch_size=64",
    "order.run=64",
    "order.window=128",
    "store.encoding=float16",
    "store.codec=none",
    "cache.keep=none",
    "machine.threads=2",
    "budget.host=7000000",  # the ring of x_1, and little to keep chunks in
)


class Bucket:
    """Bytes at a rate: each reader or writer waits for its turn."""

    def __init__(self, bytes_per_second: float) -> None:
        self._rate = bytes_per_second
        self._taking = threading.Lock()
        self._free_at = 0.0

    def take(self, nbytes: int) -> None:
        """Wait until as many bytes have gone through."""
        with self._taking:
            self._free_at = max(self._free_at, time.perf_counter()) + nbytes / self._rate
            wait = self._free_at - time.perf_counter()
        time.sleep(max(wait, 0))


@contextmanager
def throttled(bytes_per_second: float) -> Iterator[None]:
    """The disk of all stores at a rate, reads and writes together."""
    bucket, read = Bucket(bytes_per_second), _File.read

    def slow_read(file: _File, offset: int, buffers: Sequence[Any], nbytes: int) -> None:
        read(file, offset, buffers, nbytes)
        bucket.take(nbytes)

    def slow_write(path: Path, *parts: Any) -> None:
        write_synced(path, *parts)
        bucket.take(sum(memoryview(part).nbytes for part in parts))

    with patch.object(_File, "read", slow_read), patch("cache.writer.write_synced", slow_write):
        yield


class Silent(Reporter):
    """Says nothing of what is only timed."""

    def say(self, message: str) -> None:
        pass


def noise(path: Path, images: int) -> Path:
    """Images of noise, three channels of 16x16, in ten classes."""
    random = np.random.default_rng(0)
    train, test = (random.integers(0, 256, (count, 16, 16, 3), np.uint8) for count in (images, images // 10))
    labels = [np.arange(len(split)) % 10 for split in (train, test)]
    np.savez(path, train_images=train, train_labels=labels[0], test_images=test, test_labels=labels[1])
    return path


def executed(template: Path, folder: Path, stores: Stores, device: torch.device) -> list[float]:
    """Seconds of each stage of a run that keeps these stores."""
    shutil.copytree(template, folder)
    try:
        run = RunFolder(folder, load_config(folder, [f"cache.keep={list(stores)}"]))
        seconds = []
        for j in range(len(run.stages)):
            began = time.perf_counter()
            train_stage(run, j, device, Silent())
            seconds.append(time.perf_counter() - began)
    finally:
        shutil.rmtree(folder)
    return seconds


def named(stores: Stores) -> str:
    return ", ".join(f"x_{i}" for i in stores) or "none"


class Benchmark:
    """A run folder with its images, trained with every set of stores."""

    def __init__(self, template: Path, share: float, device: torch.device) -> None:
        self.template = template
        self.device = device
        self.config = load_config(template)
        self.outline = read_outline(template, self.config)
        rates = measure(template, self.outline, device, Reporter())
        stages = range(len(self.outline.shapes))
        self.sizes = [known_store(self.outline, i, rates.machine).nbytes for i in stages]
        self.bytes_per_second = self.outline.sample_bytes(2) / (share * rates.step_seconds[2])
        self.rates: list[Rates] = []
        stored = range(1, len(self.sizes))
        self.seconds: dict[Stores, list[list[float]]] = {
            stores: [] for count in range(len(self.sizes)) for stores in combinations(stored, count)
        }

    def round(self) -> None:
        """Measure the machine, then train with each set of stores."""
        with throttled(self.bytes_per_second):
            self.rates.append(measure(self.template, self.outline, self.device, Reporter()))
            for stores, rounds in self.seconds.items():
                rounds.append(executed(self.template, self.template.parent / "run", stores, self.device))
                print(f"round {len(rounds)}  {named(stores):<18}  {sum(rounds[-1]):6.2f} s", flush=True)

    def plan(self, rates: Rates, disk: int, stores: Stores | None = None) -> Plan:
        budgets = Budgets(disk, host_budget(self.config))
        return make_plan(self.outline, rates, budgets, device=self.device, stores=stores)

    def stages(self) -> list[dict[str, Any]]:
        """Every stage with every set of stores: seconds, and predicted over measured, medians over the rounds."""
        everything, rows = sum(self.sizes), []
        for stores, rounds in self.seconds.items():
            plans = [self.plan(rates, everything, stores) for rates in self.rates]
            for j in range(len(self.sizes)):
                pairs = [(plan.stages[j].seconds, times[j]) for plan, times in zip(plans, rounds, strict=True)]
                rows.append(
                    {
                        "stores": stores,
                        "j": j,
                        "predicted_seconds": [predicted for predicted, _ in pairs],
                        "measured_seconds": [real for _, real in pairs],
                        "ratio": median(predicted / real for predicted, real in pairs),
                    }
                )
        return rows

    def choices(self) -> list[dict[str, Any]]:
        """For each budget what is planned with each round's rates, and its time over that of the best set."""
        totals = {stores: median(map(sum, rounds)) for stores, rounds in self.seconds.items()}
        images, rows = self.sizes[0], []
        for disk in (sum(self.sizes), images + self.sizes[2], images + self.sizes[4]):
            within = {s: total for s, total in totals.items() if self.plan(self.rates[0], disk, s).peak_bytes <= disk}
            best = min(within, key=within.__getitem__)
            planned = [tuple(self.plan(rates, disk).stores) for rates in self.rates]
            rows.append(
                {
                    "disk": disk,
                    "planned": planned,
                    "best": best,
                    "ratios": [totals[stores] / totals[best] for stores in planned],
                }
            )
        return rows


def report(benchmark: Benchmark, stages: list[dict[str, Any]], choices: list[dict[str, Any]]) -> None:
    """Tables: the sets of stores, the choices, and how well each stage was predicted."""
    rows = []
    for stores, rounds in sorted(benchmark.seconds.items(), key=lambda item: median(map(sum, item[1]))):
        own = [stage for stage in stages if stage["stores"] == stores]
        predicted = median(map(sum, zip(*(stage["predicted_seconds"] for stage in own), strict=True)))
        ratios = ", ".join(f"{stage['ratio']:.2f}" for stage in own)
        total = median(map(sum, rounds))
        rows.append([named(stores), f"{total:.2f}", f"{predicted:.2f}", f"{predicted / total:.2f}", ratios])
    machine.print_table(["stores", "measured s", "predicted s", "ratio", "by stage"], rows)
    rows = [
        [size(one["disk"]), named(stores), named(one["best"]), f"{ratio:.3f}"]
        for one in choices
        for stores, ratio in zip(one["planned"], one["ratios"], strict=True)
    ]
    machine.print_table(["disk", "planned", "best", "planned/best"], rows)
    near = [stage for stage in stages if abs(stage["ratio"] - 1) <= 0.25]
    lowest, *_, highest = sorted(stage["ratio"] for stage in stages)
    print(f"{len(near)} of {len(stages)} stages within 25%, from {lowest:.2f} to {highest:.2f}")


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--share", type=float, default=0.6, help="of its training, that reading x_2 takes")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder otherwise")
    parser.add_argument("--json", type=Path, help="write the record here")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        folder = Path(temporary) / "template"
        source = noise(Path(temporary) / "noise.npz", arguments.images)
        write_preset("digits", folder, [f"data.source=npz:{source}", *SETTINGS])
        ingest_data(load_config(folder), folder, Reporter())
        benchmark = Benchmark(folder, arguments.share, choose_device("cpu"))
        for _ in range(arguments.repeat):
            benchmark.round()
    stages, choices = benchmark.stages(), benchmark.choices()
    print(f"\nthe disk: {size(benchmark.bytes_per_second)}/s; x_0 to x_4: {', '.join(map(size, benchmark.sizes))}\n")
    report(benchmark, stages, choices)
    if arguments.json:
        record = {"bytes_per_second": benchmark.bytes_per_second, "rates": benchmark.rates}
        results = {**record, "choices": choices, "stages": stages}
        machine.write_json(arguments.json, {"machine": machine.record(), **results})
    return 0


if __name__ == "__main__":
    sys.exit(main())
