"""What this machine does with a network's stages, measured in seconds: what a plan is made from.

Every distinct shape is measured once, on as many samples as take a fraction of a second, by the modules and the step
that train; the disk by a store that is written, read and deleted. Kept in the run folder, and taken again where the
machine, the precision or the shapes are others.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cache import CODECS, codec_speed, disk_speed, encode, packed_share, replace_file
from cache.encodings import LEVELS
from cascade import Quantiser, StageShape, make_block, make_head
from cascade.quantiser import ENCODINGS
from pipeline.augmentation import centre_of, centre_windows, cut
from pipeline.checkpoint import Progress
from pipeline.config import MIN_BATCH, Config
from pipeline.device import autocast, autocast_type, machine_record, place
from pipeline.fit import train_step
from pipeline.learner import Learner, make_optimiser
from pipeline.outline import Outline
from pipeline.progress import Reporter, duration
from pipeline.sealed import read_sealed, write_sealed
from pipeline.transfer import host_buffer
from pipeline.weights import save_tensors

RATES = "rates.json"
TRIAL_FILE = ".disk-speed"
SECONDS = 0.2
"""That a measurement repeats its work for, at least."""
REPEATS = 3
LONG_SECONDS = 1.0
"""After which it is enough, however often."""
BATCH_SECONDS = 0.25
"""What a batch that is measured may take: on a slow device a smaller one than it trains on."""
COPY_BYTES = 64 * 2**20
TINY = 1e-6
"""Added to scales, so that none is zero."""
CHUNK_BYTES = 4 * 2**20
"""Of stored numbers that codecs are tried on."""


class CodecRate(msgspec.Struct, frozen=True, kw_only=True):
    """A codec on stored numbers of an encoding, by a byte of them before compression."""

    encoding: str
    codec: str
    share: float
    """Bytes it leaves of numbers of fresh weights; of trained ones fewer."""
    pack_seconds: float
    """Of a thread."""
    unpack_seconds: float
    """Of a thread."""


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """rates.json. Seconds are of one sample, where nothing else is said."""

    machine: dict[str, Any]
    """The machine and its versions."""
    network: str
    """Hash of the shapes and settings that were measured."""
    step_seconds: list[float]
    """Of each stage's training step."""
    test_seconds: list[float]
    """Of each stage's block and head in evaluation."""
    forward_seconds: list[float]
    """Of each block and its quantiser in evaluation."""
    checkpoint_seconds: list[float]
    """Not of a sample: keeping each stage's weights and momentum on disk."""
    image_seconds: float
    """To cut a window of an image and normalise it, by a number of it."""
    decode_seconds: dict[str, float]
    """Of each encoding, to make an activation of a stored number, by a number."""
    cut_seconds: float
    """To cut windows of stored numbers, by a number of a window."""
    read_bytes_per_second: float
    """Of the disk, past the page cache."""
    write_bytes_per_second: float
    """Committed."""
    fetch_seconds_per_byte: float
    """Of a thread, to copy, verify and gather stored bytes."""
    write_seconds_per_byte: float
    """Of a thread, to check them and hand them to the disk."""
    codecs: list[CodecRate]
    copy_bytes_per_second: float | None
    """From the host to the device; None where they are one."""
    stolen: float
    """Seconds that the device loses to a second of a thread's work."""
    seconds: float
    """That the measuring took."""

    def codec(self, encoding: str, codec: str) -> CodecRate:
        """The rate of a codec on an encoding; images are numbers of a byte."""
        encoding = "uint8" if encoding == "identity" else encoding
        return next(rate for rate in self.codecs if (rate.encoding, rate.codec) == (encoding, codec))


def rates_of(folder: Path, outline: Outline, device: torch.device, report: Reporter, *, anew: bool = False) -> Rates:
    """The rates kept in a run folder, measured first where they are of something else, or `anew`."""
    dtype = autocast_type(device, outline.config.network.precision)
    machine, network = machine_record(device, dtype), network_digest(outline)
    path = folder / RATES
    known = None if anew else read_sealed(path, Rates, remedy="delete it; it is measured again")
    if known is not None and (known.machine, known.network) == (machine, network):
        return known
    report.say(f"measuring {device}, the threads and the disk of {folder}")
    rates = measure(folder, outline, device)
    report.say(f"measured in {duration(rates.seconds)}, kept in {path}")
    write_sealed(path, rates)
    return rates


def network_digest(outline: Outline) -> str:
    """Hash of what is measured of a network."""
    config = outline.config
    stages = [[asdict(shape), *_settings(config, shape.j)] for shape in outline.shapes]
    own = [stages, config.network.batch_norm, outline.classes, config.order.run, config.machine.threads]
    return hashlib.sha256(msgspec.json.encode(own)).hexdigest()


