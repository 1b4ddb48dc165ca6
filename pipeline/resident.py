"""A split's store on the device, as it is stored: what fits there is read from disk once."""

from collections.abc import Generator, Iterable, Iterator

import torch
from torch import Tensor

from cache import Batch, Indices, Store, Window, in_batches
from pipeline.transfer import Stored, Upload, to_device


class Resident:
    """All samples of all views of a store, on the device."""

    def __init__(self, store: Store, device: torch.device) -> None:
        self._views = store.views
        self._samples = store.samples
        shape = (store.views * store.samples, *store.stored_shape)
        self._x = torch.empty(shape, dtype=getattr(torch, store.dtype.name), device=device)

    def load(self, upload: Upload, batches: Generator[Batch, None, None]) -> None:
        """Take in samples; they all have come before any are drawn."""
        for stored in upload.batches(batches):
            self._x[self._places(stored.rows, stored.views)] = stored.x

    def batches(self, windows: Iterable[Window], batch_size: int, start: int = 0) -> Iterator[Stored]:
        """The same batches as a reader's of the store."""
        for number, (rows, views) in enumerate(in_batches(windows, batch_size)):
            if number * batch_size >= start:
                yield Stored(self._x[self._places(rows, views)], rows, views)

    def _places(self, rows: Indices, views: Indices) -> Tensor:
        stored_views = views if self._views > 1 else 0 * views  # one view answers for all
        return to_device(stored_views * self._samples + rows, self._x.device)
