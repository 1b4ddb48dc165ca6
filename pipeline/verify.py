"""Whether every stored byte of a run folder is the one that was written, and on request whether it follows from its
parent."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from cache import (
    MANIFEST,
    CorruptStoreError,
    FormatError,
    NoStoreError,
    Store,
    StoreError,
    gives_chunk,
    inspect,
    read_manifest,
)
from cascade.quantiser import ENCODINGS
from pipeline.bad_images import SKIPPED, read_skipped
from pipeline.data_info import X_0
from pipeline.disk import folder_bytes
from pipeline.draws import Purpose, permutation
from pipeline.errors import FORMAT_REMEDY, CascadeError, CorruptDataError, Stopped, first_line, remedy_of
from pipeline.links import read_file
from pipeline.metrics import read_metrics_file
from pipeline.networks import EncodingRecord
from pipeline.paths import matching
from pipeline.progress import Reporter
from pipeline.recompute import other_machine, parent_of, recomputed_chunks
from pipeline.record import StageRecord, read_own_record, read_record
from pipeline.runfolder import RunFolder, is_committed, is_unfinished
from pipeline.sealed import SealError, unseal
from pipeline.stopping import never
from pipeline.weights import load_tensors

DEEP_CHUNKS = 4
"""Of each store, computed again by `verify --deep`."""
GONE = "it was deleted while it was looked at"
"""A note on a store or stage that `gc` took back meanwhile."""
OF_A_STAGE = ("block", "head", "test_logits")
"""Tensor files that a finished stage must have."""


@dataclass(frozen=True)
class Damage:
    """One file that is not as it was written."""

    file: str
    """In the run folder."""
    reason: str
    """What is wrong with it."""
    remedy: str
    """What to type or do."""


@dataclass(frozen=True)
class Checked:
    """One store, or the files of one stage."""

    what: str
    """Its folder in the run folder."""
    files: int
    """Chunks, or files of the stage."""
    nbytes: int
    """Bytes of them."""
    recomputed: int
    """Chunks that were computed again from the parent."""
    damage: list[Damage]
    """What is not as it was written, or does not follow from the parent."""
    note: str = ""
    """What a reader should know of the recomputation."""
    kind: Literal["store", "stage", "list"] = "store"
    """What it is; a list, of images left out of x_0."""


def verify(
    run: RunFolder,
    report: Reporter,
    *,
    deep_on: torch.device | None = None,
    should_stop: Callable[[], bool] = never,
) -> Iterator[Checked]:
    """Read every committed store and every file of every stage, those of other branches included.

    Given a device, some chunks of each store of the present config are computed again there and compared. Nothing is
    written; what is damaged does not keep the rest from being looked at.

    Raises PermissionError, and between two files Stopped, once `should_stop` says so.
    """
    places = {run.store(index, split): (index, split) for index in range(len(run.stages) + 1) for split in run.splits}
    places = {path: place for path, place in places.items() if run.is_rendered_alike(place[0])}
    if run.info.skipped:
        yield _check_skipped(run)
    for path in _stores(run, places):
        place = places.get(path)
        command = run.command("repair") if place else f"{run.command('repair')} with the settings of that branch"
        checked = _check_store(run, path, command, report, should_stop)
        if place and not checked.damage and not checked.note:
            checked = _in_its_place(run, *place, checked)
        if deep_on is not None and not place:
            checked = replace(checked, note="not computed again: it is of other settings; --set them to do so")
        elif deep_on is not None and place and not checked.damage and not checked.note:
            checked = _deep(run, *place, checked, deep_on, should_stop)
        yield checked
    records = _successors(run.path / "stages")
    for folder in matching(run.path / "stages", "[!.]*-*"):
        yield _check_stage(run, folder, records, should_stop)


def _stores(run: RunFolder, places: Mapping[Path, tuple[int, str]]) -> list[Path]:
    """The folders of all stores that were committed, also of those that lost what shows it; x_0 has every split."""
    found = [path for pattern in (f"{X_0}/[!.]*", "stages/[!.]*-*/x_*/[!.]*") for path in matching(run.path, pattern)]
    whole = [path for path in found if path.is_dir() and not is_unfinished(path)]
    return sorted({*whole, *(path for path, (index, _) in places.items() if index == 0)})


def _check_skipped(run: RunFolder) -> Checked:
    """The list of what was left out of x_0."""
    path, damage = run.path / X_0 / SKIPPED, []
    what = str(path.relative_to(run.path))
    try:
        read_skipped(path.parent, run.info.skipped)
    except CorruptDataError as error:
        damage.append(Damage(what, first_line(error), remedy_of(error)))
    return Checked(what, 1, path.stat().st_size if path.is_file() else 0, 0, damage, kind="list")


def _check_store(
    run: RunFolder, path: Path, command: str, report: Reporter, should_stop: Callable[[], bool]
) -> Checked:
    what = str(path.relative_to(run.path))
    try:
        run.check_unlinked(path)
        manifest = read_manifest(path)
    except PermissionError:
        raise  # which says nothing of the file
    except (CascadeError, StoreError, OSError) as error:
        if path.parent != run.path / X_0 and (not path.is_dir() or is_unfinished(path)):
            return Checked(what, 0, 0, 0, [], GONE)
        reason = f"{path / MANIFEST} is missing" if isinstance(error, NoStoreError) else first_line(error)
        remedy = FORMAT_REMEDY if isinstance(error, FormatError) else remedy_of(error) or command
        return Checked(what, 0, 0, 0, [Damage(f"{what}/{MANIFEST}", _within(reason, path), remedy)])
    damage = []
    files = nbytes = 0
    with report.task(f"verify {what}", manifest.summary.nbytes) as task:
        try:
            for file in inspect(path, manifest, threads=run.config.machine.threads):
                _check_stop(should_stop, what)
                files += bool(file.array)
                nbytes += file.nbytes
                task.update(nbytes)
                if file.damage:
                    damage.append(Damage(f"{what}/{file.name}", _within(file.damage, path), command))
        except CorruptStoreError as error:  # a manifest that is whole and describes no store of ours
            damage.append(Damage(f"{what}/{MANIFEST}", _within(str(error), path), command))
    if damage and not is_committed(path):
        return Checked(what, 0, 0, 0, [], GONE)
    return Checked(what, files, nbytes, 0, damage)


def _in_its_place(run: RunFolder, index: int, split: str, checked: Checked) -> Checked:
    """A sound store, which is damage where another one belongs."""
    try:
        run.open_store(index, split)
    except (CascadeError, StoreError) as error:
        damage = Damage(f"{checked.what}/{MANIFEST}", first_line(error), remedy_of(error) or run.made_again(index))
        return replace(checked, damage=[damage])
    return checked


def _within(reason: str, path: Path) -> str:
    """What is wrong with a file of a store, without the store's path, which is said once."""
    return reason.replace(f" of {path}", "").replace(f"{path}/", "")


