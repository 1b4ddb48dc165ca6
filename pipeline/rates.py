"""What this machine does with a network's stages, measured in seconds: what a plan is made from.

Of every distinct shape on as many samples as take a fraction of a second (`pipeline/bench.py`); of the disk by a store
that is written, read and deleted; of what a stage takes beside its samples by a tiny one that is trained
(`pipeline/trial.py`). Kept in the run folder, and taken again where the machine, the precision or the shapes are
others.
"""

import hashlib
import time
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from cache import CODECS, codec_speed, disk_speed
from pipeline.bench import Bench, StageSeconds, settings_timed
from pipeline.config import budget_bytes
from pipeline.device import autocast_type, machine_record
from pipeline.disk import room
from pipeline.errors import CorruptDataError
from pipeline.outline import Outline
from pipeline.progress import Reporter, duration, size
from pipeline.sealed import read_sealed, write_sealed
from pipeline.trial import fixed_seconds

RATES = "rates.json"
FORMAT = 3
"""Of the file; one of another is measured again."""
KEPT = 8
"""Machines and networks whose rates are kept: coming back to one of the last few measures nothing."""
SHARE_OF_ROOM = 0.25
"""That measuring the disk may take of what is left of it and of its budget."""
ROUNDS = 2
"""Times that all shapes are measured, one after the other: what else a machine does comes and goes."""


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
    """Of a machine and a network. Seconds are of one sample, where nothing else is said."""

    machine: dict[str, Any]
    """The machine and its versions."""
    network: str
    """Hash of the shapes and settings that were measured."""
    step_seconds: list[float]
    """Of each stage's training step on a whole batch."""
    part_seconds: list[float]
    """Not of a sample: of each part that a batch of a stage is taken in, beside its samples."""
    test_seconds: list[float]
    """Of each stage's block and head in evaluation."""
    forward_seconds: list[float]
    """Of each block and its quantiser in evaluation."""
    checkpoint_seconds: list[float]
    """Not of a sample: keeping each stage's weights and momentum on disk, beyond what `epoch_seconds` has of it."""
    begin_seconds: list[float]
    """Not of a sample: making each stage's modules and drawing their weights."""
    scale_seconds: list[float]
    """Taking the scale of each stage's output and what its encoding costs, once that is computed."""
    stage_seconds: float
    """Of a stage, beside its samples and weights: files opened, synced and renamed."""
    block_seconds: float
    """Of reading a block of a prefix, the same."""
    epoch_seconds: float
    """Of an epoch, the same."""
    store_seconds: float
    """Of a store of all splits that is written, the same."""
    image_seconds: float
    """To cut a window of an image, resized where training windows are, and normalise it, by a number of it."""
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


class KeptRates(msgspec.Struct, frozen=True, kw_only=True):
    """rates.json."""

    format: int = FORMAT
    """Of this file."""
    rates: list[Rates]
    """The last that were measured, the newest first."""


def rates_of(folder: Path, outline: Outline, device: torch.device, report: Reporter, *, anew: bool = False) -> Rates:
    """The rates kept in a run folder, measured first where they are of something else, or `anew`."""
    dtype = autocast_type(device, outline.config.network.precision)
    machine, network = machine_record(device, dtype), network_digest(outline)
    path = folder / RATES
    kept = _kept(path, anew=anew)
    known = next((one for one in kept if (one.machine, one.network) == (machine, network)), None)
    if known is not None and not anew:
        return known
    report.say(f"measuring {device}, the threads and the disk of {folder}")
    rates = measure(folder, outline, device, report)
    report.say(f"measured in {duration(rates.seconds)}, kept in {path}")
    others = [one for one in kept if one is not known]
    write_sealed(path, KeptRates(rates=[rates, *others][:KEPT]))
    return rates


class _Headed(msgspec.Struct, frozen=True):
    """What of a file says which format it has."""

    format: int = 1


def _kept(path: Path, *, anew: bool) -> list[Rates]:
    """The rates of a file, if they are of this format. Raises CorruptDataError, but not where it is written `anew`."""
    remedy = "delete it; it is measured again"
    try:
        headed = read_sealed(path, _Headed, remedy=remedy)
        found = read_sealed(path, KeptRates, remedy=remedy) if headed and headed.format == FORMAT else None
    except CorruptDataError:
        if not anew:
            raise
        return []
    return found.rates if found else []


def network_digest(outline: Outline) -> str:
    """Hash of what is measured of a network."""
    config = outline.config
    stages = [[asdict(shape), *settings_timed(config, shape.j)] for shape in outline.shapes]
    own = [stages, config.network.batch_norm, outline.classes, config.order.run, config.machine.threads]
    resized = [outline.side] if config.augment.scale else []
    return hashlib.sha256(msgspec.json.encode([*own, *resized])).hexdigest()


def measure(folder: Path, outline: Outline, device: torch.device, report: Reporter) -> Rates:
    """Measure everything. The folder's disk is written to, a share of the room that there is at most, and left as it
    was."""
    began = time.perf_counter()
    dtype = autocast_type(device, outline.config.network.precision)
    bench = Bench(outline, device, dtype)
    measured = _stages(bench, folder)
    numbers = bench.stored_numbers(outline.shapes[0])
    left, machine = room(folder, budget_bytes(outline.config.budget.disk)), outline.config.machine
    at_most = int(SHARE_OF_ROOM * left)
    disk = disk_speed(folder, numbers["uint8"], run=outline.config.order.run, threads=machine.threads, at_most=at_most)
    if not disk.is_sure:
        report.say(
            f"the disk's speed is measured on {size(disk.nbytes)} alone, since {size(left)} are left of it or of "
            f"budget.disk: it may be off"
        )
    codecs = [
        CodecRate(encoding=encoding, codec=codec, **asdict(codec_speed(sample, codec)))
        for encoding, sample in numbers.items()
        for codec in CODECS
    ]
    fixed = fixed_seconds(folder, outline.config, device)
    return Rates(
        machine=machine_record(device, dtype),
        network=network_digest(outline),
        step_seconds=[stage.step for stage in measured],
        part_seconds=[stage.part for stage in measured],
        test_seconds=[stage.test for stage in measured],
        forward_seconds=[stage.forward for stage in measured],
        checkpoint_seconds=[stage.checkpoint for stage in measured],
        begin_seconds=[stage.begin for stage in measured],
        scale_seconds=[stage.scale for stage in measured],
        stage_seconds=fixed.stage,
        block_seconds=fixed.block,
        epoch_seconds=fixed.epoch,
        store_seconds=fixed.store,
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


def _stages(bench: Bench, folder: Path) -> list[StageSeconds]:
    """Of every stage, on average over the rounds; equal ones are measured once in each."""
    distinct = {bench.name(shape): shape for shape in reversed(bench.outline.shapes)}
    rounds = [{name: bench.stage(shape, folder) for name, shape in reversed(distinct.items())} for _ in range(ROUNDS)]
    mean = {name: StageSeconds(*np.mean([astuple(one[name]) for one in rounds], 0).tolist()) for name in distinct}
    return [mean[bench.name(shape)] for shape in bench.outline.shapes]
