"""x_{j+1}, computed by the trained block and stored for the next stage."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cache import (
    CodecChoice,
    StoreWriter,
    choose_codec,
    chunk_samples,
    drop_journal,
    read_journal,
    sample_bytes,
    sweep_removed,
)
from pipeline.device import machine_record, place
from pipeline.errors import CorruptDataError
from pipeline.feed import Feed
from pipeline.metrics import read_metrics
from pipeline.networks import load_block, load_quantiser, read_encoding
from pipeline.progress import Reporter, size
from pipeline.room import check_output_room
from pipeline.runfolder import RunFolder, is_committed
from pipeline.storedattributes import CONFIGURED, output_attributes
from pipeline.transfer import download


def sweep_output(run: RunFolder, j: int) -> None:
    """Remove what a killed process left of x_{j+1}: the journal of what it had committed, what it was deleting."""
    sweep_removed(run.store(j + 1, "train").parent)
    for split in run.splits:
        if is_committed(run.store(j + 1, split)):
            drop_journal(run.store(j + 1, split))


def write_output(run: RunFolder, j: int, feed: Feed, report: Reporter) -> None:
    """Write x_{j+1} of every split that is not committed yet: all views of train, one of the others.

    The block runs in evaluation mode over whole runs of samples in stored order, and its output is encoded on the
    device. Copies, compression and writing go on beside the next runs' forward pass. A write that was interrupted goes
    on at the first run whose chunks are not all journaled, and ends in the same bytes.
    """
    output = Output(run, j, feed)
    codec = output.codec(report)
    check_output_room(run, j, lambda: codec.codec, lambda: next(output.runs("train", stop=run.config.order.run)))
    for split in run.splits:
        if not is_committed(run.store(j + 1, split)):
            output.write(split, run.store(j + 1, split), codec, report)
    written = sum(run.stored_bytes(j + 1, split) for split in run.splits)
    report.say(f"stage {j}  x_{j + 1} written: {size(written)} ({output.encoding}, {codec.codec})")


class Output:
    """x_{j+1}, encoded, as block j computes it from what a feed gives, and where it goes."""

    def __init__(self, run: RunFolder, j: int, feed: Feed) -> None:
        self.run = run
        self.j = j
        self.feed = feed
        self.config = run.config.for_stage(j)
        block, quantiser = load_block(run, j), load_quantiser(run, j)
        self.encoding = quantiser.encoding
        self.scale: NDArray[np.float32] = quantiser.scale.numpy().copy()
        place(block, feed.device)
        quantiser.to(feed.device)
        self._encode: Callable[[Tensor], Tensor] = lambda x: quantiser.encode(block(x))

    def runs(self, split: str, *, view: int = 0, start: int = 0, stop: int | None = None) -> Iterator[NDArray[Any]]:
        """Stored numbers of samples start..stop-1, a run of samples at a time."""
        encoded = self.feed.sequential(split, self._encode, view=view, start=start, limit=stop)
        return download(x.contiguous() for x, _ in encoded)

    def codec(self, report: Reporter | None = None) -> CodecChoice:
        """The config's; for "auto" the one in use, else what suits the first chunk and the speed of the training, and
        why is said to `report`."""
        if self.config.store.codec != "auto":
            return CodecChoice(self.config.store.codec, CONFIGURED)
        if in_use := self._codec_in_use():
            return in_use
        samples = chunk_samples(
            self.config.order.run, sample_bytes(self.config.store.encoding, self.run.output_shape(self.j))
        )
        chunk = next(self.runs("train", stop=samples))[:samples]
        speed = self._training_speed(report)
        choice = choose_codec(
            chunk,
            self.run.path,
            threads=self.config.machine.threads,
            training_seconds=len(chunk) / speed if speed else None,
        )
        if report is not None:
            report.say(f"stage {self.j}  codec {choice.codec}: {choice.measured}")
        return choice

    def _training_speed(self, report: Reporter | None) -> float | None:
        """Samples a second, where the stage's epochs can be read: nothing but the choice of a codec goes by it."""
        try:
            epochs = read_metrics(self.run.stages[self.j])
        except CorruptDataError as error:
            if report is not None:
                report.say(f"stage {self.j}  codec chosen without the speed of training: {str(error).splitlines()[0]}")
            return None
        return max((epoch.images_per_second for epoch in epochs), default=None)

    def write(self, split: str, path: Path, codec: CodecChoice, report: Reporter) -> None:
        """Write and commit one split to `path`, from where an earlier attempt got to."""
        run, config, source = self.run, self.config, self.feed.store(split)
        views = config.augment.stored_views if split == "train" else 1
        with (
            StoreWriter(
                path,
                views=views,
                samples=source.samples,
                sample_shape=run.output_shape(self.j),
                encoding=self.encoding,
                codec=codec.codec,
                run=config.order.run,
                scale=self.scale,
                fingerprint=run.fingerprint(self.j + 1, split),
                attributes=self._attributes(split, path, codec, report),
                threads=config.machine.threads,
            ) as writer,
            report.task(f"stage {self.j} writes x_{self.j + 1} {split}", views * source.samples) as task,
        ):
            gaps = [(view, first, stop) for view in range(views) for first, stop in writer.missing(view)]
            done = views * source.samples - sum(stop - first for _, first, stop in gaps)
            if done:
                report.say(f"stage {self.j}  x_{self.j + 1} {split}: {done:,} samples are written already, going on")
            for view, first, stop in gaps:
                for stored in self.runs(split, view=view, start=first, stop=stop):
                    writer.write(view, first, stored)
                    first += len(stored)
                    done += len(stored)
                    task.update(done)
            writer.commit(y=source.y, sample_id=source.sample_id)

    def _codec_in_use(self) -> CodecChoice | None:
        """What x_{j+1} was begun with: all its splits have one codec, also those that are written later."""
        for split in self.run.splits:
            path, fingerprint = self.run.store(self.j + 1, split), self.run.fingerprint(self.j + 1, split)
            begun = read_journal(path)
            if is_committed(path):
                store = self.run.open_store(self.j + 1, split)
                return CodecChoice(store.codec, str(store.attributes.get("codec_reason")))
            if begun and begun[0].fingerprint == fingerprint:
                return CodecChoice(begun[0].codec, str(begun[0].attributes.get("codec_reason")))
        return None

    def _attributes(self, split: str, path: Path, codec: CodecChoice, report: Reporter) -> dict[str, Any]:
        """What a reader of the store alone should know."""
        record = read_encoding(self.run, self.j)
        return output_attributes(
            split=split,
            index=self.j + 1,
            rendering=self.config.augment.rendering,
            key=self.run.stages[self.j].key,
            codec_reason=codec.reason,
            signal_to_noise_db=record.signal_to_noise_db,
            saturated_share=record.saturated_share,
            machines=self._machines(split, path, report),
        )

    def _machines(self, split: str, path: Path, report: Reporter) -> list[Any]:
        """The machines that the numbers come from: this one, after those of an earlier attempt at them."""
        here, begun = machine_record(self.feed.device, self.feed.dtype), read_journal(path)
        if not begun or begun[0].fingerprint != self.run.fingerprint(self.j + 1, split):
            return [here]
        earlier = list(begun[0].attributes.get("machines", []))
        if here in earlier:
            return earlier
        report.say(
            f"stage {self.j}  x_{self.j + 1} {split} was begun on another machine or build; numbers may differ "
            f"in their last bits from there on"
        )
        return [*earlier, here]
