"""What durability and checks cost: a stage as it is, and with syncs, checksums and hashes patched out.

    python -m tests.benchmarks.durability --source npz:cifar10.npz --preset cifar10-small --set train.epochs=1

Each way has a run folder of its own, written and read in that way. A round trains the stage anew in each, with all that
belongs to it: reading and checking x_j, checkpoints, evaluation, writing x_{j+1} back. Printed are the seconds of the
fastest round, and the median over the rounds of their ratio to the seconds without any of the three, with the median
distance of the rounds from it. Where the disk's speed varies more than what is looked for, --account says more: one
stage as it is, with the seconds that were spent within the calls, in the thread that trains and in those beside it.
"""

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import crc32c
import torch

from pipeline.config_file import load_config
from pipeline.device import choose_device
from pipeline.presets import write_preset
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.runs import ingest_data, run_stages
from pipeline.training import train_stage
from tests.benchmarks import machine
from tests.benchmarks.rounds import Contender, Progress, Rates, interleaved, ratio

WITHOUT_ALL = "without any"


class NoHash:
    """Takes the place of a SHA-256: every content has the same."""

    def __init__(self, data: Any = b"", **options: Any) -> None:
        pass

    def update(self, data: Any) -> None:
        """Look at nothing."""

    def copy(self) -> "NoHash":
        return self

    def hexdigest(self) -> str:
        return "0" * 64

    def digest(self) -> bytes:
        return bytes(32)


WAYS: dict[str, list[tuple[Any, str, Any]]] = {
    "as it is": [],
    "without syncs": [(os, "fsync", lambda descriptor: None)],
    "without checksums": [(crc32c, "crc32c", lambda data, crc=0: 0)],
    "without hashes": [(hashlib, "sha256", NoHash)],
}
"""Name -> what is patched."""
WAYS[WITHOUT_ALL] = [patched for patches in WAYS.values() for patched in patches]


