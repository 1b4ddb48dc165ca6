"""Host memory does not grow with the store."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cache import CodecName, StoreWriter

HOST_MEMORY = 16 * 2**20
SAMPLE = (64, 16, 16)  # 16 KB as uint8

READ_ALL = """
import resource, sys
from pathlib import Path
import numpy as np
from cache import Reader, Store
from pipeline.order import training_windows

store = Store(Path(sys.argv[1]))
reader = Reader(store, window_samples=512, memory_bytes=int(sys.argv[2]))
for epoch in range(2):
    windows = training_windows(store.samples, run=128, window=512, views=1, seed=0, stage=0, epoch=epoch)
    for batch in reader.batches(windows, 128):
        batch.x.sum()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def peak_bytes(store: Path) -> int:
    arguments = [sys.executable, "-c", READ_ALL, str(store), str(HOST_MEMORY)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_reading_a_store_four_times_as_large_takes_no_more_memory(tmp_path: Path, codec: CodecName) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (128, *SAMPLE), dtype=np.uint8)
    peaks = []
    for multiple in (2, 8):  # of the host memory allowed
        samples = multiple * HOST_MEMORY // noise[0].nbytes
        path = tmp_path / f"{multiple}"
        with StoreWriter(
            path,
            views=1,
            samples=samples,
            sample_shape=SAMPLE,
            encoding="uint8",
            codec=codec,
            run=128,
        ) as writer:
            for first in range(0, samples, 128):
                writer.write(0, first, noise)
            writer.commit(y=np.zeros(samples, np.int64), sample_id=np.arange(samples), attributes={})
        peaks.append(peak_bytes(path))
    assert peaks[1] <= 1.05 * peaks[0]
