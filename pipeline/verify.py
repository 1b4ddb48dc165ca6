"""Whether every stored byte of a run folder is the one that was written, and on request whether it follows from its
parent."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from cache import (
    MANIFEST,
    CorruptStoreError,
    NoStoreError,
    StoreError,
    gives_chunk,
    inspect,
    read_manifest,
)
from pipeline.data_info import X_0
from pipeline.disk import folder_bytes
from pipeline.draws import Purpose, permutation
from pipeline.errors import CascadeError
from pipeline.metrics import read_metrics_file
from pipeline.networks import EncodingRecord
from pipeline.paths import matching
from pipeline.progress import Reporter
from pipeline.recompute import other_machine, parent_of, recomputed_chunks
from pipeline.record import StageRecord, read_record
from pipeline.runfolder import RunFolder, is_committed, is_unfinished
from pipeline.sealed import SealError, unseal
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


def verify(run: RunFolder, report: Reporter, *, deep_on: torch.device | None = None) -> Iterator[Checked]:
    """Read every committed store and every file of every stage, those of other branches included.

    Given a device, some chunks of each store of the present config are computed again there and compared. Nothing is
    written; what is damaged does not keep the rest from being looked at.
    """
    places = {run.store(index, split): (index, split) for index in range(len(run.stages) + 1) for split in run.splits}
    for path in _stores(run):
        place = places.get(path)
        command = run.command("repair") if place else f"{run.command('repair')} with the settings of that branch"
        checked = _check_store(run, path, command, report)
        if place and not checked.damage and not checked.note:
            checked = _in_its_place(run, *place, checked)
        if deep_on is not None and place and not checked.damage and not checked.note:
            checked = _deep(run, *place, checked, deep_on)
        yield checked
    for folder in matching(run.path / "stages", "[!.]*-*"):
        yield _check_stage(run, folder)


def _stores(run: RunFolder) -> list[Path]:
    """The folders of all stores that were committed, also of those whose manifest is lost."""
    found = [path for pattern in (f"{X_0}/[!.]*", "stages/[!.]*-*/x_*/[!.]*") for path in matching(run.path, pattern)]
    return sorted(path for path in found if path.is_dir() and not is_unfinished(path))


def _check_store(run: RunFolder, path: Path, command: str, report: Reporter) -> Checked:
    what = str(path.relative_to(run.path))
    try:
        manifest = read_manifest(path)
    except (StoreError, OSError) as error:
        if not path.is_dir() or is_unfinished(path):
            return Checked(what, 0, 0, 0, [], GONE)
        reason = f"{path / MANIFEST} is missing" if isinstance(error, NoStoreError) else str(error)
        return Checked(what, 0, 0, 0, [Damage(f"{what}/{MANIFEST}", reason, command)])
    damage = []
    files = nbytes = 0
    with report.task(f"verify {what}", manifest.summary.nbytes) as task:
        try:
            for file in inspect(path, manifest, threads=run.config.machine.threads):
                files += bool(file.array)
                nbytes += file.nbytes
                task.update(nbytes)
                if file.damage:
                    damage.append(Damage(f"{what}/{file.name}", file.damage, command))
        except CorruptStoreError as error:  # a manifest that is whole and describes no store of ours
            damage.append(Damage(f"{what}/{MANIFEST}", str(error), command))
    if damage and not is_committed(path):
        return Checked(what, 0, 0, 0, [], GONE)
    return Checked(what, files, nbytes, 0, damage)


def _in_its_place(run: RunFolder, index: int, split: str, checked: Checked) -> Checked:
    """A sound store, which is damage where another one belongs."""
    try:
        run.open_store(index, split)
    except (CascadeError, StoreError) as error:
        damage = Damage(f"{checked.what}/{MANIFEST}", _first_line(error), _remedy(error))
        return replace(checked, damage=[damage])
    return checked


def _deep(run: RunFolder, index: int, split: str, checked: Checked, device: torch.device) -> Checked:
    """Compute a few chunks of a sound store again from its parent."""
    try:
        store = run.open_store(index, split)
        anchor = next((i for i in range(index - 1, 0, -1) if run.is_stored(i)), 0)
        parent = parent_of(run, index, device, anchor=anchor)
        order = permutation(len(store.manifest.arrays["x"]), run.config.seed, Purpose.VERIFY, index)
        sample = sorted(order[:DEEP_CHUNKS].tolist())
        differing = [
            store.manifest.chunk_name("x", number)
            for number, numbers in recomputed_chunks(run, parent, store, split, sample)
            if not gives_chunk(store.manifest, "x", number, numbers, store.codec)
        ]
    except (CascadeError, StoreError, OSError) as error:
        return replace(checked, note=f"not computed again: {_first_line(error)}")
    note = other_machine(run, store.attributes.get("machines", []), device)
    if note and differing:
        note = f"{len(differing)} of {len(sample)} chunks computed again differ: {note}"
        differing = []
    remedy = f"delete it and {run.command(f'train-stage --j {index - 1}' if index else 'ingest')}"
    damage = [Damage(f"{checked.what}/{name}", "it does not follow from its parent", remedy) for name in differing]
    return replace(checked, recomputed=len(sample), damage=damage, note=note)


def _check_stage(run: RunFolder, folder: Path) -> Checked:
    """Load every file of a stage, and compare those that its record names with it."""
    damage: list[Damage] = []
    train = run.command(f"train-stage --j {folder.name.partition('-')[0]}")
    files = _stage_files(folder)
    for path, load in files.items():
        try:
            load(path)
        except PermissionError:
            raise  # which says nothing of the file
        except (CascadeError, SealError, OSError) as error:
            remedy = _remedy(error) or f"delete {folder} and {train}"
            damage.append(Damage(str(path.relative_to(run.path)), _first_line(error), remedy))
    if damage and not folder.is_dir():
        return Checked(str(folder.relative_to(run.path)), 0, 0, 0, [], GONE)
    nbytes = sum(folder_bytes(path) for path in files)
    return Checked(str(folder.relative_to(run.path)), len(files), nbytes, 0, damage)


def _stage_files(folder: Path) -> dict[Path, Callable[[Path], object]]:
    """The files of a stage, those that are missing from a finished one included, and how each is read."""
    record: StageRecord | None = None
    with suppress(CascadeError):  # found when its file's turn comes
        record = read_record(folder)
    content = record.content if record else {}
    loaders: dict[str, Callable[[Path], object]] = {
        "*.safetensors": lambda path: load_tensors(path, content=content.get(path.stem)),
        "stage.json": lambda path: read_record(path.parent),
        "scale.*.json": lambda path: unseal(path.read_bytes(), EncodingRecord),
        "metrics.jsonl": lambda path: read_metrics_file(path, ended=record),
    }
    files = {path: load for pattern, load in loaders.items() for path in matching(folder, pattern)}
    if (folder / "stage.json").exists():
        files |= {folder / f"{stem}.safetensors": loaders["*.safetensors"] for stem in OF_A_STAGE}
        files[folder / "metrics.jsonl"] = loaders["metrics.jsonl"]
    return files


def _first_line(error: Exception) -> str:
    return str(error).partition("\nnext: ")[0]


def _remedy(error: Exception) -> str:
    """What an error says to do."""
    return str(error).partition("\nnext: ")[2]
