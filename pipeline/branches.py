"""Branches: stages trained with other settings than the config's, which stay beside those trained with them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.keys import Fields, differences, key_of
from pipeline.record import StageRecord, read_record


def read_records(stages: Path) -> dict[str, StageRecord]:
    """Key -> record of every trained stage in the folder `stages`, of whatever branch. Raises CorruptDataError.

    Links to other folders are none of it.
    """
    folders = sorted(path.parent for path in stages.glob("[!.]*-*/stage.json"))
    records = (read_record(folder) for folder in folders if not folder.is_symlink())
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
            return [f"the stage {i - 1} that it was trained on is gone"]
        i, fields = i - 1, before.fields
    return own if i == j else [f"input: stage {i} {', '.join(own)}"]


def nearest_changes(j: int, now: Sequence[Fields], records: Mapping[str, StageRecord]) -> list[str]:
    """What differs between stage j in the branch nearest to the config, and the config; none where there is none.

    Only branches that go on from the last stage before j that is trained with the config's settings are compared, or,
    where none is, all: others have nothing to do with what is there. Nor is a stage stale that was there and was
    deleted, as one trained on it shows.
    """
    if key_of(now[j]) in {record.fields.get("input") for record in records.values()}:
        return []
    fresh = next((key for fields in reversed(now[:j]) if (key := key_of(fields)) in records), None)
    ways = [_way(record, records) for record in records.values() if record.j == j and record.fields != now[j]]
    related = [way for way in ways if fresh is None or fresh in [record.key for record in way]]
    if not related:
        return []
    nearest = min(related, key=lambda way: (way[0].j, sum(len(differences(one.fields, now[one.j])) for one in way)))
    return changes(j, nearest[-1].fields, now, records)


def _way(record: StageRecord, records: Mapping[str, StageRecord]) -> list[StageRecord]:
    """The stages that led to a trained one, those before one that is gone left out."""
    way = [record]
    while (before := records.get(str(way[0].fields.get("input")))) and before.j == way[0].j - 1:
        way.insert(0, before)
    return way


def lineage(record: StageRecord, records: Mapping[str, StageRecord], digest: str) -> list[StageRecord] | None:
    """The stages 0..j that led to a trained stage j, from images of this digest; None where one is gone."""
    way = _way(record, records)
    return way if way[0].j == 0 and way[0].fields.get("input") == digest else None
