"""--accept-stale: stages of another branch stand in for those that are not trained with the present settings."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from cascade.quantiser import ENCODINGS
from pipeline.branches import changes, lineage, read_records
from pipeline.config import Config, StageOverrides
from pipeline.keys import differences, fits, key_of
from pipeline.record import Accepted, StageRecord, stage_path
from pipeline.runfolder import RunFolder


def accept_stale(run: RunFolder, before: int) -> RunFolder:
    """The run folder in which stages of another branch stand in for what is not trained of the stages up to `before`.

    The last of them decides. A stage trained on x_i is only as good as the blocks that made x_i, so with it come all
    the stages that it was trained on: the branch with the fewest differences from the config, the newest of equals.
    Its key is then the input's key of the next stage, and nothing made from it can be taken for a fresh result.

    Where not even the last has a branch that fits, those before it are looked at, and the folder says what is missing.
    """
    records = read_records(run.path / "stages")
    for i in range(before - 1, -1, -1):
        lines = [line for record in records.values() if record.j == i and (line := _fitting(run, record, records))]
        if lines:
            return _standing_in(run, min(lines, key=lambda line: _distance(run, line)), records)
    return RunFolder(run.path, run.config, run.settings, accepts_stale=True)


def describe_accepted(accepted: Sequence[Accepted]) -> str:
    """As in "stage 0 (train.lr 0.1 -> 0.05), stage 1 (train.lr 0.1 -> 0.05)"."""
    return ", ".join(f"stage {stage.stage} ({'; '.join(stage.differences)})" for stage in accepted)


def _fitting(run: RunFolder, record: StageRecord, records: Mapping[str, StageRecord]) -> list[StageRecord] | None:
    """The stages that led to a trained one, where the network of the config can be made of them."""
    line = lineage(record, records, run.info.digest)
    if line is None or not all(_can_be_made(run, stage) for stage in line):
        return None
    if _is_fresh(run, line[-1]):
        return line
    config = _with_encodings(run.config, line)
    encodings = ((stage, config.for_stage(stage.j).store.encoding) for stage in line if stage.j + 1 < len(run.stages))
    have_scales = all((_path(run, stage) / f"scale.{encoding}.json").exists() for stage, encoding in encodings)
    return line if have_scales else None


def _can_be_made(run: RunFolder, stage: StageRecord) -> bool:
    """Whether a record is whole, and of a stage that the config's network can have."""
    encoding = stage.fields.get(f"store.encoding of x_{stage.j}")
    is_whole = key_of(stage.fields) == stage.key and (stage.j == 0 or encoding in ENCODINGS)
    return is_whole and fits(stage.fields, run.fields[stage.j])


def _distance(run: RunFolder, line: Sequence[StageRecord]) -> tuple[int, int]:
    """The number of differences from the config, and then how old it is."""
    count = sum(len(differences(stage.fields, run.fields[stage.j])) for stage in line)
    return count, -(_path(run, line[-1]) / "stage.json").stat().st_mtime_ns


def _standing_in(run: RunFolder, line: Sequence[StageRecord], records: Mapping[str, StageRecord]) -> RunFolder:
    """The run folder with these stages in it, which x_i their encodings rounded included."""
    accepted = [
        Accepted(stage=stage.j, key=stage.key, differences=changes(stage.j, stage.fields, run.fields, records))
        for stage in line
        if not _is_fresh(run, stage)
    ]
    return RunFolder(
        run.path,
        _with_encodings(run.config, line),
        run.settings,
        stand_ins={one.stage: line[one.stage] for one in accepted},
        accepted=accepted,
        accepts_stale=True,
    )


def _with_encodings(config: Config, line: Sequence[StageRecord]) -> Config:
    """The config with every x_i between these stages encoded as they were trained on it."""
    overrides = dict(config.stages)
    for stage in line[1:]:
        own = overrides.get(str(stage.j - 1), StageOverrides())
        store = {**own.store, "encoding": stage.fields[f"store.encoding of x_{stage.j}"]}
        overrides[str(stage.j - 1)] = msgspec.structs.replace(own, store=store)
    return msgspec.structs.replace(config, stages=overrides)


def _is_fresh(run: RunFolder, record: StageRecord) -> bool:
    return record.key == run.stages[record.j].key


def _path(run: RunFolder, record: StageRecord) -> Path:
    return stage_path(run.path / "stages", record.j, record.key)
