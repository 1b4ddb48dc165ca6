"""Host memory while stores of one, four and sixteen times a size are read: it must not grow with them.

    python -m tests.benchmarks.hostmemory --host-memory "64 MB" --codecs none lz4

The smallest store is twice the host memory allowed, so that no store fits. Two shuffled epochs of each are read by a
process of its own. Exits 1 where the peak grows by more than 5 %.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from cache import CODECS, ChunkCache, CodecName, Reader, Ring, Store, aligned_buffer, ring_samples
from pipeline.config import parse_bytes
from pipeline.order import training_windows
from pipeline.progress import size
from tests.benchmarks import machine
from tests.benchmarks.data import Source, write_store

MULTIPLES = (1, 4, 16)
GROWTH_LIMIT = 1.05
SAMPLE_SHAPE = (64, 16, 16)
RUN = 128
BATCH = 128
ROOT = Path(__file__).parents[2]
READ = """
import sys
from pathlib import Path
from tests.benchmarks.hostmemory import peak_resident_bytes, read_epochs

read_epochs(Path(sys.argv[1]), int(sys.argv[2]))
print(peak_resident_bytes())
"""


def read_epochs(path: Path, host_memory_bytes: int, epochs: int = 2) -> None:
    """Read all of a store, shuffled, in the largest windows that the budget allows, and touch every sample."""
    store = Store(path)
    window = host_memory_bytes // (2 * store.sample_bytes) // RUN * RUN
    ring = Ring(aligned_buffer(ring_samples(window, BATCH) * store.sample_bytes))
    kept = ChunkCache(host_memory_bytes - ring.nbytes)
    reader = Reader(store, ring, window_samples=window, batch_size=BATCH, kept=kept)
    for epoch in range(epochs):
        windows = training_windows(store.samples, run=RUN, window=window, views=1, seed=0, stage=0, epoch=epoch)
        for batch in reader.batches(windows):
            batch.x.sum()


def peak_resident_bytes() -> int:
    """Largest resident set of this process so far.

    Not getrusage's ru_maxrss, which on Linux a process inherits from the one that started it: a parent of 500 MB
    would hide whatever its children take below that.
    """
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def peak_of_reading(path: Path, host_memory_bytes: int) -> int:
    """`peak_resident_bytes` of a process that does nothing but `read_epochs`."""
    arguments = [sys.executable, "-c", READ, str(path), str(host_memory_bytes)]
    return int(subprocess.run(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout)


def peaks(folder: Path, codec: CodecName, host_memory_bytes: int, multiples: tuple[int, ...] = MULTIPLES) -> list[int]:
    """Peak of reading a store of each multiple of twice the host memory, in bytes. Removes each store after it."""
    found = []
    for multiple in multiples:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            path = Path(name) / "store"
            write_store(path, Source(SAMPLE_SHAPE, 2 * multiple * host_memory_bytes), codec)
            found.append(peak_of_reading(path, host_memory_bytes))
    return found


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host-memory", type=parse_bytes, default="64 MB", help='bytes, or as in "64 MB"')
    parser.add_argument("--codecs", choices=CODECS, nargs="+", default=["none", "lz4"])
    parser.add_argument("--json", type=Path, help="write the record here")
    parser.add_argument("--folder", type=Path, help="where to put the files, instead of the temporary folder")
    arguments = parser.parse_args(argv)
    found = {codec: peaks(arguments.folder, codec, arguments.host_memory) for codec in arguments.codecs}
    for codec, all_ in found.items():
        print(codec)
        rows = [
            [f"{multiple}x", size(2 * multiple * arguments.host_memory), size(peak), f"{peak / all_[0]:.3f}"]
            for multiple, peak in zip(MULTIPLES, all_, strict=True)
        ]
        machine.print_table(["", "store", "peak", "to 1x"], rows)
    passed = all(max(all_) <= GROWTH_LIMIT * all_[0] for all_ in found.values())
    print("passed" if passed else f"FAILED: at most {GROWTH_LIMIT} times is allowed")
    if arguments.json:
        record = {"machine": machine.record(), "host_memory_bytes": arguments.host_memory, "peak_bytes": found}
        machine.write_json(arguments.json, {**record, "multiples": MULTIPLES, "passed": passed})
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
