"""x_{j+1}, computed by the trained block and stored for the next stage."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cache import CodecChoice, StoreWriter, choose_codec, chunk_samples, sample_bytes
from pipeline.device import place
from pipeline.feed import Feed
from pipeline.metrics import read_metrics
from pipeline.networks import load_block, load_quantiser, read_encoding
from pipeline.progress import Reporter, size
from pipeline.room import check_output_room
from pipeline.runfolder import RunFolder, is_committed
from pipeline.transfer import download


def output_is_due(run: RunFolder, j: int, *, asked_for: bool = False) -> bool:
    """Whether x_{j+1} is to be kept, is not there, and something may still read it, or it is asked for.

    Nothing reads it once stage j+1 is trained: a store that was deleted then is made again only when asked for.
    """
    if not run.config.keeps(j + 1) or run.is_stored(j + 1):
        return False
    return asked_for or j + 1 == len(run.stages) or run.stages[j + 1].record is None


def write_output(run: RunFolder, j: int, feed: Feed, report: Reporter) -> None:
    """Write x_{j+1} of every split that is not committed yet: all views of train, one of the others.

    The block runs in evaluation mode over whole runs of samples in stored order, and its output is encoded on the
    device. Copies, compression and writing go on beside the next runs' forward pass.
    """
    block, quantiser = load_block(run, j), load_quantiser(run, j)
    scale = quantiser.scale.numpy().copy()
    place(block, feed.device)
    quantiser.to(feed.device)
    output = _Output(run, j, feed, lambda x: quantiser.encode(block(x)), scale)
    codec = output.codec(report)
    check_output_room(run, j, lambda: codec.codec, lambda: next(output.runs("train", limit=run.config.order.run)))
    for split in run.splits:
        if not is_committed(run.store(j + 1, split)):
            output.write(split, codec, report)
    written = sum(run.stored_bytes(j + 1, split) for split in run.splits)
    report.say(f"stage {j}  x_{j + 1} written: {size(written)} ({quantiser.encoding}, {codec.codec})")


class _Output:
    """x_{j+1}, encoded, and where it goes."""

    def __init__(
        self, run: RunFolder, j: int, feed: Feed, encode: Callable[[Tensor], Tensor], scale: NDArray[np.float32]
    ) -> None:
        self.run = run
        self.j = j
        self.feed = feed
        self.scale = scale
        self.config = run.config.for_stage(j)
        self._encode = encode

    def runs(self, split: str, *, view: int = 0, limit: int | None = None) -> Iterator[NDArray[Any]]:
        """Stored numbers, a run of samples at a time."""
        encoded = self.feed.sequential(split, self._encode, view=view, limit=limit)
        return download(x.contiguous() for x, _ in encoded)

    def codec(self, report: Reporter) -> CodecChoice:
        """The config's codec, or for "auto" the one that suits the first chunk and the speed of the training."""
        if self.config.store.codec != "auto":
            return CodecChoice(self.config.store.codec, "as configured")
        samples = chunk_samples(
            self.config.order.run, sample_bytes(self.config.store.encoding, self.run.output_shape(self.j))
        )
        chunk = next(self.runs("train", limit=samples))[:samples]
        epochs = read_metrics(self.run.stages[self.j])
        speed = max((epoch.images_per_second for epoch in epochs), default=None)
        choice = choose_codec(
            chunk,
            self.run.path,
            threads=self.config.machine.threads,
            training_seconds=len(chunk) / speed if speed else None,
        )
        report.say(f"stage {self.j}  codec {choice.codec}: {choice.reason}")
        return choice

    def write(self, split: str, codec: CodecChoice, report: Reporter) -> None:
        """Write and commit one split."""
        run, config, source = self.run, self.config, self.feed.store(split)
        views = config.augment.stored_views if split == "train" else 1
        done, total = 0, views * source.samples
        with (
            StoreWriter(
                run.store(self.j + 1, split),
                views=views,
                samples=source.samples,
                sample_shape=run.output_shape(self.j),
                encoding=config.store.encoding,
                codec=codec.codec,
                run=config.order.run,
                scale=self.scale,
                threads=config.machine.threads,
            ) as writer,
            report.task(f"stage {self.j} writes x_{self.j + 1} {split}", total) as task,
        ):
            for view in range(views):
                first = 0
                for stored in self.runs(split, view=view):
                    writer.write(view, first, stored)
                    first += len(stored)
                    done += len(stored)
                    task.update(done)
            writer.commit(y=source.y, sample_id=source.sample_id, attributes=self._attributes(split, codec))

    def _attributes(self, split: str, codec: CodecChoice) -> dict[str, Any]:
        """What a reader of the store alone should know."""
        record = read_encoding(self.run, self.j)
        return {
            "split": split,
            "index": self.j + 1,
            "rendering": self.config.augment.rendering,
            "key": self.run.stages[self.j].key,
            "codec_reason": codec.reason,
            "signal_to_noise_db": record.signal_to_noise_db,
            "saturated_share": record.saturated_share,
        }
