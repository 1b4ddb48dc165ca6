"""Predicted seconds of every stage from every anchor, and of every write: what a route is chosen by, as arithmetic.

A phase, as an epoch, keeps three things busy at once: the device, which renders, replays and trains; the disk; and the
reading and writing threads, which verify, decompress and copy. It takes as long as the busiest of them, and for the
first of its windows also as long as the other: nothing is computed until that is read. Where device and threads share
their cores, a second of the threads' takes part of one from the device.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.anchors import Seconds


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a machine does."""

    read_bytes_per_second: float
    """Of the run folder's disk, by as many threads as read."""
    write_bytes_per_second: float
    """The same, durable."""
    threads: int
    """That read, or write."""
    copy_bytes_per_second: float
    """From the host to the device; infinite where they are one."""
    stolen: float
    """Seconds that the device loses to a second of a thread's work; 0 where they share no cores."""
    stage_seconds: float
    """Of a stage beside its samples and weights."""
    block_seconds: float
    """Of reading a block of a prefix."""
    epoch_seconds: float
    """Of an epoch beside its samples and weights."""
    store_seconds: float
    """Of writing a store beside its samples."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What there is to do. Arrays are (J,), by stage j, by block, or by index i of x_i; seconds are of one sample."""

    train_samples: int
    """In an epoch."""
    validation_samples: int
    """After every epoch."""
    test_samples: int
    """At the end of a stage."""
    views: int
    """Of the training samples, in every x_i but x_0."""
    run: int
    """Samples that are evaluated and written at a time; what is less is filled up."""
    window: int
    """Samples of an epoch that are read before the first step."""
    window_in_order: int
    """The same where samples come as they are stored."""
    epochs: NDArray[np.int64]
    """Of each stage, still to come."""
    looks: NDArray[np.int64]
    """Of each stage, passes still to come over all training samples in evaluation, where it keeps its best point."""
    is_trained: NDArray[np.bool_]
    """Whether a stage is."""
    step_seconds: Seconds
    """Of a training step: block and head, forward and backward."""
    test_seconds: Seconds
    """Block and head in evaluation."""
    checkpoint_seconds: Seconds
    """Not of a sample: keeping a stage as it is, on disk, after each epoch and at its end."""
    begin_seconds: Seconds
    """Not of a sample: drawing a stage's weights."""
    scale_seconds: Seconds
    """Taking the scale of a stage's output, once that is computed."""
    field_seconds: Seconds
    """A block of a prefix and its quantiser, on what stores hold: canvases under the policy "canvas"."""
    window_seconds: Seconds
    """The same on a training window."""
    cut_at: NDArray[np.int64]
    """The first block of each stage's prefix that sees windows; j where all see what stores hold."""
    render_seconds: Seconds
    """Making activations of stored numbers, on the device."""
    disk_bytes: Seconds
    """A sample of x_i on disk."""
    copied_bytes: Seconds
    """The same decoded, as it goes to the device."""
    fetch_seconds: Seconds
    """Of a thread, verifying, decompressing and putting it in its place."""
    pack_seconds: Seconds
    """Of a thread, compressing and checking it."""
    kept_share: Seconds
    """Of x_i, what stays in memory once it was read."""
    calibration_samples: NDArray[np.int64]
    """Taken from the images through the whole prefix when a stage ends."""
    scale_samples: NDArray[np.int64]
    """Of them, those that the scale of its output is taken from; 0 where that is not taken."""
    exists: NDArray[np.bool_]
    """Whether x_i is stored."""

    @property
    def stages(self) -> int:
        return len(self.epochs)

    @property
    def written_samples(self) -> int:
        """In every x_i but x_0, over all splits and views."""
        return self.views * self.train_samples + self.validation_samples + self.test_samples

    @property
    def computed_samples(self) -> int:
        """The same with every split filled up."""
        return self.views * self.filled(self.train_samples) + sum(
            map(self.filled, (self.validation_samples, self.test_samples))
        )

    def filled(self, samples: int) -> int:
        """Samples that are computed of a split in whole runs."""
        return -(-samples // self.run) * self.run


class Parts(NamedTuple):
    """Predicted seconds, (J, J): [i, j] of stage j from x_i, or [h, i] of writing x_i from x_h."""

    total: Seconds
    """All of it, overlapped."""
    device: Seconds
    """What the device is busy for, replaying included."""
    replay: Seconds
    """With the prefix alone."""
    read: Seconds
    """What the disk is read for."""
    write: Seconds
    """What it is written for."""
    threads: Seconds
    """What the threads are busy for, together as one."""

    def limit(self, *at: int) -> str:
        """What takes longest there."""
        disk = self.read[at] + self.write[at]
        busy = {"device": float(self.device[at]), "disk": float(disk), "threads": float(self.threads[at])}
        return max(busy, key=busy.__getitem__)


class _Flow(NamedTuple):
    """Samples of a phase, in arrays that go with (J, J)."""

    samples: Seconds
    """That are computed."""
    fetched: Seconds
    """Of them, those that are not in memory."""
    window_share: float
    """Of them, those that come before anything is computed."""


def training(work: Work, machine: Machine) -> Parts:
    """Stage j from x_i, for i <= j: its epochs, without what is evaluated between them."""
    n, epochs, missed = work.train_samples, work.epochs[None, :].astype(float), 1 - work.kept_share[:, None]
    views = np.where(np.arange(work.stages) > 0, work.views, 1)[:, None]
    first = np.minimum(views, epochs)  # of every view once, before any of it is in memory
    replay = replay_seconds(work)
    step = replay + work.render_seconds[:, None] + work.step_seconds[None, :]
    begin = _Flow(n * first, n * first, _share(work.window, n))
    then = _Flow(n * (epochs - first), n * (epochs - first) * missed, _share(work.window, n))
    return _together(_phase(work, machine, step, replay, flow) for flow in (begin, then))


def validation(work: Work, machine: Machine) -> Parts:
    """Stage j from x_i, for i <= j: the held-out samples after every epoch, and each look for the best point."""
    passes = ((work.validation_samples, work.epochs), (work.train_samples, work.looks))
    return _together(_passes(work, machine, work.filled(samples), count) for samples, count in passes)


def _passes(work: Work, machine: Machine, samples: int, count: NDArray[np.int64]) -> Parts:
    """Samples in evaluation, as often as each stage takes them."""
    times, missed = count[None, :].astype(float), 1 - work.kept_share[:, None]
    begun = np.minimum(times, 1)
    fetched = samples * (begun + (times - begun) * missed)
    flow = _Flow(samples * times, fetched, _share(work.window_in_order, samples))
    return _phase(work, machine, _testing(work), replay_seconds(work), flow)


def ending(work: Work, machine: Machine) -> Parts:
    """Stage j from x_i, for i <= j: its test, the scale of its output, which is taken from the images, and what is kept
    of it on disk on the way."""
    samples = np.where(work.is_trained, 0.0, float(work.filled(work.test_samples)))[None, :]
    flow = _Flow(samples, samples, _share(work.window_in_order, work.test_samples))
    parts = _phase(work, machine, _testing(work), replay_seconds(work), flow)
    through = replay_seconds(work, to_fields=True)[0] + work.field_seconds + work.render_seconds[0]
    scaled = work.calibration_samples * through + work.scale_samples * work.scale_seconds
    calibrated = np.where(work.is_trained, 0.0, scaled)[None, :]
    return parts._replace(total=parts.total + calibrated + _beside(work, machine), device=parts.device + calibrated)


def _beside(work: Work, machine: Machine) -> Seconds:
    """[i, j], (J, J): of stage j from x_i what no sample takes."""
    j = np.arange(work.stages)
    blocks = blocks_read(j[:, None], j[None, :], scaled=work.scale_samples[None, :] > 0)
    kept = (work.epochs + 1) * work.checkpoint_seconds + work.epochs * machine.epoch_seconds
    own = machine.stage_seconds + np.maximum(blocks, 0) * machine.block_seconds + (work.begin_seconds + kept)[None, :]
    return np.where(work.is_trained[None, :], 0.0, own)


def blocks_read(anchor: ArrayLike, j: ArrayLike, *, scaled: ArrayLike) -> NDArray[np.int64]:
    """Blocks that stage j reads: its prefix, and all up to its own where the scale of its output is taken."""
    own: NDArray[np.int64] = np.asarray(j) - np.asarray(anchor) + np.where(scaled, np.asarray(j) + 1, 0)
    return own


def writing(work: Work, machine: Machine) -> Parts:
    """x_i from x_h, for h < i: all splits and views through blocks h..i-1, encoded, packed and made durable."""
    blocks = np.maximum(np.arange(work.stages) - 1, 0)
    return _writing(work, machine, blocks, work.disk_bytes, work.pack_seconds, work.exists)


def writing_last(work: Work, machine: Machine, disk_bytes: float, pack_seconds: float) -> Parts:
    """[h, 0], (J, 1), of writing x_J from x_h; what a sample takes on disk, and of a thread."""
    block = np.array([work.stages - 1])
    return _writing(work, machine, block, np.array([disk_bytes]), np.array([pack_seconds]), np.array([False]))


def _writing(
    work: Work,
    machine: Machine,
    blocks: NDArray[np.int64],
    disk_bytes: Seconds,
    pack_seconds: Seconds,
    exists: NDArray[np.bool_],
) -> Parts:
    """[h, i] of writing from x_h what the i-th of `blocks` gives."""
    replay = replay_seconds(work, to_fields=True)[:, blocks]
    device = replay + work.field_seconds[blocks][None, :] + work.render_seconds[:, None]
    samples = np.where(exists, 0.0, float(work.computed_samples))[None, :]
    fetched = samples * (1 - work.kept_share[:, None])
    stored = np.where(exists, 0.0, float(work.written_samples))[None, :]
    written = stored * (disk_bytes / machine.write_bytes_per_second)[None, :]
    packed = stored * pack_seconds[None, :]
    flow = _Flow(samples, fetched, _share(work.window_in_order, work.train_samples))
    parts = _phase(work, machine, device, replay, flow, written, packed)
    return parts._replace(total=parts.total + np.where(exists, 0.0, machine.store_seconds)[None, :])


def replay_seconds(work: Work, *, to_fields: bool = False) -> Seconds:
    """[i, j], (J, J): a sample's way from x_i to x_j, or to x_j as it is stored."""
    fields, windows = (np.concatenate([[0.0], s.cumsum()]) for s in (work.field_seconds, work.window_seconds))
    j = np.arange(work.stages)
    cut = j if to_fields else work.cut_at
    on_fields = np.maximum(fields[cut][None, :] - fields[j][:, None], 0)
    on_windows = windows[j][None, :] - windows[np.maximum(cut[None, :], j[:, None])]
    return np.where(j[:, None] <= j[None, :], on_fields + np.maximum(on_windows, 0), 0.0)


def _testing(work: Work) -> Seconds:
    """[i, j], (J, J): a sample's way from x_i through stage j in evaluation."""
    return replay_seconds(work) + work.render_seconds[:, None] + work.test_seconds[None, :]


def _share(window: int, samples: int) -> float:
    return min(window / samples, 1.0) if samples else 0.0


def _together(phases: Iterable[Parts]) -> Parts:
    """Phases one after the other."""
    return Parts(*(reduce(np.add, part) for part in zip(*phases, strict=True)))


def _phase(
    work: Work,
    machine: Machine,
    device: Seconds,
    replay: Seconds,
    flow: _Flow,
    written: Seconds | float = 0.0,
    packed: Seconds | float = 0.0,
) -> Parts:
    """Samples that are fetched, computed, and perhaps packed and written, side by side."""
    computing = flow.samples * device
    read = flow.fetched * (work.disk_bytes / machine.read_bytes_per_second)[:, None]
    threads = flow.fetched * work.fetch_seconds[:, None] + packed
    busy = computing + machine.stolen * threads
    copied = flow.samples * (work.copied_bytes / machine.copy_bytes_per_second)[:, None]
    moving = np.maximum(np.maximum(read + written, threads / machine.threads), copied)
    total = np.maximum(busy, moving) + flow.window_share * np.minimum(busy, moving)
    shape = total.shape
    return Parts(
        total,
        np.broadcast_to(busy, shape),
        np.broadcast_to(flow.samples * replay, shape),
        np.broadcast_to(read, shape),
        np.broadcast_to(np.asarray(written), shape),
        np.broadcast_to(threads / machine.threads, shape),
    )
