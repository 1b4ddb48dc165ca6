"""`cascade probe`: probes of one x_j, or of all, each made once, and their accuracy by depth."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from pipeline.calibration import calibrate_output
from pipeline.errors import ConfigError
from pipeline.experiments.linear import fit_linear
from pipeline.experiments.probes import Kind, LinearRecord, cnn_problem, read_probe
from pipeline.experiments.training import train_beside
from pipeline.lock import is_writable, lock_folder
from pipeline.progress import Reporter, duration
from pipeline.record import StageRecord
from pipeline.runfolder import RunFolder
from pipeline.stopping import check_stop, never
from pipeline.tables import as_json, as_text, new_table


@dataclass(frozen=True)
class Probed:
    """What a probe of x_j came to."""

    j: int
    kind: Kind
    record: LinearRecord | StageRecord


def reachable(run: RunFolder) -> list[int]:
    """All j whose x_j can be had, from the images on: up to the first stage that is not trained."""
    trained = 0
    while trained < len(run.stages) and run.stages[trained].record is not None:
        trained += 1
    return list(range(trained + 1))


def probe(
    run: RunFolder,
    depths: Sequence[int],
    kinds: Sequence[Kind],
    device: torch.device,
    report: Reporter,
    *,
    strict: bool = False,
    should_stop: Callable[[], bool] = never,
) -> list[Probed]:
    """Make the probes of these x_j that are not made; all of them. A folder that cannot be written is enough where all
    are there.

    Raises ConfigError where there is no x_j, RefusedError where a block before it is not trained, LockedError, Stopped.
    """
    for j in depths:
        if not 0 <= j <= len(run.stages):
            raise ConfigError(f"--j {j}: the network has x_0 to x_{len(run.stages)}\nnext: the same with one of them")
    there = [(j, kind, read_probe(run, j, kind)) for kind in kinds for j in depths] if not is_writable(run.path) else []
    found = [Probed(j, kind, record) for j, kind, record in there if record is not None]
    if found and len(found) == len(there):
        return found
    found = []
    with lock_folder(run.path, "probing") as held:
        for kind in kinds:
            for j in depths:
                held.says(f"probing: {kind} on x_{j}")
                found.append(Probed(j, kind, _probed(run, j, kind, device, report, strict, should_stop)))
    return found


def _probed(
    run: RunFolder,
    j: int,
    kind: Kind,
    device: torch.device,
    report: Reporter,
    strict: bool,
    should_stop: Callable[[], bool],
) -> LinearRecord | StageRecord:
    record = read_probe(run, j, kind)
    if record is None:
        check_stop(should_stop, f"{kind} on x_{j}")
        run.anchor(j)
        if j and not run.is_stand_in(j - 1) and not run.stages[j - 1].scale.exists():
            calibrate_output(run, j - 1, device, should_stop=should_stop)  # of x_J, which no stage reads
    if kind != "linear":
        return train_beside(run, cnn_problem(run, j, kind), device, report, strict=strict, should_stop=should_stop)
    if isinstance(record, LinearRecord):
        return record
    return fit_linear(run, j, device, report, should_stop=should_stop)


def probes_json(run: RunFolder, found: Sequence[Probed]) -> str:
    """`{"probes": [{"j", "kind", "key", "input", "test_accuracy", "validation_accuracy", "train_accuracy", "seconds",
    "peak_memory_bytes", "device"}]}`, with `"samples"`, `"c"` of linear ones and `"epochs"` of CNNs."""
    rows = []
    for one in found:
        record = one.record
        own = (
            {"samples": record.samples, "c": record.c, "not_converged": record.not_converged}
            if isinstance(record, LinearRecord)
            else {"epochs": record.epochs}
        )
        shared = ("test_accuracy", "validation_accuracy", "train_accuracy", "seconds", "peak_memory_bytes", "device")
        values = {name: getattr(record, name) for name in shared}
        rows.append({"j": one.j, "kind": one.kind, "key": record.key, "input": record.fields["input"], **values, **own})
    return as_json({"probes": rows})


def probes_table(run: RunFolder, found: Sequence[Probed]) -> str:
    """Test accuracy by depth, a column for each kind, what they took, and what the reader should know."""
    kinds = list(dict.fromkeys(one.kind for one in found))
    table = new_table("x_j", "shape", *(f"{kind} %" for kind in kinds), "time")
    for j in dict.fromkeys(one.j for one in found):
        own = {one.kind: one.record for one in found if one.j == j}
        channels, side = run.input_shape(j)
        cells = [f"{own[kind].test_accuracy:.2f}" for kind in kinds]
        seconds = duration(sum(record.seconds for record in own.values()))
        table.add_row(f"x_{j}", f"{channels}x{side}x{side}", *cells, seconds)
    linear = [(one.j, one.record) for one in found if isinstance(one.record, LinearRecord)]
    return "\n".join([as_text(table), *(f"linear on x_{j}: {record.edge}" for j, record in linear if record.edge)])
