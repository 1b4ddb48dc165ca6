"""The planner's choice against every other, all of them executed, on a disk that is made slow.

    python -m tests.benchmarks.plans

Five stages on images of noise, in one thread. Reads and writes of stores go through a bucket of tokens, so fast that
reading x_2 takes a stated share of the time that training on it takes. Every set of stores is trained to its end, in
interleaved rounds. Then three disk budgets: all of them, x_2 alone, x_4 alone. For each the planner's choice is
compared with the best of all sets that stay within it, by the medians over the rounds, and every stage's predicted
time with its measured one.
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
from pipeline.outline import read_outline
from pipeline.plan import make_plan
from pipeline.presets import write_preset
from pipeline.progress import Reporter, size
from pipeline.rates import measure
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
    "machine.host_memory=7000000",  # the ring of x_1, and little to keep chunks in
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


def measured(template: Path, all_stores: Sequence[Stores], repeat: int, device: torch.device) -> dict[Stores, Any]:
    """Seconds of each stage, (repeat, stages), of every set of stores, in interleaved rounds."""
    rounds: dict[Stores, list[list[float]]] = {stores: [] for stores in all_stores}
    for number in range(repeat):
        for stores in all_stores:
            rounds[stores].append(executed(template, template.parent / "run", stores, device))
            print(f"round {number + 1}  {named(stores):<14}  {sum(rounds[stores][-1]):6.2f} s", flush=True)
    return {stores: np.array(times) for stores, times in rounds.items()}


def named(stores: Stores) -> str:
    return ", ".join(f"x_{i}" for i in stores) or "none"


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
    device = choose_device("cpu")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        folder = Path(temporary) / "template"
        source = noise(Path(temporary) / "noise.npz", arguments.images)
        write_preset("digits", folder, [f"data.source=npz:{source}", *SETTINGS])
        config = load_config(folder)
        ingest_data(config, folder, Reporter())
        outline = read_outline(folder, config)
        unthrottled = measure(folder, outline, device)
        rate = outline.sample_bytes(2) / (arguments.share * unthrottled.step_seconds[2])
        with throttled(rate):
            rates = measure(folder, outline, device)
            all_stores = [stores for count in range(5) for stores in combinations(range(1, 5), count)]
            seconds = measured(folder, all_stores, arguments.repeat, device)
    host = config.host_memory_bytes

    def plan(disk: int, stores: Stores | None = None) -> Any:
        return make_plan(outline, rates, Budgets(disk, host, 0), device=device, stores=stores)

    sizes = [outline.raw_bytes(i) for i in range(5)]
    budgets = {"all": sum(sizes), "x_2": sizes[0] + sizes[2], "x_4": sizes[0] + sizes[4]}
    totals = {stores: median(times.sum(1)) for stores, times in seconds.items()}
    results: dict[str, Any] = {"bytes_per_second": rate, "rates": rates, "budgets": []}
    print(f"\nthe disk: {size(rate)}/s, measured as {size(rates.read_bytes_per_second)}/s read, ", end="")
    print(f"{size(rates.write_bytes_per_second)}/s written; x_0 to x_4: {', '.join(map(size, sizes))}\n")
    rows = []
    for stores, total in sorted(totals.items(), key=lambda item: item[1]):
        predicted = plan(sum(sizes), stores).seconds
        rows.append([named(stores), f"{total:.2f}", f"{predicted:.2f}", f"{predicted / total:.2f}"])
    machine.print_table(["stores", "measured s", "predicted s", "ratio"], rows)
    rows = []
    for name, disk in budgets.items():
        chosen = tuple(plan(disk).stores)
        feasible = {stores: total for stores, total in totals.items() if plan(disk, stores).peak_bytes <= disk}
        best = min(feasible, key=feasible.__getitem__)
        ratio = totals[chosen] / totals[best]
        rows.append([name, size(disk), named(chosen), named(best), f"{ratio:.3f}"])
        results["budgets"].append({"disk": disk, "chosen": chosen, "best": best, "ratio": ratio})
    machine.print_table(["budget", "bytes", "planned", "best", "planned/best"], rows)
    rows, results["stages"] = [], []
    for stores, times in seconds.items():
        for j, stage in enumerate(plan(sum(sizes), stores).stages):
            real = float(median(times[:, j]))
            rows.append([named(stores), str(j), f"{real:.2f}", f"{stage.seconds:.2f}", f"{stage.seconds / real:.2f}"])
            results["stages"].append({"stores": stores, "j": j, "measured": times[:, j], "predicted": stage.seconds})
            results["stages"][-1]["measured"] = times[:, j].tolist()
    machine.print_table(["stores", "stage", "measured s", "predicted s", "ratio"], rows)
    if arguments.json:
        machine.write_json(arguments.json, {"machine": machine.record(), **results})
    return 0


if __name__ == "__main__":
    sys.exit(main())
