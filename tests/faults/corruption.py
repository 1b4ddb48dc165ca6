"""A committed run folder, damaged in every way and read: an error that names the file, and never other numbers."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import torch

from cache import MANIFEST, NoStoreError, Store
from pipeline.config_file import load_config
from pipeline.evaluation import kept_logits
from pipeline.failure import failure
from pipeline.metrics import read_metrics
from pipeline.networks import load_block, load_head, read_encoding
from pipeline.runfolder import RunFolder
from tests.faults import damage
from tests.faults.campaign import Failure, Report, sampled
from tests.faults.damage import Damage, Files
from tests.faults.tiny import LOCK

Numbers = dict[str, bytes]
"""All that was read, by name."""
Verdict = Literal["named", "unnamed", "another error", "silent", "harmless"]
"""An error with exit code 3 or 4 that names the file; that does not; any other exception; no error and other numbers;
no error and the same numbers."""
WRONG: tuple[Verdict, ...] = ("silent", "another error", "unnamed")
COMMITS = (MANIFEST, "stage.json", "ingest.json")
"""Files without which what they commit does not exist, by design, and is made again."""


@dataclass(frozen=True)
class Subject:
    """Some files, and what is read of them."""

    name: str
    folder: Path
    files: Files
    read: Callable[[Path], Numbers]
    """What a program would take from the folder."""
    others: Files
    """The same files of another run."""


def read_store(path: Path) -> Numbers:
    """Everything in a store."""
    store = Store(path)
    chunk = np.empty((store.chunk_samples, *store.stored_shape), store.dtype)
    numbers = {name: getattr(store, name).tobytes() for name in ("y", "sample_id", "scale")}
    for view in range(store.views):
        for number in range(store.chunks_per_view):
            store.read_chunk(view, number, chunk)
            numbers[f"x {view} {number}"] = chunk.tobytes()
    of_store = {name: store.attributes[name] for name in ("format", "encoding")}
    return {**numbers, "what it is": repr((of_store, store.views, store.samples, store.sample_shape)).encode()}


def read_run(path: Path) -> Numbers:
    """Everything in a run folder but its stores."""
    run = RunFolder(path, load_config(path))
    numbers = {"data": msgspec.json.encode(run.info)}
    y = torch.from_numpy(run.open_store(0, "test").y)
    for j, stage in enumerate(run.stages):
        numbers[f"record {j}"] = msgspec.json.encode(stage.record)
        numbers[f"metrics {j}"] = msgspec.json.encode(read_metrics(stage))
        if j + 1 < len(run.stages):
            numbers[f"encoding {j}"] = msgspec.json.encode(read_encoding(run, j))
        for name, module in (("block", load_block(run, j)), ("head", load_head(run, j))):
            for key, tensor in module.state_dict().items():
                numbers[f"{name} {j} {key}"] = tensor.numpy().tobytes()
        numbers[f"outputs {j}"] = kept_logits(run, j, y).numpy().tobytes()
    return numbers


def files_of(folder: Path, *, is_run: bool) -> Files:
    """The files of a store; of a run folder those outside its stores that are not the user's."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in ("cascade.toml", LOCK)]
    if is_run:
        stores = [path.parent for path in folder.rglob(MANIFEST)]
        paths = [path for path in paths if not any(store in path.parents for store in stores)]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def subjects(run: Path, other: Path) -> Iterator[Subject]:
    """Every store of a run folder, and what else is in it; `other` is the folder of a run of another seed."""
    stores = {_place(manifest, run): manifest.parent for manifest in sorted(run.rglob(MANIFEST))}
    strange = {_place(manifest, other): manifest.parent for manifest in other.rglob(MANIFEST)}
    for place, store in stores.items():
        others = files_of(strange[place], is_run=False)
        yield Subject(place, store, files_of(store, is_run=False), read_store, others)
    yield Subject("records and weights", run, files_of(run, is_run=True), read_run, {})


def _place(manifest: Path, run: Path) -> str:
    """A store's path without the stage's key."""
    parts = manifest.parent.relative_to(run).parts
    return "/".join(part.partition("-")[0] if parts[i - 1] == "stages" else part for i, part in enumerate(parts))


def damages(subject: Subject, seed: int) -> Iterator[Damage]:
    """Every damage to a subject's files."""
    files = subject.files
    kept = {path: data for path, data in files.items() if Path(path).name not in COMMITS and "scale." not in path}
    return chain(
        damage.flips(files, seed),
        damage.cuts(files),
        damage.additions(files),
        damage.zeros(files),
        damage.deletions(kept),
        damage.swaps(files),
        damage.strangers({path: data for path, data in files.items() if "/c." in path}, subject.others),
    )


def _trials(count: int | None) -> str:
    return "" if count is None else f" --trials {count}"


def judge(subject: Subject, truth: Numbers, case: Damage) -> tuple[Verdict, str]:
    """What reading a damaged subject comes to, and the message of its error."""
    with damage.applied(subject.folder, subject.files, case):
        try:
            numbers = subject.read(subject.folder)
        except Exception as error:  # whatever it is, it is what is asked about
            return _judge_error(error, case), f"{type(error).__name__}: {error}"
    changed = [name for name in truth.keys() | numbers.keys() if truth.get(name) != numbers.get(name)]
    return ("silent", f"no error, and {changed[0]} is another") if changed else ("harmless", "")


def _judge_error(error: Exception, case: Damage) -> Verdict:
    known = failure(error)
    if known is None or known[1] not in (3, 4):
        return "another error"
    is_named = any(path in known[0] for path in case.now) or (isinstance(error, NoStoreError) and MANIFEST in case.now)
    return "named" if is_named else "unnamed"


def corruption(run: Path, other: Path, *, count: int | None = None, seed: int = 0, only: str = "") -> Iterator[Report]:
    """A report for each subject, or for those with `only` in their names, on `count` of its damages or on all."""
    for subject in subjects(run, other):
        if only not in subject.name:
            continue
        truth = subject.read(subject.folder)
        cases = sampled(list(damages(subject, seed)), count, seed)
        judged = [(case, *judge(subject, truth, case)) for case in cases]
        yield report(subject, judged, f"corrupt --seed {seed} --only {subject.name!r}" + _trials(count))


def report(subject: Subject, judged: list[tuple[Damage, Verdict, str]], replay: str) -> Report:
    """The counts, and of the wrong verdicts the first of each sort and file."""
    counts = Counter(verdict for _, verdict, _ in judged)
    harmless = Counter(path for case, verdict, _ in judged if verdict == "harmless" for path in case.now)
    failures: dict[tuple[Verdict, str], Failure] = {}
    for case, verdict, message in judged:
        path = next(iter(case.now))
        if verdict in WRONG:
            what = f"{verdict}: {path} {case.name}: {' '.join(message.splitlines()[:1])}"
            failures.setdefault((verdict, path), Failure(what, f"python -m tests.faults {replay}"))
    note = ", ".join(f"{counts[verdict]:,} {verdict}" for verdict in ("named", *WRONG, "harmless") if counts[verdict])
    where = f" (in {', '.join(f'{path} {n}' for path, n in harmless.most_common(4))})" if harmless else ""
    return Report(f"damage to {subject.name}", len(judged), list(failures.values()), note + where)
