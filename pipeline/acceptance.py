"""--accept-stale: stages of another branch stand in for those that are not trained with the present settings.

A run folder has one chain of stages that are there. From the images on, each of its stages was trained on the one
before; it is the one with the present settings where that is trained, else of the others the one from which trained
stages lead farthest, then the one of the fewest differences on the way, then the one with the least key: a time would
be another in a copy. The chain ends where nothing fits. `status` shows it, `evaluate` scores it, and stage j is trained
on its first j stages: so what one command shows another goes on from, and a stage trained so is the chain's from then
on.

A stage with the present settings is never passed over for an old one that leads farther: what was trained on another
block is no good for this one. To go on from there, that stage's settings are set back.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import msgspec

from cascade.quantiser import ENCODINGS
from pipeline.branches import lineage, read_records
from pipeline.config import Config, StageOverrides
from pipeline.keys import differences, fits, key_of
from pipeline.record import Accepted, StageRecord, stage_path
from pipeline.runfolder import RunFolder

Line = list[StageRecord]
"""The stages 0..i, each trained on the one before."""


def accept_stale(run: RunFolder, before: int | None = None) -> RunFolder:
    """The run folder seen with the chain's stages in it, or only with its first `before` ones.

    Those with other settings than the config's stand in for the config's own: the key of the next stage's input is
    then theirs, and nothing made from them can be taken for a fresh result. Where the chain is shorter, the folder says
    what is missing.
    """
    line = chain(run)[:before]
    stale = [stage for stage in line if _changes(run, stage)]
    return RunFolder(
        run.path,
        _with_encodings(run.config, line),
        run.settings,
        stand_ins={stage.j: stage for stage in stale},
        accepted=[Accepted(stage=stage.j, key=stage.key, differences=_changes(run, stage)) for stage in stale],
        accepts_stale=True,
    )


def chain(run: RunFolder) -> Line:
    """The stages that are there to go on from, as the head of this file says; `run` is as the config has it."""
    lines, found = _lines(run), Line()
    counts = {stage.key: len(_changes(run, stage)) for line in lines for stage in line}
    while going_on := [line for line in lines if line[: len(found)] == found and len(line) > len(found)]:
        best = min(going_on, key=lambda line: _rank(line, len(found), counts))
        found.append(best[len(found)])
    return found


def describe_accepted(accepted: Sequence[Accepted]) -> str:
    """As in "stage 0 (train.lr 0.1 -> 0.05), stage 1 (train.lr 0.1 -> 0.05)"."""
    return ", ".join(f"stage {stage.stage} ({'; '.join(stage.differences)})" for stage in accepted)


def _lines(run: RunFolder) -> list[Line]:
    """The line to every trained stage that a network of the config can be made of."""
    records = read_records(run.path / "stages").values()
    usable = {one.key: one for one in records if one.j < len(run.stages) and _can_be_made(run, one)}
    lines = (lineage(record, usable, run.info.digest) for record in usable.values())
    return [line for line in lines if line and _has_scales(run, line)]


def _can_be_made(run: RunFolder, stage: StageRecord) -> bool:
    """Whether a record is whole, and of a stage that the config's network can have."""
    encoding = stage.fields.get(f"store.encoding of x_{stage.j}")
    is_whole = key_of(stage.fields) == stage.key and (stage.j == 0 or encoding in ENCODINGS)
    return is_whole and fits(stage.fields, run.fields[stage.j])


def _has_scales(run: RunFolder, line: Line) -> bool:
    """Whether the x_i between these stages can be had as they were trained on them."""
    encodings = ((before, stage.fields[f"store.encoding of x_{stage.j}"]) for before, stage in pairwise(line))
    return all((_path(run, before) / f"scale.{encoding}.json").exists() for before, encoding in encodings)


def _changes(run: RunFolder, stage: StageRecord) -> list[str]:
    """What of its own settings differs from the config's."""
    return differences(stage.fields, run.fields[stage.j])


def _rank(line: Line, i: int, counts: Mapping[str, int]) -> tuple[bool, int, int, str]:
    """Of lines that part at stage i, the least is gone on with; the key in the end, so that no time decides.

    `counts` are the differences of each stage from the config.
    """
    return counts[line[i].key] > 0, -len(line), sum(counts[stage.key] for stage in line), line[-1].key


def _with_encodings(config: Config, line: Line) -> Config:
    """The config with every x_i between these stages encoded as they were trained on it."""
    overrides = dict(config.stages)
    for stage in line[1:]:
        own = overrides.get(str(stage.j - 1), StageOverrides())
        store = {**own.store, "encoding": stage.fields[f"store.encoding of x_{stage.j}"]}
        overrides[str(stage.j - 1)] = msgspec.structs.replace(own, store=store)
    return msgspec.structs.replace(config, stages=overrides)


def _path(run: RunFolder, record: StageRecord) -> Path:
    return stage_path(run.path / "stages", record.j, record.key)
