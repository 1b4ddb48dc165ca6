"""x_j on the device: read from the anchor x_i in the order of an epoch, or as stored, and rendered there."""

from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from cache import ChunkCache, Reader, Ring, Store, Timings, Window, in_batches
from pipeline.budget import RUNS_AHEAD, host_memory_error, ring_bytes, sequential_ring_bytes
from pipeline.config import MIN_BATCH
from pipeline.device import autocast
from pipeline.errors import CascadeError, Stopped
from pipeline.order import sequential_windows, training_windows
from pipeline.rendering import Renderer
from pipeline.resident import Resident
from pipeline.runfolder import RunFolder
from pipeline.stopping import never
from pipeline.transfer import Stored, Upload, host_buffer, to_device

IDS_SHOWN = 8


class Feed:
    """Batches of x_j, (N, C, H, W) in `dtype` and channels-last memory, for training, evaluation and write-back.

    `anchor` may name another stored x_i than the nearest; 0 replays everything. Training batches are of `batch_size`
    samples, by default those of stage j, and come in parts of `micro_batch`, by default as wholes. `streamed`, the
    prefix's weights wait on the host. A split that fits in `device_memory_bytes` is kept on the device. A feed that is
    `sequential_only`, for a look at some samples beside another one, takes less memory. `what` it is for, by default
    stage j, is said in errors. One iteration at a time; one in stored order ends with Stopped at the next run of
    samples once `should_stop` says so.
    """

    def __init__(
        self,
        run: RunFolder,
        j: int,
        device: torch.device,
        *,
        anchor: int | None = None,
        batch_size: int | None = None,
        micro_batch: int | None = None,
        streamed: bool = False,
        device_memory_bytes: int = 0,
        sequential_only: bool = False,
        what: str | None = None,
        should_stop: Callable[[], bool] = never,
    ) -> None:
        self.run = run
        self.j = j
        self.what = what or f"stage {j}"
        self.device = device
        self.anchor = run.anchor(j) if anchor is None else anchor
        self._renderer = Renderer(run, j, self.anchor, device, streamed=streamed)
        self.dtype = self._renderer.dtype
        self._stores: dict[str, Store] = {}
        self._upload = Upload(device)
        self._timings = Timings()
        self._ring: Ring | None = None
        self._kept = ChunkCache(0)
        self._resident: dict[str, Resident] = {}
        self._batch_size = batch_size or run.config.for_stage(j).train.batch_size
        self._micro_batch = micro_batch
        self._device_bytes_left = device_memory_bytes
        self._sequential_only = sequential_only
        self._should_stop = should_stop

    def store(self, split: str) -> Store:
        """The anchor's store of a split."""
        if split not in self._stores:
            self._stores[split] = self.run.open_store(self.anchor, split)
        return self._stores[split]

    @property
    def source(self) -> str:
        """Where x_j comes from, in words."""
        return describe_input(self.anchor, self.j)

    @property
    def waits(self) -> dict[str, float]:
        """Seconds spent waiting for stored data so far, by cause: disk, decode, gather, copy."""
        return {**self._timings.waits, "copy": self._upload.waited}

    def training(self, epoch: int, *, start: int = 0) -> Generator[tuple[Tensor, Tensor], None, None]:
        """An epoch of the training split: x_j and labels (N,), in the order and with the augmentation of the epoch.

        A micro-batch at a time, without the first `start` samples, a multiple of the batch size.
        """
        store, windows, size = self.store("train"), self._training_windows(epoch), self.micro_batch
        stored = self._stored("train", windows, self.run.config.order.window, size, start)

        def rendered(batch: Stored, first: int) -> tuple[Tensor, Tensor]:
            left = self.epoch_samples - first
            rows, views = batch.rows[:left], batch.views[:left]
            x_j = self._renderer.training(batch.x[: len(rows)], store, store.sample_id[rows], views, epoch)
            return x_j, to_device(store.y[rows], self.device)

        firsts = range(start, self.epoch_samples, size)
        yield from map(rendered, islice(stored, len(firsts)), firsts)  # no name here keeps what is stored, or x_j

    def _training_windows(self, epoch: int) -> Iterator[Window]:
        config = self.run.config
        return training_windows(
            self.store("train").samples,
            run=config.order.run,
            window=config.order.window,
            views=config.augment.stored_views if self.j > 0 else 1,
            seed=config.seed,
            stage=self.j,
            epoch=epoch,
        )

    def batch_ids(self, epoch: int, step: int) -> list[int]:
        """Sample ids of a training batch, found without reading any sample."""
        batches = in_batches(self._training_windows(epoch), self.batch_size)
        rows, _ = next(islice(batches, step, None))
        ids: list[int] = self.store("train").sample_id[rows].tolist()
        return ids

    @property
    def batch_size(self) -> int:
        """Samples in a training step."""
        return min(self._batch_size, self.store("train").samples)

    @property
    def micro_batch(self) -> int:
        """Samples that a training batch comes in, at most."""
        return min(self._micro_batch or self.batch_size, self.batch_size)

    @property
    def epoch_samples(self) -> int:
        """Samples trained on in an epoch: of a last, smaller batch as many eights as there are.

        So every part of a batch has at least eight samples: fewer are too few for batch norm, and for equal bits.
        """
        samples = self.store("train").samples
        last = samples % self._batch_size
        return samples - last % MIN_BATCH if samples >= MIN_BATCH else samples

    @torch.no_grad()
    def sequential(
        self,
        split: str,
        through: Callable[[Tensor], Tensor] | None = None,
        *,
        view: int | None = None,
        start: int = 0,
        limit: int | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """A split in stored order: `through(x_j)`, or x_j, and labels (N,).

        Of its first `limit` samples those from `start` on, which is a multiple of `order.run`.

        In the test-time window, which of stored views of training samples only their images can give; or as a store of
        x_j would hold them, `view` of each.

        A run of samples at a time, and every forward pass, of the prefix and of `through`, over a whole run: a short
        last one is filled up with copies of its last sample and cut afterwards, so that no number depends on how many
        samples there are.

        Raises Stopped, and after the last run CascadeError where an x_j was no number.
        """
        if split == "train" and view is None and self.anchor > 0 and self.run.config.augment.policy == "views":
            raise ValueError("stored training samples come in views; the test-time window of them takes anchor = 0")
        store, run = self.store(split), self.run.config.order.run
        samples = min(limit or store.samples, store.samples)
        windows = sequential_windows(samples, run=run, window=RUNS_AHEAD * run, view=view or 0)
        finite = torch.ones((), dtype=torch.bool, device=self.device)
        sound = torch.full((), start, dtype=torch.int64, device=self.device)
        for stored in self._stored(split, windows, RUNS_AHEAD * run, run, start):
            if self._should_stop():
                raise Stopped(f"{self.what}: stopped on the way through its {split} samples")
            rows = stored.rows
            x = self._rendered(_filled_up(stored, run), split, view)
            del stored  # what is computed on takes its place
            finite &= (x.amax() - x.amin()).isfinite()  # NaN comes through; 1% of a block's time, isfinite(x) 20%
            sound += len(rows) * finite  # not read before the end: the host would wait at every run
            if view is not None and not finite.item():  # but what is to be stored must not be, once it is handed on
                break
            if through is not None:
                with autocast(self.device, self.dtype):
                    x = through(x)
            yield x[: len(rows)], to_device(store.y[rows], self.device)
        if (first := int(sound.item())) < samples:
            raise self._not_finite(split, first, min(first + run, samples), view)

    def _rendered(self, stored: Stored, split: str, view: int | None) -> Tensor:
        """x_j of stored samples in the test-time window, or as a store of x_j would hold the view of them."""
        store = self.store(split)
        ids = store.sample_id[stored.rows]
        if view is None:
            return self._renderer.test_window(stored.x, store, split, ids)
        return self._renderer.as_stored(stored.x, store, split, ids, stored.views)

    def _not_finite(self, split: str, first: int, stop: int, view: int | None) -> CascadeError:
        """What to say of a run of samples, rows first..stop-1, with numbers that are none."""
        store, block = self.store(split), self._first_not_finite(split, first, stop, view)
        ids = store.sample_id[first:stop].tolist()
        by_block = "" if block is None else f", made so by block {block}"
        return CascadeError(
            f"{self.what}: x_{self.j} of {split} samples is not finite{by_block}, first in row {first} to {stop - 1}"
            f"{f' of view {view}' if store.views > 1 else ''} of {store.path} (sample ids {shortened(ids)}); "
            f"nothing of it was kept\nnext: {self._remedy(split, block)}"
        )

    def _remedy(self, split: str, block: int | None) -> str:
        """What to do about a block that makes numbers that are none, or about a store that holds some."""
        if block is not None:
            folder, again = self.run.stages[block].path, self.run.command(f"train-stage --j {block}")
            return f"delete {folder} and {again}, with a lower stages.{block}.train.lr where it comes out so again"
        if self.anchor == 0:  # whose pixels are whole numbers: mean and deviation are not
            return self.run.made_again(0)
        again = self.run.command(f"train-stage --j {self.anchor - 1}")
        return f"delete {self.store(split).path} and {again}, which writes it again"

    def _first_not_finite(self, split: str, first: int, stop: int, view: int | None) -> int | None:
        """The first block that makes numbers that are none of a run of samples; None where they are stored so."""
        run = self.run.config.order.run
        windows = sequential_windows(stop, run=run, window=RUNS_AHEAD * run, view=view or 0)
        with self._renderer.watched() as found:
            for stored in self._stored(split, windows, RUNS_AHEAD * run, run, first):
                self._rendered(_filled_up(stored, run), split, view)
        return next(iter(found), None)

    def _stored(
        self, split: str, windows: Iterable[Window], window_samples: int, batch_size: int, start: int
    ) -> Iterator[Stored]:
        """Batches of a split as they are stored: from the device where they stay there, else through the host."""
        resident = self._resident.get(split) or self._make_resident(split)
        if resident is not None:
            return resident.batches(windows, batch_size, start)
        reader = self._reader(split, window_samples, batch_size)
        return self._upload.batches(reader.batches(windows, start=start))

    def _make_resident(self, split: str) -> Resident | None:
        """The split on the device, if there is room for it."""
        store, run = self.store(split), self.run.config.order.run
        nbytes = store.views * store.samples * store.sample_bytes
        if nbytes > self._device_bytes_left:
            return None
        resident = Resident(store, self.device)
        reader = self._reader(split, RUNS_AHEAD * run, run, kept=ChunkCache(0))  # read once, so none stays on the host
        for view in range(store.views):
            windows = sequential_windows(store.samples, run=run, window=RUNS_AHEAD * run, view=view)
            resident.load(self._upload, reader.batches(windows))
        self._device_bytes_left -= nbytes
        self._resident[split] = resident
        return resident

    def _reader(self, split: str, window_samples: int, batch_size: int, *, kept: ChunkCache | None = None) -> Reader:
        store, config = self.store(split), self.run.config
        return Reader(
            store,
            self._own_ring(),
            window_samples=window_samples,
            batch_size=batch_size,
            threads=config.machine.threads,
            hold=self._upload.hold,
            kept=self._kept if kept is None else kept,
            timings=self._timings,
        )

    def _own_ring(self) -> Ring:
        """The ring of all that this feed reads, and what is left of the host memory for chunks that stay."""
        if self._ring is None:
            run, hold = self.run, self._upload.hold
            allowed = run.host_bytes
            sequential = sequential_ring_bytes(run.outline, self.anchor, hold=hold)
            needed = (
                sequential
                if self._sequential_only
                else ring_bytes(run.outline, self.anchor, self.micro_batch, hold=hold)
            )
            if needed > allowed:
                raise host_memory_error(run.config, self.anchor, needed, allowed)
            self._ring = Ring(host_buffer(needed, self.device))
            if not self._sequential_only:
                chunk = self.store("train").chunk_samples * self.store("train").sample_bytes
                self._kept.nbytes = max(allowed - needed - 2 * chunk * run.config.machine.threads, 0)
        return self._ring


def describe_input(anchor: int, j: int) -> str:
    """Where x_j comes from when the anchor is x_i, as in "x_3 stored" or "x_1 + blocks 1..2"."""
    if anchor == j:
        return f"x_{j} stored" if j else "images"
    replayed = f"block {anchor}" if anchor == j - 1 else f"blocks {anchor}..{j - 1}"
    return f"{f'x_{anchor}' if anchor else 'images'} + {replayed}"


def shortened(ids: list[int]) -> str:
    """Some numbers as "3, 1, 4 and 125 more"."""
    more = f" and {len(ids) - IDS_SHOWN} more" if len(ids) > IDS_SHOWN else ""
    return ", ".join(map(str, ids[:IDS_SHOWN])) + more


def _filled_up(stored: Stored, count: int) -> Stored:
    """The samples with the last one repeated up to `count`."""
    if len(stored.rows) == count:
        return stored
    index = np.minimum(np.arange(count), len(stored.rows) - 1)
    return Stored(stored.x[to_device(index, stored.x.device)], stored.rows[index], stored.views[index])
