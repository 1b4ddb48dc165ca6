"""Shared by the tests: small committed stores, and one thread for the arithmetic.

Networks this small are faster on one thread, and two threads that wait for each other beside another busy process are
a hundred times slower.
"""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import cli
from cache import CodecName, StoreWriter, encode

torch.set_num_threads(1)
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell started the tests with "&"


class WriteStore(Protocol):
    """Commit a store of random activations; returns its path and the stored numbers, (view, sample, C, H, W)."""

    def __call__(
        self,
        name: str = "store",
        *,
        samples: int = 10,
        run: int = 4,
        views: int = 1,
        shape: tuple[int, int, int] = (2, 3, 3),
        encoding: str = "float32",
        codec: CodecName = "zstd",
    ) -> tuple[Path, NDArray[Any]]: ...


@pytest.fixture
def write_store(tmp_path: Path) -> WriteStore:
    """Row i has the label 3i and the sample id 1000 + i, channel c the scale (c + 1) / 100."""

    def write(
        name: str = "store",
        *,
        samples: int = 10,
        run: int = 4,
        views: int = 1,
        shape: tuple[int, int, int] = (2, 3, 3),
        encoding: str = "float32",
        codec: CodecName = "zstd",
    ) -> tuple[Path, NDArray[Any]]:
        x = np.random.default_rng(0).normal(size=(views, samples, *shape)).clip(0).astype(np.float32)
        scale = ((np.arange(shape[0]) + 1) / 100).astype(np.float32)
        stored = encode(x, encoding, scale)
        path = tmp_path / name
        with StoreWriter(
            path,
            views=views,
            samples=samples,
            sample_shape=shape,
            encoding=encoding,
            codec=codec,
            run=run,
            scale=scale,
            fingerprint={"of": name},
            attributes={"stage": 1},
        ) as writer:
            for view in range(views):
                for first in range(0, samples, run):
                    writer.write(view, first, stored[view, first : first + run])
            rows = np.arange(samples, dtype=np.int64)
            writer.commit(y=3 * rows, sample_id=1000 + rows)
        return path, stored

    return write


Outcome = tuple[int, str, str]


@pytest.fixture
def cascade(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run a command in this process: exit code, stdout, stderr."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["cascade", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run
