"""Shared by the tests: small committed stores, and one thread for the arithmetic.

Networks this small are faster on one thread, and two threads that wait for each other beside another busy process are
a hundred times slower.
"""

import errno
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
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


class BadSector(Protocol):
    """Put a bad sector under a file: it can be deleted, and another can take its place, but it is not read."""

    def __call__(self, path: Path) -> None: ...


@pytest.fixture
def bad_sector(monkeypatch: pytest.MonkeyPatch) -> Iterator[BadSector]:
    """Files are known by their inode, which an open descriptor keeps from being given to another."""
    opened, plain, bad = os.open, io.open, list[int]()

    def check(path: Any) -> None:
        try:
            found = os.lstat(path)
        except (OSError, TypeError):
            return
        if any(os.path.samestat(found, os.fstat(descriptor)) for descriptor in bad):
            raise OSError(errno.EIO, os.strerror(errno.EIO), os.fspath(path))

    def watched(path: Any, *arguments: Any, **keywords: Any) -> int:
        check(path)
        return opened(path, *arguments, **keywords)

    def watched_plain(path: Any, *arguments: Any, **keywords: Any) -> Any:
        check(path)
        return plain(path, *arguments, **keywords)

    monkeypatch.setattr(os, "open", watched)
    monkeypatch.setattr(io, "open", watched_plain)
    yield lambda path: bad.append(opened(path, os.O_RDONLY))
    for descriptor in bad:
        os.close(descriptor)


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