class Account:
    """Seconds within the calls of a kind, by whether the main thread made them."""

    def __init__(self) -> None:
        self.seconds = {True: 0.0, False: 0.0}
        self.calls = 0
        self._lock = threading.Lock()

    def of(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, its seconds counted."""

        def counted(*arguments: Any) -> Any:
            began = time.perf_counter()
            try:
                return call(*arguments)
            finally:
                seconds = time.perf_counter() - began
                with self._lock:
                    self.seconds[threading.current_thread() is threading.main_thread()] += seconds
                    self.calls += 1

        return counted


class CountedHash:
    """A SHA-256 whose seconds are counted."""

    account: Account

    def __init__(self, data: Any = b"") -> None:
        self._hash = SHA256()
        self.update(data)

    def update(self, data: Any) -> None:
        self.account.of(self._hash.update)(data)

    def copy(self) -> "CountedHash":
        copied = CountedHash()
        copied._hash = self._hash.copy()
        return copied

    def hexdigest(self) -> str:
        return str(self._hash.hexdigest())

    def digest(self) -> bytes:
        return bytes(self._hash.digest())


SHA256 = hashlib.sha256


def account_rows(case: "Case") -> list[list[str]]:
    """What one training of the stage, as it is, spends within the calls of each kind."""
    accounts = {"syncs": Account(), "checksums": Account(), "hashes": Account()}
    CountedHash.account = accounts["hashes"]
    patches: list[tuple[Any, str, Any]] = [
        (os, "fsync", accounts["syncs"].of(os.fsync)),
        (crc32c, "crc32c", accounts["checksums"].of(crc32c.crc32c)),
        (hashlib, "sha256", CountedHash),
    ]
    with ExitStack() as stack:
        for module, name, instead in patches:
            stack.enter_context(patch.object(module, name, instead))
        began = time.perf_counter()
        train_stage(case.runs["as it is"], case.j, case.device, Reporter())
        whole = time.perf_counter() - began
    rows = [
        [name, str(one.calls), *(f"{seconds:.2f}  {seconds / whole:.2%}" for seconds in one.seconds.values())]
        for name, one in accounts.items()
    ]
    return [*rows, ["the stage", "", f"{whole:.2f}", ""]]


@dataclass(frozen=True)
class Case:
    """The stage, in a run folder for each way."""

    runs: dict[str, RunFolder]
    j: int
    device: torch.device


@contextmanager
def patched(way: str) -> Iterator[None]:
    """A way while the context is open."""
    with ExitStack() as stack:
        for module, name, instead in WAYS[way]:
            stack.enter_context(patch.object(module, name, instead))
        yield


def prepared(path: Path, way: str, j: int, settings: Sequence[str], preset: str, device: torch.device) -> RunFolder:
    """A run folder whose stages before j are trained, in one way."""
    write_preset(preset, path, settings)
    with patched(way):
        ingest_data(load_config(path), path, Reporter())
        run = RunFolder(path, load_config(path))
        if j:
            run_stages(run, 0, j - 1, str(device), Reporter())
    return run


def trained(case: Case, way: str) -> Progress:
    """The stage from its beginning to its end."""
    run = case.runs[way]
    with patched(way):
        yield 0
        train_stage(run, case.j, case.device, Reporter())
        yield samples(run, case.j)


def samples(run: RunFolder, j: int) -> int:
    """Trained on in a round."""
    return run.info.samples["train"] * run.config.for_stage(j).train.epochs


def clear(case: Case) -> None:
    """Forget the stage in all folders, and let the disk come to rest."""
    for run in case.runs.values():
        shutil.rmtree(run.stages[case.j].path, ignore_errors=True)
    os.sync()


def rows(rates: Rates, count: int) -> list[list[str]]:
    """One row a way: seconds, and ratio of the seconds to those without any."""
    return [
        [way, f"{count / max(all_):.2f}", f"{1 / ratio(rates, way, [WITHOUT_ALL]):.3f}", f"{_spread(rates, way):.3f}"]
        for way, all_ in rates.items()
    ]


def _spread(rates: Rates, way: str) -> float:
    """Median distance of the rounds' ratios from their median."""
    ratios = [base / own for own, base in zip(rates[way], rates[WITHOUT_ALL], strict=True)]
    middle = median(ratios)
    return median(abs(value - middle) for value in ratios)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="digits:", help="data set address")
    parser.add_argument("--preset", default="digits")
    parser.add_argument("--j", type=int, default=1, help="the stage; those before it are trained first")
    parser.add_argument("--repeat", type=int, default=7, help="rounds")
    parser.add_argument("--account", action="store_true", help="seconds within the calls, of one training")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    parser.add_argument("--folder", type=Path, help="where to put the run folders, instead of the temporary folder")
    parser.add_argument("--json", type=Path, help="write the record here")
    arguments = parser.parse_args(argv)
    device = choose_device(arguments.device)
    settings = [f"data.source={arguments.source}", "store.codec=lz4", *arguments.settings]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        runs = {
            way: prepared(Path(folder) / str(number), way, arguments.j, settings, arguments.preset, device)
            for number, way in enumerate(["as it is"] if arguments.account else WAYS)
        }
        case = Case(runs, arguments.j, device)
        if arguments.account:
            machine.print_table(["", "calls", "s in the main thread", "s in others"], account_rows(case))
            return 0
        contenders: list[Contender[Case]] = [Contender(way, partial(trained, way=way)) for way in WAYS]
        rates = interleaved(contenders, case, arguments.repeat, clear)
        count = samples(runs[WITHOUT_ALL], arguments.j)
    machine.print_table(["", "seconds", "ratio", "+-"], rows(rates, count))
    if arguments.json:
        record = {"j": arguments.j, "settings": settings, "preset": arguments.preset, "samples_per_second": rates}
        machine.write_json(arguments.json, {"machine": machine.record(), "device": str(device), **record})
    return 0


if __name__ == "__main__":
    sys.exit(main())
