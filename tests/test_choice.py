from pathlib import Path

import numpy as np
import pytest

from cache import CODECS, choose_codec
from cache.choice import CodecCost, choose, disk_bytes_per_second, measure

MB = 10**6
COSTS = [CodecCost("none", 8 * MB, 0.001), CodecCost("lz4", 3 * MB, 0.004), CodecCost("zstd", 2 * MB, 0.016)]
"""A chunk of 8 MB: raw, and 2.7 and 4 times smaller at 2 and 0.5 GB/s."""


@pytest.mark.parametrize(
    ("disk", "training_seconds", "codec"),
    [
        (10e9, None, "none"),  # 0.8 ms against 2 and 8
        (1e9, None, "lz4"),  # 8 against 3 and 8
        (0.1e9, None, "zstd"),  # 80 against 30 and 20
        (10e9, 0.010, "lz4"),  # 2.5 ms are allowed
        (10e9, 0.050, "zstd"),  # 12.5 ms are allowed
        (0.1e9, 0.010, "zstd"),  # none is fast enough: the fastest
    ],
)
def test_the_smallest_codec_wins_that_hides_behind_the_training_or_else_the_fastest(
    disk: float, training_seconds: float | None, codec: str
) -> None:
    assert choose(COSTS, disk, 2, training_seconds).codec == codec


def test_of_codecs_that_are_nearly_as_fast_the_smaller_wins() -> None:
    costs = [CodecCost("none", 8 * MB, 0.001), CodecCost("lz4", 4 * MB, 0.0017)]
    assert choose(costs, 10e9, 2, None).codec == "lz4"  # 0.85 ms against 0.8


def test_the_choice_says_why() -> None:
    choice = choose(COSTS, 1e9, 2, 0.004)
    assert choice.codec == "lz4"
    assert choice.measured.startswith("the fastest to read, or within a tenth of it and smaller: 2.7 times smaller; ")
    assert "a chunk reads in ms: none 8.0, lz4 3.0, zstd 8.0; " in choice.measured
    assert choose(COSTS, 1e9, 2, 4.0).measured.startswith("the smallest that training hides: 4.0 times smaller")
    assert choice.measured.endswith("training takes 4 ms for it (disk 1.0 GB/s)")


def test_the_reason_of_a_choice_is_the_same_however_long_anything_took() -> None:
    one, other = choose(COSTS, 10e9, 2, 0.010), choose(COSTS, 1e9, 2, None)
    assert one.codec == other.codec == "lz4"
    assert one.measured != other.measured
    assert one.reason == other.reason


@pytest.mark.parametrize("codec", CODECS)
def test_what_is_measured_are_the_bytes_that_would_be_stored(codec: str) -> None:
    chunk = np.zeros((8, 4, 16, 16), np.float16)
    cost = measure(chunk, codec)  # type: ignore[arg-type]
    assert cost.stored_bytes == chunk.nbytes if codec == "none" else cost.stored_bytes < chunk.nbytes / 10
    assert cost.decode_seconds > 0


def test_measuring_leaves_nothing_behind(tmp_path: Path) -> None:
    assert disk_bytes_per_second(tmp_path, 2**20) > 0
    assert choose_codec(np.zeros((8, 4, 16, 16), np.uint8), tmp_path, threads=2).codec in CODECS
    assert not list(tmp_path.iterdir())
