"""What a stage sees: stored samples of its anchor x_i, cut, decoded and taken through the prefix i..j-1, on the device.

What comes out does not depend on the anchor: windows and views are functions of (seed, stage, epoch, sample), and a
prefix rounds between its blocks as the stores do.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from cache import Indices, Store
from cascade import Quantiser
from pipeline.augmentation import (
    Windows,
    canvas_draws,
    canvases,
    centre_of,
    centre_windows,
    cut,
    cut_out,
    fresh_draws,
    view_draws,
)
from pipeline.device import autocast, autocast_type
from pipeline.errors import RefusedError
from pipeline.networks import load_prefix, load_quantiser
from pipeline.prefix import on_device
from pipeline.runfolder import RunFolder


class Renderer:
    """Turns samples of x_anchor, as they are stored, into x_j, (N, C, H, W) in channels-last memory.

    In the type that convolutions compute in, which is what they would make of any other.

    With `streamed`, the prefix's weights wait on the host.
    """

    def __init__(self, run: RunFolder, j: int, anchor: int, device: torch.device, *, streamed: bool = False) -> None:
        self.run = run
        self.j = j
        self.anchor = anchor
        self.device = device
        self.dtype = autocast_type(device, run.config.network.precision)
        augment = run.config.augment
        self._cut_at = augment.last_anchor(j) if augment.policy == "canvas" else j
        prefixes = [load_prefix(run, start, stop) for start, stop in ((anchor, self._cut_at), (self._cut_at, j))]
        self._blocks = [block for prefix in prefixes for block in prefix.blocks]
        self._prefix, self._after_cut = (on_device(prefix, device, streamed=streamed) for prefix in prefixes)
        mean, std = (torch.tensor(values, device=device).view(-1, 1, 1) for values in (run.info.mean, run.info.std))
        self._mean, self._std = mean, std
        self._decoders: dict[str, Quantiser] = {}

    def training(self, stored: Tensor, store: Store, ids: Indices, views: Indices, epoch: int) -> Tensor:
        """x_j of training samples as an epoch shows them."""
        config, side = self.run.config, self.run.info.side
        if self.j == 0 or config.augment.policy == "recompute":
            drawn = fresh_draws(config.augment, side, ids, seed=config.seed, stage=self.j, epoch=epoch)
            return self._through(self._prefix, self._images(stored, drawn))
        if config.augment.policy != "canvas":
            return self.as_stored(stored, store, "train", ids, views)
        drawn = canvas_draws(self._canvas, self._window, ids, seed=config.seed, stage=self.j, epoch=epoch)
        if self.anchor == self._cut_at:  # the same numbers as cutting last, and less to decode
            return self._through(self._after_cut, self._decoded(stored, store, drawn))
        return self._through(self._after_cut, cut(self.as_stored(stored, store, "train", ids, views), drawn))

    def as_stored(self, stored: Tensor, store: Store, split: str, ids: Indices, views: Indices) -> Tensor:
        """x_j as a store of the split would hold these views of it; past augment.cut_at, x_cut_at."""
        if self.anchor > 0:
            return self._through(self._prefix, self._decoded(stored, store))
        config, side = self.run.config, self.run.info.side
        if config.augment.policy == "canvas":
            windows = canvases(config.augment, side, views)
        elif config.augment.policy == "views" and split == "train":
            windows = view_draws(config.augment, side, ids, views, seed=config.seed)
        else:
            windows = centre_windows(config.augment, side, len(ids))
        return self._through(self._prefix, self._images(stored, windows))

    def test_window(self, stored: Tensor, store: Store, split: str, ids: Indices) -> Tensor:
        """x_j in the test-time window; of training samples that are stored as views only from their images.

        Under "canvas" it is the centre of the canvas's features, so that a head is tested on what it was trained on:
        near its border such a window has seen what lies outside, where a window of the image has seen zeros.
        """
        augment, side = self.run.config.augment, self.run.info.side
        if self.j > 0 and augment.policy == "canvas":
            centre, whole = centre_of(self._canvas, self._window, len(ids)), np.zeros(len(ids), np.int64)
            return self._through(self._after_cut, cut(self.as_stored(stored, store, split, ids, whole), centre))
        if self.anchor > 0:
            return self.as_stored(stored, store, split, ids, np.zeros(len(ids), np.int64))
        return self._through(self._prefix, self._images(stored, centre_windows(augment, side, len(ids))))

    @contextmanager
    def watched(self) -> Iterator[list[int]]:
        """Collects the blocks of the prefix that make numbers that are none of numbers that are."""
        found: list[int] = []

        def look(i: int, x: Tensor, y: Tensor) -> None:
            if x.isfinite().all() and not y.isfinite().all():
                found.append(i)

        hooks = [
            block.register_forward_hook(lambda _, x, y, i=i: look(i, x[0], y))
            for i, block in enumerate(self._blocks, self.anchor)
        ]
        try:
            yield found
        finally:
            for hook in hooks:
                hook.remove()

    @property
    def _window(self) -> int:
        """Side of the windows that are cut from canvases, in pixels."""
        return self.run.input_shape(self._cut_at)[1]

    @property
    def _canvas(self) -> int:
        """Side of the canvases' features that they are cut from, j >= 1."""
        return self.run.output_shape(self._cut_at - 1)[-1]

    def _images(self, stored: Tensor, windows: Windows) -> Tensor:
        """x_0: the windows of stored images, normalised."""
        normalised = (cut(stored, windows).float() / 255 - self._mean) / self._std
        return cut_out(normalised, windows.holes).to(self.dtype)

    def _decoded(self, stored: Tensor, store: Store, windows: Windows | None = None) -> Tensor:
        """Activations of stored numbers, or of windows of them."""
        decoder = self._decoder(store)
        numbers = decoder.unpack(stored, store.sample_shape[-1])
        return decoder.decode(numbers if windows is None else cut(numbers, windows), self.dtype)

    @torch.no_grad()
    def _through(self, prefix: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        with autocast(self.device, self.dtype):
            x_j: Tensor = prefix(x.contiguous(memory_format=torch.channels_last))
        return x_j.contiguous(memory_format=torch.channels_last)

    def _decoder(self, store: Store) -> Quantiser:
        """The quantiser that a store was written with, on the device.

        Raises RefusedError where the stage's scale was taken anew since, as after a change of the machine.
        """
        key = str(store.path)
        if key not in self._decoders:
            decoder = load_quantiser(self.run, self.anchor - 1)
            if decoder.scale.tolist() != store.scale.tolist():
                raise RefusedError(
                    f"{store.path} was written with another scale than {self.run.stages[self.anchor - 1].scale}\n"
                    f"next: delete the store; it is made again"
                )
            self._decoders[key] = decoder.to(self.device)
        return self._decoders[key]