def _check_stop(should_stop: Callable[[], bool], what: str) -> None:
    if should_stop():
        raise Stopped(f"stopped in {what}, before its end")


def _deep(
    run: RunFolder, index: int, split: str, checked: Checked, device: torch.device, should_stop: Callable[[], bool]
) -> Checked:
    """Compute a few chunks of a sound store again from its parent."""
    try:
        store = run.open_store(index, split)
        anchor = run.nearest(index - 1, run.is_stored)
        parent = parent_of(run, index, device, anchor=anchor, should_stop=should_stop)
        remedy = f"delete it and {run.command(f'train-stage --j {index - 1}' if index else 'ingest')}"
        if foreign := _foreign_small_arrays(store, parent.small_arrays(split)):  # by which the images would be found
            return replace(checked, damage=_not_following(checked.what, foreign, remedy))
        order = permutation(len(store.manifest.arrays["x"]), run.config.seed, Purpose.VERIFY, index)
        sample = sorted(order[:DEEP_CHUNKS].tolist())
        differing = [
            store.manifest.chunk_name("x", number)
            for number, numbers in recomputed_chunks(run, parent, store, split, sample)
            if not gives_chunk(store.manifest, "x", number, numbers, store.codec)
        ]
    except (CascadeError, StoreError, OSError) as error:
        return replace(checked, note=f"not computed again: {first_line(error)}")
    note = other_machine(run, store.attributes.get("machines", []), device)
    if note and differing:
        note = f"{len(differing)} of {len(sample)} chunks computed again differ: {note}"
        differing = []
    damage = _not_following(checked.what, differing, remedy)
    return replace(checked, recomputed=len(sample), damage=damage, note=note)


