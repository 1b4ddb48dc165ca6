"""Times the work of a network's stages on the device, by the modules and the step that train."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cache import encode, packed_share, sync
from cache.encodings import LEVELS
from cache.files import write_synced
from cascade import Quantiser, StageShape, calibrate, fidelity, training_forward
from cascade.quantiser import ENCODINGS
from pipeline.augmentation import centre_of, cut, fresh_draws
from pipeline.checkpoint import Progress
from pipeline.config import MIN_BATCH, Config
from pipeline.device import autocast, place
from pipeline.initial import draw_weights
from pipeline.learner import Learner, make_optimiser
from pipeline.microbatch import micro_batches
from pipeline.networks import configured_block, configured_head
from pipeline.outline import Outline
from pipeline.step import train_step
from pipeline.transfer import host_buffer, to_device
from pipeline.weights import pack_tensors

TRIAL_FILE = ".disk-speed"
SECONDS = 0.1
"""That a measurement repeats its work for, at least."""
REPEATS = 2
LONG_SECONDS = 1.0
"""After which it is enough, however often."""
BATCH_SECONDS = 0.25
"""What a batch that is measured may take: on a slow device a smaller one than it trains on."""
COPY_BYTES = 64 * 2**20
TINY = 1e-6
"""Added to scales, so that none is zero."""
CHUNK_BYTES = 4 * 2**20
"""Of stored numbers that codecs are tried on."""


@dataclass(frozen=True)
class StageSeconds:
    """Of a stage; of one sample, where nothing else is said."""

    step: float
    """In a training step on a whole batch."""
    part: float
    """Not of a sample: what each part takes beyond its samples, where a batch is taken in parts."""
    test: float
    """In block and head in evaluation."""
    forward: float
    """In block and quantiser in evaluation."""
    scale: float
    """Taking the scale of the block's output, and what its encoding costs."""
    checkpoint: float
    """Not of a sample: keeping weights and momentum, beyond what keeping a few bytes takes."""
    begin: float
    """Not of a sample: making the modules and drawing their weights."""


@dataclass(frozen=True)
class Work:
    """What is timed, and what is not, before each time."""

    run: Callable[[], object]
    prepare: Callable[[], object] = lambda: None


