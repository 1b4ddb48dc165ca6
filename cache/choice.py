"""Which codec suits this data on this machine: one chunk, coded and decoded each way, against the disk's speed."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.codecs import CODECS, CodecName, pack, unpack
from cache.files import write_synced
from cache.memory import aligned_buffer

REPEATS = 3
"""The fastest counts: other work on the machine only ever adds time."""
SHARE_OF_TRAINING = 0.25
"""Reading may take this share of the time that training takes, since both go on at once on shared cores."""
NEARLY_AS_FAST = 1.1
"""Within this factor of the fastest, fewer bytes win."""

MEASURED = "by measured speed: the smallest that training hides, else the fastest to read"
"""The reason of a measured choice."""


@dataclass(frozen=True)
class CodecCost:
    """What a codec does to a chunk."""

    codec: CodecName
    stored_bytes: int
    decode_seconds: float
    """In one thread."""


@dataclass(frozen=True)
class CodecChoice:
    """A codec, and why this one."""

    codec: CodecName
    reason: str
    """For the store's attributes: without times, so that two runs that chose alike store the same bytes."""
    measured: str = ""
    """What it was chosen by, to be said; "" where nothing was measured."""


def choose_codec(
    chunk: NDArray[Any], folder: Path, *, threads: int, training_seconds: float | None = None
) -> CodecChoice:
    """Measure the codecs on a chunk, and the disk that `folder` is on with a file of the chunk's size.

    `training_seconds` is what a training takes for as many samples as the chunk holds, where that is known.
    """
    disk = disk_bytes_per_second(folder, chunk.nbytes)
    return choose([measure(chunk, codec) for codec in CODECS], disk, threads, training_seconds)


def choose(costs: list[CodecCost], disk: float, threads: int, training_seconds: float | None) -> CodecChoice:
    """The smallest codec that reads fast enough to hide behind the training; else, of the fastest, the smallest.

    A chunk is read in the time that the disk needs for its stored bytes or, where that is longer, in the decoding
    threads' share of its decoding.
    """
    seconds = {cost.codec: max(cost.stored_bytes / disk, cost.decode_seconds / threads) for cost in costs}
    limit = NEARLY_AS_FAST * min(seconds.values())
    if training_seconds is not None:
        limit = max(limit, SHARE_OF_TRAINING * training_seconds)
    best = min((cost for cost in costs if seconds[cost.codec] <= limit), key=lambda cost: cost.stored_bytes)
    raw = max(cost.stored_bytes for cost in costs)
    reads = ", ".join(f"{name} {1e3 * value:.1f}" for name, value in seconds.items())
    hidden = training_seconds is not None and seconds[best.codec] <= SHARE_OF_TRAINING * training_seconds
    why = "the smallest that training hides" if hidden else "the fastest to read, or within a tenth of it and smaller"
    training = "" if training_seconds is None else f"; training takes {1e3 * training_seconds:.0f} ms for it"
    measured = f"{why}: {raw / best.stored_bytes:.1f} times smaller; a chunk reads in ms: {reads}{training}"
    return CodecChoice(best.codec, MEASURED, f"{measured} (disk {disk / 1e9:.1f} GB/s)")


def measure(chunk: NDArray[Any], codec: CodecName) -> CodecCost:
    """Code and decode a chunk in this thread."""
    body, decoded = pack(chunk, codec), np.empty_like(chunk)
    return CodecCost(codec, len(body), fastest(lambda: unpack(body, codec, decoded)))


def packed_share(numbers: NDArray[Any], codec: CodecName) -> float:
    """Bytes that a codec makes of stored numbers, as a share of their own; more than 1 where it only adds to them."""
    return memoryview(pack(numbers, codec)).nbytes / numbers.nbytes


def disk_bytes_per_second(folder: Path, nbytes: int) -> float:
    """How fast a file of this size is read from the disk; where the system keeps it in memory, from there."""
    path, data = folder / ".disk-speed", aligned_buffer(nbytes)
    data[:] = np.resize(np.random.default_rng(0).integers(0, 256, min(nbytes, 2**20), np.uint8), nbytes)
    try:
        write_synced(path, data.data)
        with path.open("rb", buffering=0) as file:

            def read() -> None:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                os.preadv(file.fileno(), [data.data], 0)

            return nbytes / fastest(read)
    finally:
        path.unlink(missing_ok=True)


def fastest(work: Callable[[], object]) -> float:
    """Seconds that the fastest of a few runs takes."""
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return max(min(times), 1e-9)
