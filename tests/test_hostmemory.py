"""Host memory does not grow with the store."""

from pathlib import Path

import pytest

from cache import CodecName
from tests.benchmarks.hostmemory import GROWTH_LIMIT, peaks

HOST_MEMORY = 16 * 2**20


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_reading_a_store_four_times_as_large_takes_no_more_memory(tmp_path: Path, codec: CodecName) -> None:
    small, large = peaks(tmp_path, codec, HOST_MEMORY, multiples=(1, 4))
    assert large <= GROWTH_LIMIT * small
