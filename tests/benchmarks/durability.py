"""What durability and checks cost a stage: as it is, and with syncs, checksums and hashes taken out.

    python -m tests.benchmarks.durability --source npz:cifar10.npz --preset cifar10-small

In interleaved rounds stage 1 is trained from x_1, tested, and x_2 written back, each time from nothing. Asked: at most
1.05 times the seconds without.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from unittest.mock import patch

from pipeline.config_file import load_config
from pipeline.device import choose_device
from pipeline.ingest import ingest
from pipeline.presets import write_preset
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.training import train_stage
from tests.benchmarks import machine

LIMIT = 1.05


@contextmanager
def unprotected() -> Iterator[None]:
    """No sync, checksums that are all zero, and hashes of nothing."""
    with ExitStack() as stack:
        for target, stand_in in (
            ("cache.files.os.fsync", lambda descriptor: None),
            ("cache.codecs.crc32c.crc32c", lambda data, crc=0: 0),
            ("pipeline.weights.content_hash", lambda tensors, metadata: "0"),
        ):
            stack.enter_context(patch(target, stand_in))
        yield


@contextmanager
def protected() -> Iterator[None]:
    """As it is."""
    yield


WAYS = {"as it is": protected, "without": unprotected}


def begun(folder: Path, preset: str, settings: list[str]) -> RunFolder:
    """A run folder whose stage 0 is trained."""
    write_preset(preset, folder, settings)
    ingest(load_config(folder), folder, Reporter())
    run = RunFolder(folder, load_config(folder))
    train_stage(run, 0, choose_device("cpu"), Reporter())
    return run


def seconds_of_stage(run: RunFolder) -> float:
    """Seconds that stage 1 takes from nothing."""
    shutil.rmtree(run.stages[1].path, ignore_errors=True)
    os.sync()  # what was left of the one before
    began = time.perf_counter()
    train_stage(run, 1, choose_device("cpu"), Reporter())
    return time.perf_counter() - began


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="digits:", help="data set address")
    parser.add_argument("--preset", default="digits")
    parser.add_argument("--epochs", type=int, default=4, help="of each stage; fewer make the write-back weigh more")
    parser.add_argument("--repeat", type=int, default=3, help="rounds")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    parser.add_argument("--json", type=Path, help="write the record here")
    arguments = parser.parse_args(argv)
    settings = [f"data.source={arguments.source}", f"train.epochs={arguments.epochs}", *arguments.settings]
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as temporary:
        runs = {}
        for way, context in WAYS.items():
            with context():
                runs[way] = begun(Path(temporary) / way, arguments.preset, settings)
        for _ in range(arguments.repeat):
            for way, context in WAYS.items():
                with context():
                    seconds[way].append(seconds_of_stage(runs[way]))
    ratio = median(own / without for own, without in zip(*seconds.values(), strict=True))
    machine.print_table(["stage 1", "seconds"], [[way, f"{min(times):.2f}"] for way, times in seconds.items()])
    print(f"ratio {ratio:.3f}, asked at most {LIMIT}")
    if arguments.json:
        machine.write_json(arguments.json, {"machine": machine.record(), "seconds": seconds, "ratio": ratio})
    return 0


if __name__ == "__main__":
    sys.exit(main())
