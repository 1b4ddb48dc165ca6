"""Stored numbers, computed again from their parent: x_0 from the data set, x_{j+1} from an anchor and block j."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from cache import CodecChoice, Indices, Store, filled_up
from pipeline.bad_images import read_skipped
from pipeline.data_info import X_0
from pipeline.device import autocast_type, machine_record
from pipeline.errors import CorruptDataError, RefusedError, Stopped
from pipeline.feed import Feed
from pipeline.image_store import image_writer
from pipeline.images import to_canvas
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.sources import Split, open_source
from pipeline.splits import split_indices
from pipeline.stopping import never
from pipeline.writeback import Output

Numbers = NDArray[Any]


class Parent(Protocol):
    """What a store can be computed from."""

    def small_arrays(self, split: str) -> dict[str, Numbers]:
        """y, sample_id and scale of a split."""

    def numbers(self, split: str, sample_id: Indices, view: int, first: int, stop: int) -> Numbers:
        """Stored numbers of samples first..stop-1 of a view, a run of them or what is left of the view."""

    def write(self, split: str, path: Path, codec: CodecChoice, report: Reporter) -> None:
        """Write and commit the whole store of a split to `path`."""


def parent_of(
    run: RunFolder, index: int, device: torch.device, *, anchor: int, should_stop: Callable[[], bool] = never
) -> Parent:
    """The parent of x_index; of the stored x_i, `anchor` is the one that x_index, index >= 1, is computed from.

    It raises Stopped at the next run of samples once `should_stop` says so. Raises CascadeError and StoreError where
    it is not there, or is damaged itself.
    """
    if index == 0:
        return Images(run, should_stop)
    feed = Feed(run, index - 1, device, anchor=anchor, sequential_only=True, should_stop=should_stop)
    return Replayed(run, Output(run, index - 1, feed))


class Images:
    """The data set that x_0 was ingested from."""

    def __init__(self, run: RunFolder, should_stop: Callable[[], bool]) -> None:
        self.run = run
        self.should_stop = should_stop
        self.source = open_source(run.config.data.source)
        skipped = read_skipped(run.path / X_0, run.info.skipped)
        self.ids = {
            split: ids[~np.isin(ids, [image.sample_id for image in skipped if image.split == split])]
            for split, ids in split_indices(self.source, run.info.data).items()
        }
        found = {split: len(ids) for split, ids in self.ids.items()}
        if found != run.info.samples:
            raise RefusedError(
                f"{run.config.data.source} is not the data set that x_0 was ingested from: it gives {found} images, "
                f"then {run.info.samples}\nnext: put the data set back as it was, or ingest again"
            )

    def small_arrays(self, split: str) -> dict[str, Numbers]:
        images, ids = self.source.test if split == "test" else self.source.train, self.ids[split]
        return {"y": images.labels[ids], "sample_id": ids, "scale": np.ones(self.run.info.channels, np.float32)}

    def numbers(self, split: str, sample_id: Indices, view: int, first: int, stop: int) -> Numbers:
        if self.should_stop():
            raise Stopped(f"stopped on the way through the {split} images")
        images = self.source.test if split == "test" else self.source.train
        return np.stack([self._image(images, i) for i in sample_id[first:stop].tolist()])

    def write(self, split: str, path: Path, codec: CodecChoice, report: Reporter) -> None:
        info, ids = self.run.info, self.ids[split]
        with (
            image_writer(
                path,
                info.data,
                split,
                samples=len(ids),
                channels=info.channels,
                side=info.side,
                run=info.run,
                codec=codec.codec,
                threads=self.run.config.machine.threads,
            ) as writer,
            report.task(f"x_0 {split}", len(ids)) as task,
        ):
            for start, stop in writer.missing(0):
                for first in range(start, stop, info.run):
                    writer.write(0, first, self.numbers(split, ids, 0, first, min(first + info.run, stop)))
                    task.update(first)
            writer.commit(y=self.small_arrays(split)["y"], sample_id=ids)

    def _image(self, images: Split, i: int) -> Numbers:
        info = self.run.info
        try:
            return to_canvas(images.load(i), info.side, info.channels, resize=info.data.canvas > 0)
        except Exception as error:  # a decoder raises anything
            raise CorruptDataError(f"{images.name(i)}: {error or type(error).__name__}") from error


class Replayed:
    """An anchor, and the blocks from there up to x_{j+1}."""

    def __init__(self, run: RunFolder, output: Output) -> None:
        self.run = run
        self.output = output

    def small_arrays(self, split: str) -> dict[str, Numbers]:
        anchor = self.output.feed.store(split)
        return {"y": anchor.y, "sample_id": anchor.sample_id, "scale": self.output.scale}

    def numbers(self, split: str, sample_id: Indices, view: int, first: int, stop: int) -> Numbers:
        return np.concatenate(list(self.output.runs(split, view=view, start=first, stop=stop)))

    def write(self, split: str, path: Path, codec: CodecChoice, report: Reporter) -> None:
        self.output.write(split, path, codec, report)


def recomputed_chunks(
    run: RunFolder, parent: Parent, store: Store, split: str, wanted: Iterable[int]
) -> Iterator[tuple[int, Numbers]]:
    """Chunks of x by their index in the chunk table of a store, each (chunk_samples, *stored_shape).

    A run of samples at a time, as they were written: on a CPU the last bits depend on the shape of a forward pass.
    """
    samples, per_view = run.config.order.run, store.chunks_per_view
    places: dict[tuple[int, int], list[int]] = {}
    for index in wanted:
        first = index % per_view * store.chunk_samples
        places.setdefault((index // per_view, first // samples * samples), []).append(index)
    for (view, first), indices in places.items():
        numbers = parent.numbers(split, store.sample_id, view, first, min(first + samples, store.samples))
        for index in indices:
            start = index % per_view * store.chunk_samples - first
            yield index, filled_up(numbers[start : start + store.chunk_samples], store.chunk_samples)


def other_machine(run: RunFolder, machines: Iterable[Mapping[str, object]], device: torch.device) -> str:
    """What differs between the machines that wrote a store and this one, or ""; last bits may then differ too."""
    here = machine_record(device, autocast_type(device, run.config.network.precision))
    for there in machines:
        changed = [f"{name} {there.get(name)} -> {here[name]}" for name in here if there.get(name) != here[name]]
        if changed:
            return f"it was written on another machine or build: {', '.join(changed)}"
    return ""
