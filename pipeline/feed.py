"""x_j on the device: read from the anchor x_i, and taken through the prefix i..j-1.

One path for every anchor. What comes out does not depend on which one it is: the order, the views and the windows are
functions of (seed, stage, epoch, sample), and a prefix rounds between its blocks as the stores do.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cache import Batch, Reader, Store
from cascade import Quantiser
from pipeline.augmentation import Windows, centre_windows, cut, fresh_draws, view_draws
from pipeline.config import MIN_BATCH
from pipeline.device import autocast, autocast_type, place
from pipeline.networks import load_prefix
from pipeline.order import sequential_windows, training_windows
from pipeline.runfolder import RunFolder


class Feed:
    """Batches of x_j, (N, C, H, W) float32 in channels-last memory, for training, evaluation and write-back.

    `wait_seconds` is the time spent until stored batches were there, read and gathered. `anchor` may name another
    stored x_i than the nearest; 0 replays everything.
    """

    def __init__(self, run: RunFolder, j: int, device: torch.device, *, anchor: int | None = None) -> None:
        self.run = run
        self.j = j
        self.device = device
        self.dtype = autocast_type(device, run.config.network.precision)
        self.anchor = run.anchor(j) if anchor is None else anchor
        self.wait_seconds = 0.0
        self._stores: dict[str, Store] = {}
        self._prefix = load_prefix(run, self.anchor, j)
        place(self._prefix, device)
        self._decoder: Quantiser | None = None
        if self.anchor > 0:
            self._decoder = self._load_decoder(self.store("train")).to(device)
        mean, std = (torch.tensor(values, device=device).view(-1, 1, 1) for values in (run.info.mean, run.info.std))
        self._mean, self._std = mean, std

    def store(self, split: str) -> Store:
        """The anchor's store of a split."""
        if split not in self._stores:
            self._stores[split] = self.run.open_store(self.anchor, split)
        return self._stores[split]

    @property
    def source(self) -> str:
        """Where x_j comes from, in words."""
        return describe_input(self.anchor, self.j)

    def training(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """An epoch of the training split: x_j and labels (N,), in the order and with the augmentation of the epoch."""
        config = self.run.config
        store = self.store("train")
        windows = training_windows(
            store.samples,
            run=config.order.run,
            window=config.order.window,
            views=config.augment.stored_views if self.j > 0 else 1,
            seed=config.seed,
            stage=self.j,
            epoch=epoch,
        )
        batch_size = min(config.for_stage(self.j).train.batch_size, store.samples)
        for batch in self._timed(self._reader(store).batches(windows, batch_size)):
            if len(batch.rows) < min(MIN_BATCH, store.samples):
                continue  # too few for batch norm, and for equal bits
            x = self._to_x_j(batch, self._training_windows(store.sample_id[batch.rows], batch.views, epoch))
            yield x, torch.from_numpy(store.y[batch.rows]).to(self.device, non_blocking=True)

    @torch.no_grad()
    def sequential(
        self,
        split: str,
        through: Callable[[Tensor], Tensor] | None = None,
        *,
        view: int = 0,
        centre: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """A split, or its first `limit` samples, in stored order: `through(x_j)`, or x_j, and labels (N,).

        A run of samples at a time, and every forward pass, of the prefix and of `through`, over a whole run: a short
        last one is filled up with copies of its last sample and cut afterwards, so that no number depends on how many
        samples there are. Training samples come as the config's policy renders `view`, or with `centre` in the
        test-time window, which only images can give; others always in the test-time window.
        """
        config = self.run.config
        store = self.store(split)
        samples = min(limit or store.samples, store.samples)
        run = config.order.run
        windows = sequential_windows(samples, run=run, window=config.order.window, view=view)
        for batch in self._timed(self._reader(store).batches(windows, run)):
            count = len(batch.rows)
            full = _filled_up(batch, run)
            ids = store.sample_id[full.rows]
            x = self._to_x_j(full, self._stored_windows("test" if centre else split, ids, full.views))
            if through is not None:
                with autocast(self.device, self.dtype):
                    x = through(x)
            yield x[:count], torch.from_numpy(store.y[batch.rows]).to(self.device, non_blocking=True)

    def _timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches; the time until each one is there is added to `wait_seconds`."""
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self.wait_seconds += time.perf_counter() - began
            if batch is None:
                return
            yield batch

    def _reader(self, store: Store) -> Reader:
        config = self.run.config
        return Reader(
            store,
            window_samples=config.order.window,
            memory_bytes=config.host_memory_bytes,
            threads=config.machine.threads,
        )

    def _training_windows(self, ids: NDArray[np.int64], views: NDArray[np.int64], epoch: int) -> Windows | None:
        """Windows that training cuts from images; None where the anchor stores activations."""
        if self.anchor > 0:
            return None
        config, side = self.run.config, self.run.info.side
        if self.j == 0 or config.augment.policy == "recompute":
            return fresh_draws(config.augment, side, ids, seed=config.seed, stage=self.j, epoch=epoch)
        return self._stored_windows("train", ids, views)

    def _stored_windows(self, split: str, ids: NDArray[np.int64], views: NDArray[np.int64]) -> Windows | None:
        """Windows as they are in stores past x_0; None where the anchor is one of them."""
        if self.anchor > 0:
            return None
        config, side = self.run.config, self.run.info.side
        if split == "train" and config.augment.policy == "views":
            return view_draws(config.augment, side, ids, views, seed=config.seed)
        return centre_windows(config.augment, side, len(ids))

    @torch.no_grad()
    def _to_x_j(self, batch: Batch, windows: Windows | None) -> Tensor:
        stored = torch.from_numpy(batch.x).to(self.device, non_blocking=True)
        if windows is not None:
            images = cut(stored, windows, crop=self.run.side, padding=self.run.config.augment.padding)
            x = (images.float() / 255 - self._mean) / self._std
        else:
            assert self._decoder is not None
            x = self._decoder.decode(stored)
        with autocast(self.device, self.dtype):
            x_j: Tensor = self._prefix(x.contiguous(memory_format=torch.channels_last))
        return x_j.contiguous(memory_format=torch.channels_last)

    def _load_decoder(self, store: Store) -> Quantiser:
        decoder = Quantiser(store.encoding, store.sample_shape[0])
        decoder.scale.copy_(torch.from_numpy(store.scale))
        return decoder


def describe_input(anchor: int, j: int) -> str:
    """Where x_j comes from when the anchor is x_i, as in "x_3 stored" or "x_1 + blocks 1..2"."""
    if anchor == j:
        return f"x_{j} stored" if j else "images"
    replayed = f"block {anchor}" if anchor == j - 1 else f"blocks {anchor}..{j - 1}"
    return f"{f'x_{anchor}' if anchor else 'images'} + {replayed}"


def _filled_up(batch: Batch, count: int) -> Batch:
    """The batch with its last sample repeated up to `count` samples."""
    if len(batch.rows) == count:
        return batch
    index: NDArray[Any] = np.minimum(np.arange(count), len(batch.rows) - 1)
    return Batch(batch.x[index], batch.rows[index], batch.views[index])
