"""What compression leaves of an x_{j+1} that is not written: some runs of its samples, encoded and packed."""

from collections.abc import Iterator

import numpy as np
import torch

from cache import CODECS, CodecName, chunk_samples, filled_up, packed_share, sample_bytes
from cache.codecs import CHECKSUM_BYTES
from pipeline.feed import Feed
from pipeline.footprint import Sampled, place_of, would_be_written
from pipeline.runfolder import RunFolder
from pipeline.writeback import Output

SAMPLES = 1024
"""Of the training samples, over all views."""
OTHER_SAMPLES = 256
"""Of another split."""


def updated_samples(run: RunFolder, device: torch.device, kept: list[Sampled]) -> list[Sampled]:
    """Those of a run folder's x_i that could be written now, as they are `kept` or taken anew; and what else was kept
    of stages that are there."""
    known = {one.store: one for one in kept if (run.path / one.store).parents[1].is_dir()}
    for j in range(len(run.stages)):
        if _is_open(run, j) and not _answers(known.get(place_of(run, j + 1)), run, j):
            known[place_of(run, j + 1)] = sample_output(run, j, device)
    return list(known.values())


def sample_output(run: RunFolder, j: int, device: torch.device) -> Sampled:
    """Encode runs of x_{j+1} from all over its splits and views, and pack them with every codec.

    Where the config leaves the codec to the speed of the machine, what it comes to now; a write-back measures again,
    and says it.
    """
    output = Output(run, j, Feed(run, j, device, streamed=True, sequential_only=True))
    packed = dict.fromkeys(CODECS, 0.0)
    for split in run.splits:
        views = run.config.augment.stored_views if split == "train" else 1
        count = -(-SAMPLES // views) if split == "train" else OTHER_SAMPLES
        for view in range(views):
            for codec, nbytes in _packed_bytes(output, split, view, count).items():
                packed[codec] += nbytes
    return Sampled(
        store=place_of(run, j + 1),
        auto=output.codec().codec if output.config.store.codec == "auto" else None,
        shares={codec: nbytes / run.outline.raw_bytes(j + 1) for codec, nbytes in packed.items()},
    )


def _is_open(run: RunFolder, j: int) -> bool:
    """Whether x_{j+1} could be written now, and nobody knows what it will take."""
    stage = run.stages[j]
    if stage.record is None or not stage.scale.exists() or run.is_stored(j + 1):
        return False
    return run.config.for_stage(j).store.codec != "none" and would_be_written(run, j + 1)


def _answers(sampled: Sampled | None, run: RunFolder, j: int) -> bool:
    return sampled is not None and (run.config.for_stage(j).store.codec != "auto" or sampled.auto is not None)


def _packed_bytes(output: Output, split: str, view: int, count: int) -> dict[CodecName, float]:
    """Bytes of the chunks of a view, by codec, reckoned from about `count` of its samples."""
    samples, run = output.run.info.samples[split], output.config.order.run
    sample = sample_bytes(output.encoding, output.run.output_shape(output.j))
    chunk = chunk_samples(run, sample)
    packed, seen = dict.fromkeys(CODECS, 0.0), 0
    for first, stop in _spread_runs(samples, run, count):
        for numbers in output.runs(split, view=view, start=first, stop=stop):
            seen += len(numbers)
            for start in range(0, len(numbers), chunk):
                rows = filled_up(numbers[start : start + chunk], chunk)
                for codec in CODECS:
                    packed[codec] += packed_share(rows, codec) * rows.nbytes + CHECKSUM_BYTES
    packed["none"] = -(-samples // chunk) * (chunk * sample + CHECKSUM_BYTES)
    return {codec: nbytes if codec == "none" else nbytes * samples / seen for codec, nbytes in packed.items()}


def _spread_runs(samples: int, run: int, count: int) -> Iterator[tuple[int, int]]:
    """First sample and the one after the last of whole runs, evenly spaced, of `count` samples or a few more; of all
    runs where there are no more."""
    whole, taken = samples // run, -(-count // run)
    if taken >= whole:
        yield 0, samples
        return
    for number in np.linspace(0, whole - 1, taken).astype(int).tolist():
        yield number * run, (number + 1) * run
