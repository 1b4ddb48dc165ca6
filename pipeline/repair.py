"""Damaged files of stores, computed again from their parent and put back byte for byte, or left as they are."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from numpy.typing import NDArray

from cache import (
    MANIFEST,
    SMALL_CODEC,
    CodecChoice,
    CodecName,
    CorruptStoreError,
    FormatError,
    Inspected,
    Manifest,
    NoStoreError,
    StoreError,
    agrees,
    committed_codec,
    drop_journal,
    inspect,
    put_back_chunk,
    put_back_metadata,
    read_manifest,
    salvaged_codec,
    sync,
)
from pipeline.errors import FORMAT_REMEDY, CascadeError, CorruptDataError, RefusedError, Stopped
from pipeline.lock import lock_folder
from pipeline.progress import Reporter
from pipeline.recompute import Parent, other_machine, parent_of, recomputed_chunks
from pipeline.runfolder import RunFolder, is_committed
from pipeline.stopping import never


@dataclass
class Repaired:
    """What became of one store."""

    what: str
    """Its folder in the run folder."""
    put_back: list[str] = field(default_factory=list)
    """Files that are as they were committed again; the manifest, where the whole store was written again."""
    left: dict[str, str] = field(default_factory=dict)
    """Files that are as damaged as before, and why."""


def repair(
    run: RunFolder, device: torch.device, report: Reporter, *, should_stop: Callable[[], bool] = never
) -> Iterator[Repaired]:
    """Repair every store of the present config, parents before what is computed from them.

    A file is put in place only if it is the one that was committed, byte for byte: on another machine or build, or
    from other images, that may fail, and then the store stays as it is. A store whose manifest is lost is written again
    as a whole beside its place, and takes it once it is committed.

    Yields what was damaged. Raises LockedError, PermissionError, and between two files Stopped, once `should_stop` says
    so: what is put back by then is, and a store that was to be written again goes on the next time.
    """
    with lock_folder(run.path, "repair"):
        unsound: set[int] = set()
        for index in range(len(run.stages) + 1):
            for split in run.splits:
                outcome = _Repair(run, index, split, device, report, unsound, should_stop).run()
                if outcome.left:
                    unsound.add(index)
                if outcome.left or outcome.put_back:
                    yield outcome


class _Repair:
    """The repair of one store."""

    def __init__(
        self,
        run: RunFolder,
        index: int,
        split: str,
        device: torch.device,
        report: Reporter,
        unsound: set[int],
        should_stop: Callable[[], bool],
    ) -> None:
        self.folder = run
        self.index = index
        self.split = split
        self.device = device
        self.report = report
        self.path = run.store(index, split)
        self.beside = self.path.with_name(f".{self.path.name}.repair")
        self.outcome = Repaired(str(self.path.relative_to(run.path)))
        self.threads = run.config.machine.threads
        self._unsound = unsound
        self._should_stop = should_stop

    def run(self) -> Repaired:
        if not self.folder.has_store(self.index, self.split) and not is_committed(self.beside):
            return self.outcome
        try:
            self.folder.check_unlinked(self.path)
            manifest = read_manifest(self.path)
        except CorruptDataError as error:
            self.outcome.left[MANIFEST] = str(error)
        except FormatError as error:
            self.outcome.left[MANIFEST] = f"{error}\nnext: {FORMAT_REMEDY}"
        except (CorruptStoreError, NoStoreError):
            with self._trying(MANIFEST):
                self._write_again()
                self.outcome.put_back.append(MANIFEST)
        else:
            shutil.rmtree(self.beside, ignore_errors=True)
            with self._trying(MANIFEST):  # one that is whole and describes no store of ours
                self._put_back(manifest, list(self._damaged(manifest)))
                self._check_place()
        return self.outcome

    def _damaged(self, manifest: Manifest) -> Iterator[Inspected]:
        for file in inspect(self.path, manifest, threads=self.threads):
            self._check_stop()
            if file.damage:
                yield file

    def _check_stop(self) -> None:
        if self._should_stop():
            raise Stopped(f"stopped in {self.outcome.what}")

    @cached_property
    def parent(self) -> Parent:
        """What the store is computed from: the nearest stored x_i before it that is sound, and the blocks from there.

        Opened when it is first needed: a store without damage needs none.
        """
        anchor = self.folder.nearest(self.index - 1, lambda i: self.folder.is_stored(i) and i not in self._unsound)
        return parent_of(self.folder, self.index, self.device, anchor=anchor, should_stop=self._should_stop)

    def _put_back(self, manifest: Manifest, damaged: list[Inspected]) -> None:
        """Metadata first, then the small arrays: with both the store opens, and its chunks can be compared."""
        if damaged and manifest.summary.fingerprint != self.folder.fingerprint(self.index, self.split):
            raise RefusedError(f"the store is of another stage\nnext: delete {self.path}")
        if damaged and not self.folder.is_rendered_alike(self.index):
            raise RefusedError(
                f"it holds the views of other settings\nnext: {self.folder.command('repair')} with those settings"
            )
        for file in damaged:
            if not file.array:
                with self._trying(file.name):
                    put_back_metadata(self.path, manifest, file.name)
                    self.outcome.put_back.append(file.name)
            elif file.array != "x":
                with self._trying(file.name):
                    values = self.parent.small_arrays(self.split)[file.array]
                    self._put_back_chunk(manifest, file.name, file.array, 0, values, SMALL_CODEC)
        names = {file.number: file.name for file in damaged if file.array == "x"}
        with self._trying(*names.values()):
            self._put_back_chunks(manifest, names)

    def _check_place(self) -> None:
        """Raise CascadeError where a store without damage is not the one that belongs here, which no repair makes."""
        if self.outcome.left or not self.folder.is_rendered_alike(self.index):
            return
        try:
            self.folder.open_store(self.index, self.split)
        except StoreError as error:
            raise CorruptDataError(f"{error}\nnext: {self.folder.made_again(self.index)}") from error

    def _put_back_chunks(self, manifest: Manifest, names: dict[int, str]) -> None:
        if not names:
            return
        store = self.folder.open_store(self.index, self.split)
        with self.report.task(f"repair {self.outcome.what}", len(names)) as task:
            again = recomputed_chunks(self.folder, self.parent, store, self.split, names)
            for done, (index, numbers) in enumerate(again, 1):
                self._check_stop()
                with self._trying(names[index]):
                    self._put_back_chunk(manifest, names[index], "x", index, numbers, store.codec)
                task.update(done)

    def _put_back_chunk(
        self, manifest: Manifest, name: str, array: str, index: int, numbers: NDArray[Any], codec: CodecName
    ) -> None:
        if not put_back_chunk(self.path, manifest, array, index, numbers, codec):
            raise self._different(manifest.group.attributes.get("machines", []))
        self.outcome.put_back.append(name)

    def _different(self, machines: list[dict[str, object]]) -> CorruptDataError:
        """What may be the reason, and what to do; `machines` are those that wrote the store."""
        if self.index == 0:
            why = f"{self.folder.config.data.source} does not hold the images that were ingested"
            next_action = f"put the data set back as it was, or delete {self.path.parent} and ingest again"
        else:
            here = other_machine(self.folder, machines, self.device)
            why = here or "what it was computed from has changed, or another machine wrote it"
            again = self.folder.command(f"train-stage --j {self.index - 1}")
            next_action = f"repair where it was written, or delete {self.path} and {again}"
        return CorruptDataError(f"computed again it comes out different: {why}\nnext: {next_action}")

    def _write_again(self) -> None:
        """The whole store, beside its place and then into it, unless a whole chunk of the old one is another."""
        if not is_committed(self.beside):
            self.parent.write(self.split, self.beside, self._codec(), self.report)
        drop_journal(self.beside)
        written = read_manifest(self.beside)
        if not agrees(self.path, written) or not self._is_as_ingested(written):
            shutil.rmtree(self.beside)
            raise self._different([])
        if self.path.exists():
            shutil.rmtree(self.path)
        os.rename(self.beside, self.path)
        sync(self.path.parent)

    def _is_as_ingested(self, written: Manifest) -> bool:
        """Whether a store written again is the one that the record of the ingest names, if it is of images."""
        return self.index > 0 or written.summary.table_crc32c == self.folder.info.tables[self.split]

    def _codec(self) -> CodecChoice:
        """The codec that the store had: all splits have one, so that of another split, whose manifest vouches for it.

        Else the one that its own files name, but no word of theirs besides: what is written here is committed.
        """
        others = (committed_codec(self.folder.store(self.index, split)) for split in self.folder.splits)
        if found := next(filter(None, others), None):
            return found
        configured = self.folder.config.for_stage(max(self.index - 1, 0)).store.codec
        if (named := salvaged_codec(self.path)) and named != configured:
            return CodecChoice(named, "as its other files named it")
        return CodecChoice("zstd" if configured == "auto" else configured, "as configured")

    @contextmanager
    def _trying(self, *names: str) -> Iterator[None]:
        """Say of these files, where they are not put back, why."""
        try:
            yield
        except (CascadeError, StoreError) as error:
            self._leave(str(error), *names)
        except (IsADirectoryError, NotADirectoryError, FileExistsError) as error:
            where = error.filename2 or error.filename
            what = "a folder, and a file" if isinstance(error, IsADirectoryError) else "a file, and a folder"
            next_action = f"next: move it away, and {self.folder.command('repair')}"
            self._leave(f"{where} is {what} belongs there\n{next_action}", *names)

    def _leave(self, why: str, *names: str) -> None:
        self.outcome.left |= {name: why for name in names if name not in self.outcome.put_back}
