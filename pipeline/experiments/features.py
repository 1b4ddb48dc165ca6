"""Features of images at every depth of a trained network: x_j, averaged over its pixels."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import Normalize

from cascade import CentreWindow, Prefix, Quantiser
from pipeline.bad_images import is_of_the_machine, printable, reason_of
from pipeline.device import autocast, autocast_type
from pipeline.errors import CorruptDataError
from pipeline.experiments.pool import Pool
from pipeline.images import GREY_MODES, to_canvas
from pipeline.networks import ImageWindow, load_block, load_quantiser
from pipeline.ondevice import choose_on_device
from pipeline.prefix import on_device
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.shapes import canvas_side
from pipeline.stopping import check_stop, never

Features = dict[int, Tensor]
"""j -> averages of x_j, (N, C) float32."""


class Depths:
    """Takes whole images through the network and averages x_j, as stages see it at test time, at some depths.

    Blocks and quantisers are as trained; x_J, which no stage reads, is not rounded. Under the policy "canvas" the
    average is over the window that stage j is tested on, and of x_J over what the last block makes of its window.
    """

    def __init__(self, run: RunFolder, depths: Sequence[int], device: torch.device) -> None:
        self._run = run
        self._depths = frozenset(depths)
        self._device = device
        self._dtype = autocast_type(device, run.config.network.precision)
        last_stage = len(run.stages) - 1
        is_canvas = run.config.augment.policy == "canvas" and last_stage > 0
        self._cut_at = run.config.augment.last_anchor(last_stage) if is_canvas else 0
        margin = run.config.augment.padding if is_canvas else -((run.info.side - run.side) // 2)
        side = canvas_side(run.config, run.info.side) if is_canvas else run.side
        self._window = ImageWindow(run.info.side, side, margin)
        self._normalise = Normalize(run.info.mean, run.info.std)
        last = max(depths)
        streamed = choose_on_device(run.outline, min(last, last_stage), anchor=0, device=device).streamed
        self._layers = [on_device(_layer(run, i), device, streamed=streamed) for i in range(last)]

    @torch.no_grad()
    def __call__(self, images: NDArray[np.uint8]) -> Features:
        """Of images (N, C, side, side); on the CPU. A forward pass is of `order.run` images, filled up with copies."""
        count, run = len(images), self._run.config.order.run
        filled = images[np.minimum(np.arange(run), count - 1)]
        x = self._normalise(self._window(torch.from_numpy(filled).to(self._device).float() / 255))
        x = x.to(self._dtype).contiguous(memory_format=torch.channels_last)
        found: Features = {}
        for j in range(len(self._layers) + 1):
            if j:
                with autocast(self._device, self._dtype):
                    x = self._layers[j - 1](x)
            window = CentreWindow(self._side(j))
            if j in self._depths:
                found[j] = window(x).float().mean((2, 3))[:count].cpu()
            if j and j == self._cut_at:
                x = window(x).contiguous(memory_format=torch.channels_last)
        return found

    def _side(self, j: int) -> int:
        """Of x_j as a stage sees it, in pixels."""
        shapes = self._run.shapes
        return shapes[j].in_side if j < len(shapes) else shapes[-1].out_side


def _layer(run: RunFolder, j: int) -> Prefix:
    """Block j and the quantiser of x_{j+1}."""
    is_read = j + 1 < len(run.stages)
    quantiser = load_quantiser(run, j) if is_read else Quantiser("float32", run.shapes[j].out_channels)
    return Prefix([load_block(run, j)], [quantiser])


def channels_of(run: RunFolder, j: int) -> int:
    """Channels of x_j, the length of its average."""
    return run.shapes[j].in_channels if j < len(run.shapes) else run.shapes[-1].out_channels


def decoded(run: RunFolder, pool: Pool, rows: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
    """Images of a pool on the network's canvas, (N, C, side, side), `order.run` at a time and the next meanwhile.

    Colour is taken as grey where the network was trained on grey. Raises CorruptDataError where one is damaged.
    """
    size = run.config.order.run
    parts = [rows[first : first + size] for first in range(0, len(rows), size)]
    with ThreadPoolExecutor(run.config.machine.threads) as threads:
        ahead = _submitted(threads, run, pool, parts[0])
        for number in range(len(parts)):
            images = [image.result() for image in ahead]
            ahead = _submitted(threads, run, pool, parts[number + 1]) if number + 1 < len(parts) else []
            yield np.stack(images)


def _submitted(
    threads: ThreadPoolExecutor, run: RunFolder, pool: Pool, rows: NDArray[np.int64]
) -> list[Future[NDArray[np.uint8]]]:
    return [threads.submit(_image, run, pool, int(row)) for row in rows]


def _image(run: RunFolder, pool: Pool, row: int) -> NDArray[np.uint8]:
    try:
        return _canvas(run, pool, row)
    except Exception as error:
        if is_of_the_machine(error):
            raise
        raise CorruptDataError(
            f"{printable(pool.name(row))}: {reason_of(error)}\n"
            f"next: mend it or take it away, then the same command; or with --skip-bad, which leaves damaged ones out"
        ) from error


def _canvas(run: RunFolder, pool: Pool, row: int) -> NDArray[np.uint8]:
    image = pool.load(row)
    if run.info.channels == 1 and image.mode not in GREY_MODES and not image.mode.startswith(("I", "F")):
        image = image.convert("L")
    return to_canvas(image, run.info.side, run.info.channels, resize=True)


def damaged(run: RunFolder, pool: Pool, report: Reporter, *, should_stop: Callable[[], bool] = never) -> dict[int, str]:
    """The images of a pool that cannot be decoded, and what is wrong with them. Raises Stopped."""
    found: dict[int, str] = {}
    count, size = len(pool.labels), run.config.order.run
    with (
        ThreadPoolExecutor(run.config.machine.threads) as threads,
        report.task("looking for damaged images", count) as task,
    ):
        for first in range(0, count, size):
            check_stop(should_stop, "looking for damaged images")
            rows = range(first, min(first + size, count))
            reasons = zip(rows, threads.map(lambda row: _damage(run, pool, row), rows), strict=True)
            found |= {row: reason for row, reason in reasons if reason}
            task.update(rows.stop)
    return found


def _damage(run: RunFolder, pool: Pool, row: int) -> str:
    try:
        _canvas(run, pool, row)
    except Exception as error:  # a decoder raises anything
        if is_of_the_machine(error):
            raise
        return reason_of(error)
    return ""
