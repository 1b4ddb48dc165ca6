"""Branches: stages trained with other settings than the config's, which stay beside those trained with them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.keys import Fields, differences
from pipeline.record import StageRecord, read_record


def read_records(stages: Path) -> dict[str, StageRecord]:
    """Key -> record of every trained stage in the folder `stages`, of whatever branch. Raises CorruptDataError."""
    records = (read_record(path.parent) for path in sorted(stages.glob("[!.]*-*/stage.json")))
    return {record.key: record for record in records if record is not None}


def changes(j: int, then: Fields, now: Sequence[Fields], records: Mapping[str, StageRecord]) -> list[str]:
    """What differs between stage j as it was trained and as the config has it; `now` are the fields of every stage.

    Where nothing of its own does, the first change on the way to the images, as in "input: stage 1 train.lr 0.1 ->
    0.05".
    """
    i, fields = j, then
    while not (own := differences(fields, now[i])):
        if fields.get("input") == now[i]["input"]:
            return []
        if i == 0:
            return ["the images changed"]
        before = records.get(str(fields.get("input")))
        if before is None or before.j != i - 1:
            return ["its input changed"]
        i, fields = i - 1, before.fields
    return own if i == j else [f"input: stage {i} {', '.join(own)}"]


def nearest_changes(j: int, now: Sequence[Fields], records: Mapping[str, StageRecord]) -> list[str]:
    """What differs between stage j in the branch nearest to the config, and the config; none where there is none."""
    others = [
        changes(j, record.fields, now, records)
        for record in records.values()
        if record.j == j and record.fields != now[j]
    ]
    return min(others, key=len, default=[])


def lineage(record: StageRecord, records: Mapping[str, StageRecord], digest: str) -> list[StageRecord] | None:
    """The stages 0..j that led to a trained stage j, from images of this digest; None where one is gone."""
    line = [record]
    while line[0].j > 0:
        before = records.get(str(line[0].fields.get("input")))
        if before is None or before.j != line[0].j - 1:
            return None
        line.insert(0, before)
    return line if line[0].fields.get("input") == digest else None