def measure(folder: Path, outline: Outline, device: torch.device) -> Rates:
    """Measure everything. The folder's disk is written to, and left as it was."""
    began = time.perf_counter()
    dtype = autocast_type(device, outline.config.network.precision)
    bench = _Bench(outline, device, dtype)
    measured: dict[str, tuple[float, ...]] = {}
    for shape in outline.shapes:
        if (name := bench.name(shape)) not in measured:
            measured[name] = bench.stage(shape, folder)
    steps, tests, forwards, checkpoints = zip(*(measured[bench.name(shape)] for shape in outline.shapes), strict=True)
    numbers = bench.stored_numbers(outline.shapes[0])
    disk = disk_speed(folder, numbers["uint8"], run=outline.config.order.run, threads=outline.config.machine.threads)
    codecs = [
        CodecRate(encoding=encoding, codec=codec, **asdict(codec_speed(sample, codec)))
        for encoding, sample in numbers.items()
        for codec in CODECS
    ]
    return Rates(
        machine=machine_record(device, dtype),
        network=network_digest(outline),
        step_seconds=list(steps),
        test_seconds=list(tests),
        forward_seconds=list(forwards),
        checkpoint_seconds=list(checkpoints),
        image_seconds=bench.image(),
        decode_seconds={encoding: bench.decoding(sample, encoding) for encoding, sample in numbers.items()},
        cut_seconds=bench.cutting(numbers["uint8"]),
        read_bytes_per_second=disk.read_bytes_per_second,
        write_bytes_per_second=disk.write_bytes_per_second,
        fetch_seconds_per_byte=disk.fetch_seconds_per_byte,
        write_seconds_per_byte=disk.write_seconds_per_byte,
        codecs=codecs,
        copy_bytes_per_second=bench.copying(),
        stolen=bench.stolen(outline.shapes[0]),
        seconds=time.perf_counter() - began,
    )


