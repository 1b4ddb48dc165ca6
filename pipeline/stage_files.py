"""Whether the files of a stage are those that it ended with."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

from cache import StoreError
from cascade.quantiser import ENCODINGS
from pipeline.checked import GONE, Checked, Damage, within
from pipeline.disk import folder_bytes
from pipeline.errors import CascadeError, CorruptDataError, first_line, remedy_of
from pipeline.experiments.places import PROBE_RECORD, command_of
from pipeline.experiments.probes import LinearRecord
from pipeline.finite import FaultRecord
from pipeline.links import read_file
from pipeline.metrics import read_metrics_file
from pipeline.networks import EncodingRecord
from pipeline.paths import matching
from pipeline.record import StageRecord, read_own_record, read_record
from pipeline.runfolder import RunFolder
from pipeline.sealed import SealError, unseal
from pipeline.stopping import check_stop
from pipeline.weights import load_tensors

OF_A_STAGE = ("block", "head", "test_logits")
"""Tensor files that a finished stage must have."""


def successors(stages: Path) -> dict[str, set[str]]:
    """Key of a stage -> the encodings of its output that trained stages started from; damaged records left out."""
    found: dict[str, set[str]] = {}
    for path in sorted(stages.glob("*-*/stage.json")):
        with suppress(CascadeError):  # found when its file's turn comes
            if (record := read_record(path.parent)) and record.j > 0:
                encoding = record.fields.get(f"store.encoding of x_{record.j}")
                encodings = found.setdefault(str(record.fields.get("input")), set())
                encodings.update(known for known in ENCODINGS if known == encoding)
    return found


def check_stage(
    run: RunFolder,
    folder: Path,
    started: Mapping[str, set[str]],
    should_stop: Callable[[], bool],
    *,
    kind: Literal["stage", "experiment"] = "stage",
) -> Checked:
    """Load every file of a stage, or of what is trained beside it, and compare those that its record names with it."""
    what = str(folder.relative_to(run.path))
    try:
        run.check_unlinked(folder)
    except CorruptDataError as error:
        return Checked(what, 0, 0, 0, [Damage(what, first_line(error), remedy_of(error))], kind=kind)
    damage: list[Damage] = []
    j = folder.name.partition("-")[0]
    train = run.command(f"train-stage --j {j}" if kind == "stage" else command_of(folder))
    files = _stage_files(folder, started)
    for path, load in files.items():
        check_stop(should_stop, what)
        try:
            load(path)
        except PermissionError:
            raise  # which says nothing of the file
        except (CascadeError, SealError, StoreError, OSError) as error:
            reason = "it is missing" if isinstance(error, FileNotFoundError) else within(first_line(error), folder)
            remedy = remedy_of(error) or _remedy(path, train)
            damage.append(Damage(f"{what}/{path.name}", reason, remedy))
    if damage and not folder.is_dir():
        return Checked(what, 0, 0, 0, [], GONE)
    nbytes = sum(folder_bytes(path) for path in files)
    return Checked(what, len(files), nbytes, 0, damage, kind=kind)


def _remedy(path: Path, train: str) -> str:
    """What to do about a damaged file of a stage; `train` is the command that trains it."""
    if path.name == "fault.json":
        return f"delete {path}, which is for people alone"
    return f"delete {path if path.name.startswith('scale.') else path.parent} and {train}"  # a scale is taken again


def _stage_files(folder: Path, started: Mapping[str, set[str]]) -> dict[Path, Callable[[Path], object]]:
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
        "fault.json": lambda path: unseal(read_file(path), FaultRecord),
        PROBE_RECORD: lambda path: unseal(read_file(path), LinearRecord),
    }
    files = {path: load for pattern, load in loaders.items() for path in matching(folder, pattern)}
    if (folder / "stage.json").exists():
        files |= {folder / f"{stem}.safetensors": loaders["*.safetensors"] for stem in OF_A_STAGE}
        files[folder / "metrics.jsonl"] = loaders["metrics.jsonl"]
    for encoding in started.get(record.key, ()) if record else ():
        files[folder / f"scale.{encoding}.json"] = loaders["scale.*.json"]
    return files