def _foreign_small_arrays(store: Store, expected: Mapping[str, NDArray[Any]]) -> list[str]:
    """The files of labels, sample ids and scale that are not the parent's; on any machine they would be."""
    found: dict[str, NDArray[Any]] = {"y": store.y, "sample_id": store.sample_id, "scale": store.scale}
    foreign = [name for name, values in expected.items() if not np.array_equal(found[name], values)]
    return [store.manifest.chunk_name(name, 0) for name in foreign]


def _not_following(what: str, names: Sequence[str], remedy: str) -> list[Damage]:
    return [Damage(f"{what}/{name}", "it does not follow from its parent", remedy) for name in names]


def _successors(stages: Path) -> dict[str, set[str]]:
    """Key of a stage -> the encodings of its output that trained stages started from; damaged records left out."""
    found: dict[str, set[str]] = {}
    for path in sorted(stages.glob("*-*/stage.json")):
        with suppress(CascadeError):  # found when its file's turn comes
            if (record := read_record(path.parent)) and record.j > 0:
                encoding = record.fields.get(f"store.encoding of x_{record.j}")
                started = found.setdefault(str(record.fields.get("input")), set())
                started.update(known for known in ENCODINGS if known == encoding)
    return found


def _check_stage(
    run: RunFolder, folder: Path, successors: Mapping[str, set[str]], should_stop: Callable[[], bool]
) -> Checked:
    """Load every file of a stage, and compare those that its record names with it."""
    what = str(folder.relative_to(run.path))
    try:
        run.check_unlinked(folder)
    except CorruptDataError as error:
        return Checked(what, 0, 0, 0, [Damage(what, first_line(error), remedy_of(error))], kind="stage")
    damage: list[Damage] = []
    train = run.command(f"train-stage --j {folder.name.partition('-')[0]}")
    files = _stage_files(folder, successors)
    for path, load in files.items():
        _check_stop(should_stop, what)
        try:
            load(path)
        except PermissionError:
            raise  # which says nothing of the file
        except (CascadeError, SealError, StoreError, OSError) as error:
            reason = "it is missing" if isinstance(error, FileNotFoundError) else _within(first_line(error), folder)
            gone = path if path.name.startswith("scale.") else folder  # a scale is taken again, and nothing trained
            damage.append(Damage(f"{what}/{path.name}", reason, remedy_of(error) or f"delete {gone} and {train}"))
    if damage and not folder.is_dir():
        return Checked(what, 0, 0, 0, [], GONE)
    nbytes = sum(folder_bytes(path) for path in files)
    return Checked(what, len(files), nbytes, 0, damage, kind="stage")


def _stage_files(folder: Path, successors: Mapping[str, set[str]]) -> dict[Path, Callable[[Path], object]]:
    """The files of a stage, those that are missing from a finished one included, and how each is read."""
    record: StageRecord | None = None
    with suppress(CascadeError):  # found when its file's turn comes
        record = read_record(folder)
    content = record.content if record else {}
    loaders: dict[str, Callable[[Path], object]] = {
        "*.safetensors": lambda path: load_tensors(path, content=content.get(path.stem)),
        "stage.json": lambda path: read_own_record(path.parent),
        "scale.*.json": lambda path: unseal(read_file(path), EncodingRecord),
        "metrics.jsonl": lambda path: read_metrics_file(path, ended=record),
    }
    files = {path: load for pattern, load in loaders.items() for path in matching(folder, pattern)}
    if (folder / "stage.json").exists():
        files |= {folder / f"{stem}.safetensors": loaders["*.safetensors"] for stem in OF_A_STAGE}
        files[folder / "metrics.jsonl"] = loaders["metrics.jsonl"]
    for encoding in successors.get(record.key, ()) if record else ():
        files[folder / f"scale.{encoding}.json"] = loaders["scale.*.json"]
    return files
