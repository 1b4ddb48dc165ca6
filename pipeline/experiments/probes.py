"""Probes: what a probe of x_j is, what it depends on, and where its result is kept (Sec. 4.2)."""

from dataclasses import replace
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from cascade import StageShape
from cascade.heads import QUADRANTS
from pipeline.errors import ConfigError, CorruptDataError
from pipeline.experiments.places import PROBE_RECORD, PROBES
from pipeline.keys import Fields, key_of, stage_fields
from pipeline.problem import Problem
from pipeline.record import Accepted, StageRecord
from pipeline.runfolder import RunFolder
from pipeline.sealed import read_sealed
from pipeline.stage_folder import StageFolder

Kind = Literal["linear", "cnn-1", "cnn-2"]
"""Logistic regression on x_j averaged to 2 x 2, or a CNN of one or two hidden layers on x_j."""
KINDS: tuple[Kind, ...] = get_args(Kind)
LAYERS = {"cnn-1": 1, "cnn-2": 2}
ALGORITHM = 2
"""Of linear probes; raised by hand when a change of linear.py, its constants among it, changes what comes out."""


class LinearRecord(msgspec.Struct, frozen=True, kw_only=True):
    """probe.json: what a linear classifier makes of x_j."""

    j: Annotated[int, Meta(ge=0)]
    """Of the x_j."""
    key: str
    """Hash of `fields`."""
    fields: dict[str, Any]
    """Everything that determined the result; `input` is the key of the stage that made x_j, or of the images."""
    accepted: list[Accepted] = []
    """The stages before it that were accepted though their settings were not those of the config."""
    samples: int
    """Training samples that it was fitted on."""
    c: float
    """The inverse strength of the regularisation that was chosen."""
    held_out_accuracy: dict[str, float]
    """Percent, of each C that was tried, on the training samples that were held out to choose it."""
    train_accuracy: float
    """Percent, on the samples that it was fitted on."""
    validation_accuracy: float | None
    """Percent; None where nothing is held out."""
    test_accuracy: float
    """Percent."""
    not_converged: int
    """Classes whose last fit was ended before it converged."""
    seconds: float
    peak_memory_bytes: int
    """Of the device; on the CPU, of the process."""
    device: str
    """What made x_j."""
    machine: dict[str, Any]
    """Versions, precision and thread count."""

    @property
    def edge(self) -> str:
        """Whether the C that was chosen is the least or the largest of those tried, and another may be better still, in
        words; "" where it lies between."""
        tried = sorted(float(c) for c in self.held_out_accuracy)
        ends = {tried[0]: "least", tried[-1]: "largest"} if tried else {}
        return f"C = {self.c:g} is the {ends[self.c]} that was tried" if self.c in ends else ""


def cnn_problem(run: RunFolder, j: int, kind: Kind) -> Problem:
    """A head of one or two hidden layers on x_j, trained as a stage is, in its order and augmentation.

    It is the first stage's head but for its layers, its width doubled with the blocks up to x_j. Raises ConfigError.
    """
    config, (channels, side) = run.config, run.input_shape(j)
    growth = run.shapes[j - 1].before_cut.out_channels // config.network.width if j else 1
    first = config.for_stage(0).head
    head = msgspec.structs.replace(first, k=LAYERS[kind] + 1, width=growth * first.width, similarity=0.0)
    if side // head.pool < QUADRANTS:
        raise ConfigError(f"head.pool = {head.pool}: x_{j} has {side}x{side} pixels, too few for a probe that pools so")
    shape = replace(_entry(run, j), out_channels=channels, out_side=side, downsample=None, head_width=head.width)
    own = msgspec.structs.replace(config, head=head, train=config.probe_train, stages={})
    fields = {**stage_fields(own, shape, **_known(run, j)), **_made(run, j), "of": kind}
    return Problem(
        what=f"{kind} on x_{j}",
        j=j,
        blocks=range(0),
        shape=shape,
        head=head,
        head_of=j,
        train=config.probe_train,
        fields=fields,
        folder=_folder(run, j, fields),
        section="probe",
    )


def linear_fields(run: RunFolder, j: int) -> Fields:
    """Everything that determines the linear probe of x_j."""
    fields = {**stage_fields(run.config, _entry(run, j), **_known(run, j)), **_made(run, j)}
    kept = {name: value for name, value in fields.items() if not name.startswith(("train.", "head."))}
    return {
        **kept,
        "of": "linear",
        "probe.algorithm": ALGORITHM,
        "probe.samples": min(run.config.probe.samples, run.info.samples["train"]),
    }


def probe_folder(run: RunFolder, j: int, kind: Kind) -> StageFolder:
    """Where a probe's result lies."""
    return _folder(run, j, linear_fields(run, j)) if kind == "linear" else cnn_problem(run, j, kind).folder


def read_probe(run: RunFolder, j: int, kind: Kind) -> LinearRecord | StageRecord | None:
    """What a probe came to; None where it was not made. Raises CorruptDataError."""
    folder = probe_folder(run, j, kind)
    run.check_unlinked(folder.path)
    if kind != "linear":
        return folder.record
    remedy = f"delete {folder.path} and {run.command(f'probe --j {j} --kind linear')}"
    record = read_sealed(folder.path / PROBE_RECORD, LinearRecord, remedy=remedy)
    if record is not None and record.key != folder.key:
        raise CorruptDataError(f"{folder.path / PROBE_RECORD} is the record of another probe\nnext: {remedy}")
    return record


def _folder(run: RunFolder, j: int, fields: Fields) -> StageFolder:
    return StageFolder(run.path / PROBES, j, key_of(fields), "", "")


def _entry(run: RunFolder, j: int) -> StageShape:
    """Of x_j as what a stage reads, j up to J, and nothing that this stage makes of it."""
    channels, side = run.input_shape(j)
    first = run.shapes[0]
    return replace(
        first, j=j, in_channels=channels, in_side=side, out_channels=channels, downsample=None, cut_from=None
    )


def _known(run: RunFolder, j: int) -> Fields:
    input_key = run.stages[j - 1].key if j else run.info.digest
    return {"side": run.side, "classes": run.classes, "input_key": input_key}


def _made(run: RunFolder, j: int) -> Fields:
    """How x_j is rounded, which a stage may have set of its own."""
    return {f"store.encoding of x_{j}": run.config.for_stage(j - 1).store.encoding} if j else {}