class _Bench:
    """Times work on the device, which is waited for."""

    def __init__(self, outline: Outline, device: torch.device, dtype: torch.dtype) -> None:
        self.outline = outline
        self.config = outline.config
        self.device = device
        self.dtype = dtype

    def name(self, shape: StageShape) -> str:
        """What makes a stage take the time that it takes."""
        return repr([shape, *_settings(self.config, shape.j)]).replace(f"j={shape.j}", "")

    def stage(self, shape: StageShape, folder: Path) -> tuple[float, ...]:
        """Seconds of a sample in a training step, in block and head, and in block and quantiser; of a checkpoint."""
        learner = self._learner(shape)
        quantiser = Quantiser(self.config.for_stage(shape.j).store.encoding, shape.out_channels).to(self.device)
        progress = Progress.fresh(self.device)
        batch = min(self.config.for_stage(shape.j).train.batch_size, self.outline.samples["train"])

        def step(count: int) -> Callable[[], object]:
            x, y = self._input(shape, count), torch.zeros(count, dtype=torch.int64, device=self.device)
            return lambda: train_step(learner, [(x, y)], count, self.dtype, progress)

        def inference(network: Callable[[Tensor], Tensor]) -> Callable[[int], Callable[[], object]]:
            def of(count: int) -> Callable[[], object]:
                x = self._input(shape, count)
                return lambda: self._infer(network, x)

            return of

        learner.train(True)
        stepping = self._per_sample(step, batch)
        learner.train(False)
        testing = self._per_sample(inference(learner.logits), self.config.order.run)
        replaying = self._per_sample(inference(lambda x: quantiser(learner.block(x))), batch)
        return stepping, testing, replaying, self._keeping(learner, folder / TRIAL_FILE)

    def _keeping(self, learner: Learner, path: Path) -> float:
        """Seconds of keeping a stage that has taken a step, and a line of its metrics."""

        def keep() -> None:
            save_tensors(path, learner.tensors())
            replace_file(path, b"{}")

        try:
            return self._seconds(keep, at_least=0.0)
        finally:
            path.unlink(missing_ok=True)

    def stored_numbers(self, shape: StageShape) -> dict[str, NDArray[Any]]:
        """Some output of a block with fresh weights, in each encoding."""
        count = min(max(CHUNK_BYTES // int(np.prod(shape.output)), MIN_BATCH), self.config.order.run)
        x = self._infer(self._learner(shape).block.eval(), self._input(shape, count)).float().cpu().numpy()
        largest = x.max((0, 2, 3))
        return {encoding: encode(x, encoding, largest / LEVELS.get(encoding, 1) + TINY) for encoding in ENCODINGS}

    def image(self) -> float:
        """Seconds to make a number of x_0 of stored images."""
        config, side = self.config, self.outline.side
        images = torch.zeros(config.order.run, self.outline.channels, side, side, dtype=torch.uint8, device=self.device)
        windows = centre_windows(config.augment, side, len(images))

        def work() -> Tensor:
            x = (cut(images, windows).float() / 255 - 0.5) / 0.25
            return x.to(self.dtype, memory_format=torch.channels_last)

        return self._seconds(work) / work().numel()

    def decoding(self, numbers: NDArray[Any], encoding: str) -> float:
        """Seconds to make an activation of a stored number."""
        stored = torch.from_numpy(numbers).to(self.device)
        quantiser = Quantiser(encoding, numbers.shape[1]).to(self.device)
        width = self.outline.shapes[0].out_side

        def work() -> Tensor:
            return quantiser.decode(quantiser.unpack(stored, width), self.dtype)

        return self._seconds(work) / work().numel()

    def cutting(self, numbers: NDArray[np.uint8]) -> float:
        """Seconds to cut windows of stored numbers, by a number of a window."""
        stored = torch.from_numpy(numbers).to(self.device)
        windows = centre_of(numbers.shape[-1], numbers.shape[-1], len(numbers))
        return self._seconds(lambda: cut(stored, windows)) / numbers.size

    def copying(self) -> float | None:
        """Bytes a second from the host's pinned memory to the device; None where they are one."""
        if self.device.type == "cpu":
            return None
        host = torch.from_numpy(host_buffer(COPY_BYTES, self.device))
        return COPY_BYTES / self._seconds(lambda: host.to(self.device, non_blocking=True))

    def stolen(self, shape: StageShape) -> float:
        """Seconds that the device loses to a second of a thread's work, 0..1: on a CPU, where cores are shared."""
        if self.device.type != "cpu":
            return 0.0
        learner, x = self._learner(shape), self._input(shape, MIN_BATCH)
        learner.train(False)
        numbers = self.stored_numbers(shape)["uint8"]
        busy, used = threading.Event(), [0.0]

        def compress() -> None:
            while busy.is_set():
                packed_share(numbers, "zstd")
                used[0] = time.thread_time()

        alone = self._seconds(lambda: self._infer(learner.logits, x))
        thread = threading.Thread(target=compress)
        busy.set()
        thread.start()
        try:
            repeats = max(REPEATS, round(SECONDS / alone))
            began = time.perf_counter()
            for _ in range(repeats):
                self._infer(learner.logits, x)
            lost = time.perf_counter() - began - repeats * alone
        finally:
            busy.clear()
            thread.join()
        return float(np.clip(lost / used[0], 0, 1)) if used[0] else 0.0

    def _learner(self, shape: StageShape) -> Learner:
        """A stage's block, head and optimiser with fresh weights."""
        config = self.config.for_stage(shape.j)
        norm = config.network.batch_norm
        group = config.network.bn_group
        block = make_block(shape, batch_norm=norm, bn_group=group)
        head = make_head(
            shape,
            k=config.head.k,
            classes=self.outline.classes,
            batch_norm=norm,
            pool=config.head.pool,
            bn_group=group,
        )
        for module in (block, head):
            place(module, self.device)
        return Learner(block, head, make_optimiser([block, head], config.train), nn.Sequential(block, head))

    def _input(self, shape: StageShape, count: int) -> Tensor:
        """x_j of as many samples, of noise."""
        x = torch.randn(count, shape.in_channels, shape.in_side, shape.in_side, device=self.device)
        return x.to(self.dtype, memory_format=torch.channels_last)

    @torch.no_grad()
    def _infer(self, network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        with autocast(self.device, self.dtype):
            return network(x)

    def _per_sample(self, of: Callable[[int], Callable[[], object]], batch: int) -> float:
        """Seconds of a sample of work on a batch, a smaller one where it would take long."""
        first = self._seconds(of(MIN_BATCH), at_least=0.0)
        count = int(MIN_BATCH * BATCH_SECONDS / first) // MIN_BATCH * MIN_BATCH
        count = min(count, batch)
        if count <= MIN_BATCH:
            return first / MIN_BATCH
        return self._seconds(of(count)) / count

    def _seconds(self, work: Callable[[], object], *, at_least: float | None = None) -> float:
        """Seconds of a run, after one that warms up: the lower quartile, since other work only ever adds time."""
        work()
        times: list[float] = []
        least = SECONDS if at_least is None else at_least
        while sum(times) < least or (len(times) < REPEATS and sum(times) < LONG_SECONDS):
            self._wait()
            began = time.perf_counter()
            work()
            self._wait()
            times.append(max(time.perf_counter() - began, 1e-9))
        return float(np.quantile(times, 0.25))

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _settings(config: Config, j: int) -> Sequence[object]:
    """What of a stage's settings its time depends on, beside its shape."""
    own = config.for_stage(j)
    return [own.head.k, own.head.pool, own.train.batch_size, own.network.bn_group, own.store.encoding]
