"""What every x_i takes on disk: as it is, to the byte where nothing compresses, as a sample says, or at most."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
import numpy as np

from cache import MEASURED, CodecName, Footprint, footprint, packed_bytes, small_bytes_at_most
from cache.encodings import LEVELS
from pipeline.data_info import x_0_fingerprint
from pipeline.disk import MARGIN
from pipeline.networks import EncodingRecord, read_encoding
from pipeline.outline import Outline
from pipeline.runfolder import RunFolder
from pipeline.stage_folder import StageFolder
from pipeline.storedattributes import CONFIGURED, image_attributes, output_attributes

CODED: CodecName = "zstd"
"""The codec that is reckoned with where "auto" is still to choose: the slowest, the one that may add most to what does
not compress, and what it mostly chooses."""
KEY = "0" * 64
"""Stands for the key of a stage that is not known: all are as long."""
RATIO = -1.2345678901234567e-5
"""Stands for a ratio that is not measured yet: few numbers take more digits in JSON."""

Basis = Literal["stored", "raw", "sample", "bound"]
"""Where bytes are known from: the store that is there; its shape, since nothing compresses; a sample that was encoded,
which the finished store is within 2% of; or its shape, and compression leaves less."""
BASES: tuple[Basis, ...] = get_args(Basis)


class Sampled(msgspec.Struct, frozen=True, kw_only=True):
    """What compression leaves of an x_i, from some of its samples, as it is kept in plan.json."""

    store: str
    """Where x_i of training samples will be, in the run folder: this names the stage's key, the encoding and the
    views."""
    auto: CodecName | None
    """What the codec "auto" came to; None where it was not asked for."""
    shares: dict[CodecName, float]
    """Codec -> what it leaves of the chunks of x, over all splits and views."""


@dataclass(frozen=True)
class Known:
    """What of x_i is known, before or after it is written."""

    nbytes: int
    """Of all its files, over all splits and views."""
    basis: Basis
    codec: CodecName
    share: float
    """Of the chunks of x before compression, what is on disk of them."""
    is_to_be_had: bool = True
    """Whether it is there, or would be written if it was to be kept."""
    stays: bool = False
    """Whether no plan deletes it: it is of a stage that stands in for another."""

    @property
    def exists(self) -> bool:
        return self.basis == "stored"

    @property
    def reserved_bytes(self) -> int:
        """What a plan leaves room for: of a sample's figure a tenth more, as the write-back will ask for, but no more
        than before compression."""
        return round(min(MARGIN, max(1 / self.share, 1)) * self.nbytes) if self.basis == "sample" else self.nbytes


def place_of(run: RunFolder, index: int) -> str:
    """Where x_index of training samples belongs, in the run folder."""
    return str(run.store(index, "train").relative_to(run.path))


def would_be_written(run: RunFolder, index: int) -> bool:
    """Whether a run would write x_index, index >= 1, were it to be kept: something will still read it, and its stage
    does not stand in for another, which is left as it is."""
    readers = (j for j in range(index, len(run.stages)) if run.config.augment.last_anchor(j) == index)
    return not run.is_stand_in(index - 1) and any(run.stages[j].record is None for j in readers)


def known_store(
    outline: Outline,
    index: int,
    machine: Mapping[str, Any],
    *,
    run: RunFolder | None = None,
    samples: Sequence[Sampled] = (),
) -> Known:
    """Of x_index, which `machine` would write if it is not stored."""
    is_to_be_had = run is None or not index or would_be_written(run, index)
    if run is not None and run.is_stored(index):
        nbytes = sum(run.stored_bytes(index, split) for split in run.splits)
        share, codec = nbytes / outline.raw_bytes(index), run.open_store(index, "train").codec
        return Known(nbytes, "stored", codec, share, stays=index > 0 and run.is_stand_in(index - 1))
    own = (outline.config.for_stage(index - 1) if index else outline.config).store.codec
    sampled = next((one for one in samples if run is not None and one.store == place_of(run, index)), None)
    if own == "none":
        return Known(unwritten(outline, index, machine, own, run=run).nbytes, "raw", own, 1.0, is_to_be_had)
    if sampled is not None and index:
        codec = own if own != "auto" else sampled.auto or CODED
        share = sampled.shares[codec]
        rest = unwritten(outline, index, machine, codec, run=run).rest
        return Known(round(share * outline.raw_bytes(index)) + rest, "sample", codec, share, is_to_be_had)
    codec = CODED if own == "auto" else own
    nbytes = unwritten(outline, index, machine, codec, run=run).nbytes
    return Known(nbytes, "bound", "none" if own == "auto" and index == 0 else codec, 1.0, is_to_be_had)


def weakest(stores: Iterable[Known]) -> Basis:
    """What the bytes of several stores together are known from."""
    return max((one.basis for one in stores), key=BASES.index)


def unwritten(
    outline: Outline, index: int, machine: Mapping[str, Any], codec: CodecName, *, run: RunFolder | None = None
) -> Footprint:
    """The size of x_index, over all splits and views, if it is written with a codec, by one machine.

    At most. Without a codec it is too large by what nobody can know before: 0.3 bytes a chunk for the digits of its
    checksum, 80 for those of two ratios until its scale is taken, and until then, where there is a scale for each
    channel, what little is saved by compressing these. Labels and sample ids are those of the images, if none is left
    out.
    """
    sizes = (unwritten_split(outline, index, split, machine, codec, run=run) for split in outline.samples)
    return sum(sizes, Footprint(0, 0))


def unwritten_split(
    outline: Outline,
    index: int,
    split: str,
    machine: Mapping[str, Any],
    codec: CodecName,
    *,
    run: RunFolder | None = None,
) -> Footprint:
    """The same of one split."""
    return _of_split(outline, index, split, machine, codec, _encoding_record(index, run))


def _of_split(
    outline: Outline,
    index: int,
    split: str,
    machine: Mapping[str, Any],
    codec: CodecName,
    record: EncodingRecord | None,
) -> Footprint:
    config, samples, encoding = outline.config, outline.samples[split], outline.encoding(index)
    shape = outline.output_shape(index - 1) if index else (outline.channels, outline.side, outline.side)
    rows = outline.rows.get(split, (small_bytes_at_most(8 * samples),) * 2)
    small = (*rows, _scale_bytes(encoding, shape[0], record))
    if index == 0:
        fingerprint, attributes = x_0_fingerprint(config.data, split), image_attributes(split)
        return footprint(
            views=1,
            samples=samples,
            sample_shape=shape,
            encoding=encoding,
            codec=codec,
            run=config.order.run,
            small=small,
            fingerprint=fingerprint,
            attributes=attributes,
        )
    return _of_output(
        split=split,
        index=10 ** (len(str(index)) - 1),
        views=outline.views(index, split),
        samples=samples,
        shape=shape,
        encoding=encoding,
        codec=codec,
        reason=MEASURED if config.for_stage(index - 1).store.codec == "auto" else CONFIGURED,
        run=config.order.run,
        small=small,
        rendering=config.augment.rendering,
        ratios=(RATIO, RATIO) if record is None else (record.signal_to_noise_db, record.saturated_share),
        machine=msgspec.json.encode(machine),
    )


@lru_cache
def _of_output(
    *,
    split: str,
    index: int,
    views: int,
    samples: int,
    shape: tuple[int, int, int],
    encoding: str,
    codec: CodecName,
    reason: str,
    run: int,
    small: tuple[int, int, int],
    rendering: str,
    ratios: tuple[float | None, float],
    machine: bytes,
) -> Footprint:
    """Of x_index, or of any other x_i of as many digits: kept, since a thousand blocks have few shapes."""
    stage = StageFolder(Path(), index - 1, KEY, rendering, encoding)
    attributes = output_attributes(
        split=split,
        index=index,
        rendering=rendering,
        key=KEY,
        codec_reason=reason,
        signal_to_noise_db=ratios[0],
        saturated_share=ratios[1],
        machines=[msgspec.json.decode(machine)],
    )
    return footprint(
        views=views,
        samples=samples,
        sample_shape=shape,
        encoding=encoding,
        codec=codec,
        run=run,
        small=small,
        fingerprint=stage.output_fingerprint(split),
        attributes=attributes,
    )


def _encoding_record(index: int, run: RunFolder | None) -> EncodingRecord | None:
    """How x_index is encoded, where its scale is taken already."""
    if run is None or not index or not run.stages[index - 1].scale.exists() or run.stages[index - 1].record is None:
        return None
    return read_encoding(run, index - 1)


def _scale_bytes(encoding: str, channels: int, record: EncodingRecord | None) -> int:
    if record is not None:
        return packed_bytes(np.array(record.scale, np.float32))
    if encoding in LEVELS:
        return small_bytes_at_most(4 * channels)
    return packed_bytes(np.ones(channels, np.float32))
