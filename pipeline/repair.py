"""Damaged files of stores, computed again from their parent and put back byte for byte, or left as they are.

A store whose manifest is lost is written anew: nothing is left to say of every byte that it is the one that was."""

import os
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
    StoreError,
    agrees,
    committed_codec,
    drop_journal,
    inspect,
    put_back_chunk,
    put_back_metadata,
    read_manifest,
    remove_folder,
    salvaged_codec,
    sweep_removed,
    sync,
)
from pipeline.data_info import X_0
from pipeline.errors import FORMAT_REMEDY, CascadeError, CorruptDataError, RefusedError
from pipeline.lock import lock_behind, lock_folder
from pipeline.progress import Reporter
from pipeline.recompute import Parent, other_machine, parent_of, recomputed_chunks
from pipeline.runfolder import RunFolder, is_committed
from pipeline.stopping import check_stop, never


@dataclass
class Repaired:
    """What became of one store."""

    what: str
    """Its folder in the run folder."""
    put_back: list[str] = field(default_factory=list)
    """Files that are as they were committed again; the manifest, where the whole store was written anew."""
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
    with lock_folder(run.path, "repair"), lock_behind(run.path / X_0, f"repair of {run.path}, which shares x_0"):
        unsound: set[int] = set()
        for index in range(len(run.stages) + 1):
            for split in run.splits:
                outcome = _Repair(run, index, split, device, report, unsound, should_stop).repair()
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
        self.run = run
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

    def repair(self) -> Repaired:
        if not self.run.has_store(self.index, self.split) and not is_committed(self.beside):
            return self.outcome
        try:
            self.run.check_unlinked(self.path)
            manifest = read_manifest(self.path)
        except CorruptDataError as error:
            self.outcome.left[MANIFEST] = str(error)
        except FormatError as error:
            self.outcome.left[MANIFEST] = f"{error}\nnext: {FORMAT_REMEDY}"
        except PermissionError:
            raise  # which says nothing of the file
        except (CorruptStoreError, OSError):
            with self._trying(MANIFEST):
                self._check_views()
                self._write_again()
                self.outcome.put_back.append(MANIFEST)
        else:
            if self.beside.is_dir():
                remove_folder(self.beside)
            self._make_durable(manifest)
            with self._trying(MANIFEST):  # one that is whole and describes no store of ours
                self._put_back(manifest, list(self._damaged(manifest)))
                self._check_place()
        return self.outcome

    def _make_durable(self, manifest: Manifest) -> None:
        """Make the names of what is there durable: who put it back may have been killed before they were."""
        for folder in (self.path.parent, self.path, *(self.path / array for array in manifest.arrays)):
            if folder.is_dir():
                sync(folder)

    def _damaged(self, manifest: Manifest) -> Iterator[Inspected]:
        for file in inspect(self.path, manifest, threads=self.threads):
            check_stop(self._should_stop, self.outcome.what)
            if file.damage:
                yield file

    @cached_property
    def parent(self) -> Parent:
        """What the store is computed from: the nearest stored x_i before it that is sound, and the blocks from there.

        Opened when it is first needed: a store without damage needs none.
        """
        anchor = self.run.nearest(self.index - 1, lambda i: self.run.is_stored(i) and i not in self._unsound)
        return parent_of(self.run, self.index, self.device, anchor=anchor, should_stop=self._should_stop)

    def _check_views(self) -> None:
        """Raise RefusedError where the place is a stand-in's, for other views than would be computed here."""
        if not self.run.is_rendered_alike(self.index):
            settings = self.run.settings_of_views(self.index)
            command = self.run.command("repair", *settings) if settings else "the version of cascade that wrote it"
            raise RefusedError(f"it holds the views of other settings\nnext: {command}")

    def _put_back(self, manifest: Manifest, damaged: list[Inspected]) -> None:
        """Metadata first, then the small arrays: with both the store opens, and its chunks can be compared."""
        if damaged and manifest.summary.fingerprint != self.run.fingerprint(self.index, self.split):
            raise RefusedError(f"the store is of another stage\nnext: delete {self.path}")
        if damaged:
            self._check_views()
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
        if self.outcome.left or not self.run.is_rendered_alike(self.index):
            return
        try:
            self.run.open_store(self.index, self.split)
        except StoreError as error:
            raise CorruptDataError(f"{error}\nnext: {self.run.made_again(self.index)}") from error

    def _put_back_chunks(self, manifest: Manifest, names: dict[int, str]) -> None:
        if not names:
            return
        store = self.run.open_store(self.index, self.split)
        with self.report.task(f"repair {self.outcome.what}", len(names)) as task:
            again = recomputed_chunks(self.run, self.parent, store, self.split, names)
            for done, (index, numbers) in enumerate(again, 1):
                check_stop(self._should_stop, self.outcome.what)
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
            why = f"{self.run.config.data.source} does not hold the images that were ingested"
            next_action = f"put the data set back as it was, or {self.run.made_again(0)}"
        else:
            here = other_machine(self.run, machines, self.device)
            why = here or "what it was computed from has changed, or another machine wrote it"
            again = self.run.command(f"train-stage --j {self.index - 1}")
            next_action = f"repair where it was written, or delete {self.path} and {again}"
        return CorruptDataError(f"computed again it comes out different: {why}\nnext: {next_action}")

    def _write_again(self) -> None:
        """The whole store, beside its place and then into it, unless a whole chunk of the old one is another."""
        sweep_removed(self.path.parent)
        self.run.check_unlinked(self.beside)
        if is_committed(self.beside) and not self._is_sound_beside():
            remove_folder(self.beside)
        if not is_committed(self.beside):
            self.parent.write(self.split, self.beside, self._codec(), self.report)
        drop_journal(self.beside)
        written = read_manifest(self.beside)
        if not agrees(self.path, written) or not self._is_as_ingested(written):
            remove_folder(self.beside)
            raise self._different([])
        if self.path.exists():
            remove_folder(self.path)
        os.rename(self.beside, self.path)
        sync(self.path.parent)

    def _is_sound_beside(self) -> bool:
        """Whether what an earlier repair wrote beside the place is whole and of this place."""
        try:
            manifest = read_manifest(self.beside)
            is_own = manifest.summary.fingerprint == self.run.fingerprint(self.index, self.split)
            return is_own and not any(file.damage for file in inspect(self.beside, manifest, threads=self.threads))
        except PermissionError:
            raise  # which says nothing of the file
        except (StoreError, OSError):
            return False

    def _is_as_ingested(self, written: Manifest) -> bool:
        """Whether a store written again is the one that the record of the ingest names, if it is of images."""
        return self.index > 0 or written.summary.table_crc32c == self.run.info.tables[self.split]

    def _codec(self) -> CodecChoice:
        """The codec that the store had: all splits have one, so that of another split, whose manifest vouches for it.

        Else the one that its own files name, but no word of theirs besides: what is written here is committed.
        """
        others = (committed_codec(self.run.store(self.index, split)) for split in self.run.splits)
        if found := next(filter(None, others), None):
            return found
        configured = self.run.config.for_stage(max(self.index - 1, 0)).store.codec
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
            next_action = f"next: move it away, and {self.run.command('repair')}"
            self._leave(f"{where} is {what} belongs there\n{next_action}", *names)

    def _leave(self, why: str, *names: str) -> None:
        self.outcome.left |= {name: why for name in names if name not in self.outcome.put_back}
