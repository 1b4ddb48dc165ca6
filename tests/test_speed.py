"""The disk and the codecs, timed."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache import TRIAL, codec_speed, disk_speed, speed
from cache.place import _File

NUMBERS = np.random.default_rng(0).integers(0, 4, (8, 4, 16, 16), np.uint8)


@pytest.fixture(autouse=True)
def _little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "FIRST_BYTES", 2**16)
    monkeypatch.setattr(speed, "LARGEST_BYTES", 2**20)


def test_the_disk_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / TRIAL / "x").mkdir(parents=True)  # of a measurement that was interrupted
    found = disk_speed(tmp_path, NUMBERS, run=64, threads=2)
    assert list(tmp_path.iterdir()) == []
    assert found.read_bytes_per_second > 0
    assert found.write_bytes_per_second > 0


@pytest.mark.parametrize(("at_most", "nbytes"), [(50_000, 49_152), (3_000, 2_048), (10, 1_024)])
def test_no_more_is_written_than_is_allowed_but_for_a_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_most: int, nbytes: int
) -> None:
    written: list[int] = []
    trial = speed._trial

    def counted(folder: Path, rows: Any, chunks: int, threads: int) -> Any:
        written.append(chunks * rows.nbytes)
        return trial(folder, rows, chunks, threads)

    monkeypatch.setattr(speed, "_trial", counted)
    found = disk_speed(tmp_path, NUMBERS, run=16, threads=2, at_most=at_most)
    assert max(written) <= max(at_most, NUMBERS[0].nbytes)
    assert found.nbytes == max(written)
    assert not found.is_sure


def test_a_disk_that_waits_is_seen_in_its_rate_and_not_in_the_threads_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = _File.read

    def slow(file: Any, offset: int, buffers: Any, nbytes: int) -> None:
        time.sleep(nbytes / 1e6)
        read(file, offset, buffers, nbytes)

    monkeypatch.setattr(_File, "read", slow)
    found = disk_speed(tmp_path, NUMBERS, run=64, threads=2)
    assert found.read_bytes_per_second < 2e6
    assert found.fetch_seconds_per_byte < 0.5e-6


def test_codecs_make_few_values_smaller_and_none_is_free() -> None:
    none, zstd = codec_speed(NUMBERS, "none"), codec_speed(NUMBERS, "zstd")
    assert (none.share, none.pack_seconds, none.unpack_seconds) == (1.0, 0.0, 0.0)
    assert zstd.share < 0.5
    assert zstd.pack_seconds > 0 < zstd.unpack_seconds
