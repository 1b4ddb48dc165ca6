"""From config, run folder and rates to what a plan is made from: work, machine, and the choices between stores."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from cache import chunk_samples, ring_samples
from pipeline import costs
from pipeline.anchors import Choices
from pipeline.budget import RUNS_AHEAD
from pipeline.calibration import SAMPLES
from pipeline.costs import Machine, Parts, Work
from pipeline.footprint import Known, Sampled, known_store
from pipeline.metrics import read_metrics
from pipeline.needed import output_is_due
from pipeline.ondevice import OnDevice
from pipeline.outline import Outline
from pipeline.rates import Rates
from pipeline.runfolder import RunFolder
from pipeline.shapes import canvas_side, stage_epochs
from pipeline.transfer import batches_held

PASSES = {"float32": 0, "float16": 0, "uint8": 1, "uint4": 2}
"""Over SAMPLES samples, that taking an encoding's scale takes; what it costs is then measured from the first sample to
the last of as many again."""


@dataclass(frozen=True)
class Budgets:
    """What a run may take, in bytes."""

    disk: int
    """Of the run folder."""
    host: int
    """Of host memory for reading."""
    beside: int = 0
    """What of `disk` is taken, or will be, by other than the stores of a plan."""
    block: int = 0
    """What a file of a store may take beyond its bytes, where it is the file system that has no more room."""
    there: Mapping[int, int] = field(default_factory=dict)
    """Index i >= 1 -> bytes there of x_i that a plan may delete."""

    @property
    def stores(self) -> int:
        """Of stores on disk at a time, x_0 included."""
        return self.disk - self.beside


@dataclass(frozen=True)
class Workload:
    """All that a run may do, with its prices."""

    choices: Choices
    known: list[Known]
    """Of x_0..x_{J-1}."""
    epochs: NDArray[np.int64]
    """Of each stage, still to come."""
    training: Parts
    validation: Parts
    ending: Parts
    writing: Parts
    last: Known | None
    """Of x_J, where that is asked for, or there: no stage reads it, and no route is chosen by it."""
    writing_last: Parts | None
    """Of it, (J, 1)."""


def workload(
    outline: Outline,
    rates: Rates,
    budgets: Budgets,
    *,
    run: RunFolder | None = None,
    samples: Sequence[Sampled] = (),
    without: Collection[int] = (),
    device: torch.device,
    ways: Sequence[OnDevice | None] = (),
) -> Workload:
    """Of a run as it is, or of one that begins where there is none.

    `samples` say what compression leaves of some x_i; those of `without` are not to be stored. `ways` are those in
    which the first stages go through the device, where that is known; the others' batches go as a whole.
    """
    known = [known_store(outline, i, rates.machine, run=run, samples=samples) for i in range(len(outline.shapes))]
    work, machine = _work(outline, rates, budgets, known, run, device, ways), _machine(outline, rates)
    parts = [of(work, machine) for of in (costs.training, costs.validation, costs.ending, costs.writing)]
    last_anchor, ring = outline.config.augment.last_anchor, _ring_samples(outline, batches_held(device))
    choices = Choices(
        train_seconds=sum((part.total for part in parts[1:3]), parts[0].total),
        write_seconds=parts[3].total,
        store_bytes=np.array([reserved_bytes(outline, budgets, i, one) for i, one in enumerate(known)]),
        may_store=np.array(
            [
                last_anchor(i) >= i
                and ring * outline.sample_bytes(i) <= budgets.host
                and one.is_to_be_had
                and i not in without
                for i, one in enumerate(known)
            ]
        ),
    )
    last = _last(outline, rates, run)
    writing_last = None if last is None else _writing_last(outline, rates, work, machine, last)
    training, validation, ending, writing = parts
    return Workload(choices, known, work.epochs, training, validation, ending, writing, last, writing_last)


def _last(outline: Outline, rates: Rates, run: RunFolder | None) -> Known | None:
    """Of x_J, where it is to be written, or was."""
    stages = len(outline.shapes)
    is_there = run is not None and run.is_stored(stages)
    if not outline.config.keeps(stages) or not (run is None or is_there or output_is_due(run, stages - 1)):
        return None
    return known_store(outline, stages, rates.machine, run=run)


def _writing_last(outline: Outline, rates: Rates, work: Work, machine: Machine, last: Known) -> Parts:
    index = len(outline.shapes)
    stored, rate = outline.sample_bytes(index), rates.codec(outline.encoding(index), last.codec)
    packed = last.share * stored * rates.write_seconds_per_byte + stored * rate.pack_seconds
    return costs.writing_last(work, machine, last.share * stored, packed)


def reserved_bytes(outline: Outline, budgets: Budgets, index: int, known: Known) -> int:
    """What a plan leaves room for; nothing for what stays, which is beside its stores."""
    if known.stays:
        return 0
    return known.reserved_bytes + (0 if known.exists else budgets.block * outline.files(index))


def _work(
    outline: Outline,
    rates: Rates,
    budgets: Budgets,
    known: list[Known],
    run: RunFolder | None,
    device: torch.device,
    ways: Sequence[OnDevice | None],
) -> Work:
    config, samples, stages = outline.config, outline.samples, len(outline.shapes)
    ring = _ring_samples(outline, batches_held(device))
    area = (canvas_side(config, outline.side) / outline.shapes[0].in_side) ** 2
    is_canvas = config.augment.policy == "canvas"
    forward = np.array(rates.forward_seconds)
    stored = np.array([outline.sample_bytes(i) for i in range(stages)], float)
    on_disk = stored * [one.share for one in known]
    coding = [rates.codec(outline.encoding(i), one.codec) for i, one in enumerate(known)]
    is_trained = [run is not None and run.stages[j].record is not None for j in range(stages)]
    return Work(
        train_samples=samples["train"],
        validation_samples=samples.get("validation", 0),
        test_samples=samples["test"],
        views=config.augment.stored_views,
        run=config.order.run,
        window=config.order.window,
        window_in_order=RUNS_AHEAD * config.order.run,
        epochs=np.array([0 if is_trained[j] else _epochs_left(outline, j, run) for j in range(stages)]),
        looks=np.array([0 if is_trained[j] else _looks_left(outline, j, run) for j in range(stages)]),
        is_trained=np.array(is_trained),
        step_seconds=np.array(
            [_step_seconds(outline, rates, j, ways[j] if j < len(ways) else None) for j in range(stages)]
        ),
        test_seconds=np.array(rates.test_seconds),
        checkpoint_seconds=np.array(rates.checkpoint_seconds),
        begin_seconds=np.array(rates.begin_seconds),
        scale_seconds=np.array(rates.scale_seconds),
        field_seconds=forward * (area if is_canvas else 1.0),
        window_seconds=forward,
        cut_at=np.array([config.augment.last_anchor(j) if is_canvas else j for j in range(stages)]),
        render_seconds=np.array([_render_seconds(outline, rates, i) for i in range(stages)]),
        disk_bytes=on_disk,
        copied_bytes=stored,
        fetch_seconds=on_disk * rates.fetch_seconds_per_byte + stored * [rate.unpack_seconds for rate in coding],
        pack_seconds=on_disk * rates.write_seconds_per_byte + stored * [rate.pack_seconds for rate in coding],
        kept_share=np.array([_kept_share(outline, i, budgets, ring) for i in range(stages)]),
        calibration_samples=np.array([_calibration_samples(outline, j) for j in range(stages)]),
        scale_samples=np.array([_scale_samples(outline, j) for j in range(stages)]),
        exists=np.array([one.exists for one in known]),
    )


def _machine(outline: Outline, rates: Rates) -> Machine:
    return Machine(
        read_bytes_per_second=rates.read_bytes_per_second,
        write_bytes_per_second=rates.write_bytes_per_second,
        threads=outline.config.machine.threads,
        copy_bytes_per_second=rates.copy_bytes_per_second or np.inf,
        stolen=rates.stolen,
        stage_seconds=rates.stage_seconds,
        block_seconds=rates.block_seconds,
        epoch_seconds=rates.epoch_seconds,
        store_seconds=rates.store_seconds,
    )


def _looks_left(outline: Outline, j: int, run: RunFolder | None) -> int:
    """Passes for the best point: one before the first epoch, and one after each."""
    train, epochs = outline.config.for_stage(j).train, _epochs_left(outline, j, run)
    return epochs + (epochs == train.epochs) if train.keep == "best" else 0


def _step_seconds(outline: Outline, rates: Rates, j: int, way: OnDevice | None) -> float:
    """Of a sample in a training step: a batch in more parts takes a little longer, and with recomputation one more
    pass forward."""
    if way is None:
        return rates.step_seconds[j]
    more_parts = 1 / way.micro_batch - 1 / outline.config.for_stage(j).train.batch_size
    return rates.step_seconds[j] + more_parts * rates.part_seconds[j] + way.recompute * rates.test_seconds[j]


def _epochs_left(outline: Outline, j: int, run: RunFolder | None) -> int:
    shape = outline.shapes[j]
    ranking = int(shape.cut_from is not None)  # takes an epoch too
    return stage_epochs(outline.config, shape) + ranking - (len(read_metrics(run.stages[j])) if run else 0)


def _render_seconds(outline: Outline, rates: Rates, index: int) -> float:
    """Of a sample of x_index: cut and normalised, or decoded; of canvases a window is cut first."""
    if index == 0:
        return rates.image_seconds * outline.numbers(0)
    decoding = rates.decode_seconds[outline.encoding(index)]
    if outline.config.augment.policy != "canvas":
        return decoding * outline.numbers(index)
    shape = outline.shapes[index - 1]
    return (rates.cut_seconds + decoding) * shape.out_channels * shape.out_side**2


def _scale_samples(outline: Outline, j: int) -> int:
    if j + 1 == len(outline.shapes) and not outline.config.keeps(j + 1):
        return 0
    return min(SAMPLES, outline.samples["train"])


def _calibration_samples(outline: Outline, j: int) -> int:
    if not _scale_samples(outline, j):
        return 0
    samples = outline.samples["train"]
    others = SAMPLES if samples >= 2 * SAMPLES else 0
    passes = PASSES[outline.config.for_stage(j).store.encoding]
    return passes * min(SAMPLES, samples) + min(others + SAMPLES, samples)


def _kept_share(outline: Outline, index: int, budgets: Budgets, ring: int) -> float:
    """Of x_index, what stays in the host's memory once it was read.

    What the device has left over for it is known when a stage begins, and not reckoned with.
    """
    sample = outline.sample_bytes(index)
    reading = 2 * chunk_samples(outline.config.order.run, sample) * sample * outline.config.machine.threads
    room = budgets.host - ring * sample - reading
    return float(np.clip(room / outline.raw_bytes(index), 0, 1))


def _ring_samples(outline: Outline, hold: int) -> int:
    """Samples of the ring that a stage is read through, in whichever stage they are the most."""
    order, samples = outline.config.order, outline.samples["train"]
    batches = {outline.config.for_stage(j).train.batch_size for j in range(len(outline.shapes))}
    window = min(order.window, samples)
    training = max(ring_samples(window, min(batch, samples), hold=hold) for batch in batches)
    return max(training, ring_samples(RUNS_AHEAD * order.run, order.run, hold=hold))