class Bench:
    """Times work on the device, which is waited for."""

    def __init__(self, outline: Outline, device: torch.device, dtype: torch.dtype) -> None:
        self.outline = outline
        self.config = outline.config
        self.device = device
        self.dtype = dtype

    def name(self, shape: StageShape) -> str:
        """What makes a stage take the time that it takes."""
        return repr([shape, *settings_timed(self.config, shape.j)]).replace(f"j={shape.j}", "")

    def stage(self, shape: StageShape, folder: Path) -> StageSeconds:
        """All of a stage."""
        config = self.config.for_stage(shape.j)
        began = time.perf_counter()
        learner = self._learner(shape.before_cut)
        self._wait()
        begin = time.perf_counter() - began
        block = self._learner(shape).block.eval()  # as it goes on, after a compression
        quantiser = Quantiser(config.store.encoding, shape.out_channels).to(self.device)
        batch = min(config.train.batch_size, self.outline.samples["train"])

        step = self.step(learner, shape, batch)
        part = self._part(learner, shape, batch, step)
        return StageSeconds(
            step=step,
            part=part,
            test=self.test(learner, shape),
            forward=self._per_sample(self._inference(lambda x: quantiser(block(x)), shape), batch),
            scale=self._scaling(block, quantiser, shape),
            checkpoint=self._keeping(learner, folder / TRIAL_FILE),
            begin=begin,
        )

    def step(self, learner: Learner, shape: StageShape, batch: int) -> float:
        """Seconds of a sample in training steps on batches of x_j, of `shape` its input, as large as that at most."""
        learner.train(True)
        return self._per_sample(lambda count: self._step(learner, shape, count), batch)

    def test(self, learner: Learner, shape: StageShape) -> float:
        """Seconds of a sample in evaluation."""

        def tested(x: Tensor) -> Tensor:
            (x.amax() - x.amin()).isfinite()  # as `Feed.sequential` looks at it
            return learner.logits(x)

        learner.train(False)
        return self._per_sample(self._inference(tested, shape), self.config.order.run)

    def _step(self, learner: Learner, shape: StageShape, count: int, *, parts: int = 1) -> Work:
        """Training steps, each on a batch in parts that are made for it and freed by it, as a run's are."""
        x = self._input(shape, count // parts)
        y = torch.zeros(len(x), dtype=torch.int64, device=self.device)
        progress, batches = Progress.fresh(self.device), list[tuple[Tensor, Tensor]]()

        def make() -> None:
            batches.extend((x.clone(), y) for _ in range(parts))

        def work() -> None:
            train_step(learner, (batches.pop() for _ in range(parts)), count, self.dtype, progress)

        return Work(work, make)

    def _part(self, learner: Learner, shape: StageShape, batch: int, step: float) -> float:
        """Seconds of a part beside its samples: of two of the smallest, what they take more than both in one.

        Where two take longer than LONG_SECONDS, at `step` seconds a sample, it is nothing beside them and not measured.
        """
        size = micro_batches(self.config, shape.j)[-1]
        if 2 * size > batch or 2 * size * step > LONG_SECONDS:
            return 0.0
        whole, halves = (self._seconds(self._step(learner, shape, 2 * size, parts=parts)) for parts in (1, 2))
        return max(halves - whole, 0.0)

    def _inference(self, network: Callable[[Tensor], Tensor], shape: StageShape) -> Callable[[int], Work]:
        def of(count: int) -> Work:
            x = self._input(shape, count)
            return Work(lambda: self._infer(network, x))

        return of

    def _scaling(self, block: nn.Module, quantiser: Quantiser, shape: StageShape) -> float:
        """Seconds of a sample of the block's output, when its scale is taken and its encoding's cost measured."""
        x = self._infer(block, self._input(shape, MIN_BATCH))

        def work() -> None:
            calibrate(quantiser, lambda: [x])
            fidelity(quantiser, [x])

        return self._seconds(Work(work)) / MIN_BATCH

    def _keeping(self, learner: Learner, path: Path) -> float:
        """Seconds of keeping a stage that has taken a step, beyond those of a file of a few bytes."""
        tensors = learner.tensors()
        data, _ = pack_tensors(tensors, {})

        def written(data: bytes) -> float:
            return self._seconds(Work(lambda: write_synced(path, data)), at_least=0.0)

        try:
            beyond = max(written(data) - written(data[:64]), 0.0)
        finally:
            path.unlink(missing_ok=True)
            sync(path.parent)
        return beyond + self._seconds(Work(lambda: pack_tensors(tensors, {})), at_least=0.0)

    def stored_numbers(self, shape: StageShape) -> dict[str, NDArray[Any]]:
        """Some output of a block with fresh weights, in each encoding."""
        count = min(max(CHUNK_BYTES // int(np.prod(shape.output)), MIN_BATCH), self.config.order.run)
        x = self._infer(self._learner(shape).block.eval(), self._input(shape, count)).float().cpu().numpy()
        x, largest = np.ascontiguousarray(x), x.max((0, 2, 3))  # as a store has them, channel by channel
        return {encoding: encode(x, encoding, largest / LEVELS.get(encoding, 1) + TINY) for encoding in ENCODINGS}

    def image(self) -> float:
        """Seconds to make a number of x_0 of stored images, with fresh draws for each batch."""
        config, side = self.config, self.outline.side
        count = min(config.for_stage(0).train.batch_size, self.outline.samples["train"])
        images = torch.zeros(count, self.outline.channels, side, side, dtype=torch.uint8, device=self.device)
        ids = np.arange(count)

        def work() -> Tensor:
            windows = fresh_draws(config.augment, side, ids, seed=config.seed, stage=0, epoch=0)
            to_device(ids, self.device)  # as the labels go
            x = (cut(images, windows).float() / 255 - 0.5) / 0.25
            return x.to(self.dtype, memory_format=torch.channels_last)

        return self._seconds(Work(work)) / work().numel()

    def decoding(self, numbers: NDArray[Any], encoding: str) -> float:
        """Seconds to make an activation of a stored number."""
        stored = torch.from_numpy(numbers).to(self.device)
        quantiser = Quantiser(encoding, numbers.shape[1]).to(self.device)
        width = self.outline.shapes[0].out_side

        def work() -> Tensor:
            return quantiser.decode(quantiser.unpack(stored, width), self.dtype)

        return self._seconds(Work(work)) / work().numel()

    def cutting(self, numbers: NDArray[np.uint8]) -> float:
        """Seconds to cut windows of stored numbers, by a number of a window."""
        stored = torch.from_numpy(numbers).to(self.device)
        windows = centre_of(numbers.shape[-1], numbers.shape[-1], len(numbers))
        return self._seconds(Work(lambda: cut(stored, windows))) / numbers.size

    def copying(self) -> float | None:
        """Bytes a second from the host's pinned memory to the device; None where they are one."""
        if self.device.type == "cpu":
            return None
        host = torch.from_numpy(host_buffer(COPY_BYTES, self.device))
        return COPY_BYTES / self._seconds(Work(lambda: host.to(self.device, non_blocking=True)))

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

        alone = self._seconds(Work(lambda: self._infer(learner.logits, x)))
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
        """A stage's block, head and optimiser with initial weights."""
        config = self.config.for_stage(shape.j)
        block = configured_block(config, shape)
        head = configured_head(config, config.head, shape, classes=self.outline.classes)
        draw_weights(config.seed, shape.j, block, head)
        for module in (block, head):
            place(module, self.device)
        train = msgspec.structs.replace(config.train, lr=1e-3)  # on noise a larger one might diverge
        return Learner(
            block,
            head,
            make_optimiser([block, head], train),
            training_forward([block], head),
            similarity=config.head.similarity,
            group=config.network.bn_group,
        )

    def _input(self, shape: StageShape, count: int) -> Tensor:
        """x_j of as many samples, of noise."""
        x = torch.randn(count, shape.in_channels, shape.in_side, shape.in_side, device=self.device)
        return x.to(self.dtype, memory_format=torch.channels_last)

    @torch.no_grad()
    def _infer(self, network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        with autocast(self.device, self.dtype):
            return network(x)

    def _per_sample(self, of: Callable[[int], Work], batch: int) -> float:
        """Seconds of a sample of work on a batch, a smaller one where it would take long."""
        first = self._seconds(of(MIN_BATCH), at_least=0.0)
        count = int(MIN_BATCH * BATCH_SECONDS / first) // MIN_BATCH * MIN_BATCH
        count = min(count, batch)
        if count <= MIN_BATCH:
            return first / MIN_BATCH
        return self._seconds(of(count)) / count

    def _seconds(self, work: Work, *, at_least: float | None = None) -> float:
        """Seconds of a run, after one that warms up: the mean, since other work slows a training too."""
        least = SECONDS if at_least is None else at_least
        work.prepare()
        work.run()
        times: list[float] = []
        while sum(times) < least or (len(times) < REPEATS and sum(times) < LONG_SECONDS):
            work.prepare()
            self._wait()
            began = time.perf_counter()
            work.run()
            self._wait()
            times.append(max(time.perf_counter() - began, 1e-9))
        return float(np.mean(times))

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def settings_timed(config: Config, j: int) -> Sequence[object]:
    """What of a stage's settings its time depends on, beside its shape."""
    own = config.for_stage(j)
    timed = [own.head.k, own.head.pool, own.train.batch_size, own.network.bn_group, own.store.encoding]
    return [*timed, "similarity"] if own.head.similarity else timed
