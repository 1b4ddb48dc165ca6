"""Sealed records: readable, and no byte of them changes unnoticed."""

import errno
import json
import os
from pathlib import Path

import msgspec
import pytest

from pipeline.errors import CorruptDataError
from pipeline.metrics import read_metrics_file
from pipeline.sealed import SealError, read_sealed, seal, seal_line, unseal, write_sealed


class Record(msgspec.Struct, frozen=True):
    name: str
    accuracy: float
    counts: dict[str, int]


RECORD = Record('a "sha256": "0"} of digits, é', 87.61, {"block": 88, "head": 938})


@pytest.mark.parametrize("sealed", [seal, seal_line])
def test_every_flipped_bit_and_every_cut_is_noticed(sealed) -> None:  # type: ignore[no-untyped-def]
    data = sealed(RECORD)
    assert unseal(data, Record) == RECORD
    for place in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[place] ^= 1 << bit
            with pytest.raises(SealError):
                unseal(bytes(flipped), Record)
        with pytest.raises(SealError):
            unseal(data[:place], Record)
    for changed in (data + b" ", b" " + data, data + data, data.replace(b"87.61", b"88.61")):
        with pytest.raises(SealError):
            unseal(changed, Record)


def test_a_sealed_record_is_json_for_people_and_other_programs() -> None:
    content = json.loads(seal(RECORD))
    assert content.pop("sha256") == json.loads(seal(RECORD))["sha256"]
    assert content == msgspec.to_builtins(RECORD)
    assert b'\n  "accuracy": 87.61,\n' in seal(RECORD)
    assert seal_line(RECORD).count(b"\n") == 1


def test_a_record_of_another_kind_or_without_a_checksum_is_refused(tmp_path: Path) -> None:
    class Other(msgspec.Struct):
        j: int

    with pytest.raises(SealError, match="missing required field `j`"):
        unseal(seal(RECORD), Other)
    with pytest.raises(SealError, match="does not end in a checksum"):
        unseal(msgspec.json.encode(RECORD), Record)


@pytest.mark.parametrize("call", ["open", "fstat"])
def test_a_record_that_the_disk_cannot_read_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "stage.json"
    write_sealed(path, RECORD)

    def fails(*arguments: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails)
        with pytest.raises(CorruptDataError) as caught:
            read_sealed(path, Record, remedy="do so")
    assert str(caught.value) == f"{path} cannot be read: Input/output error\nnext: do so"


def test_a_damaged_file_is_named_with_its_remedy(tmp_path: Path) -> None:
    path = tmp_path / "stage.json"
    assert read_sealed(path, Record, remedy="train again") is None
    write_sealed(path, RECORD)
    assert read_sealed(path, Record, remedy="train again") == RECORD
    path.write_bytes(path.read_bytes().replace(b"87.61", b"97.61"))
    with pytest.raises(CorruptDataError) as caught:
        read_sealed(path, Record, remedy="train again")
    assert str(caught.value) == f"{path} is damaged: its content does not have its checksum\nnext: train again"


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_file_is_neither_followed_nor_waited_for(tmp_path: Path, kind: str) -> None:
    path, elsewhere = tmp_path / "stage.json", tmp_path / "elsewhere"
    write_sealed(elsewhere, RECORD)
    if kind == "link":
        path.symlink_to(elsewhere)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(CorruptDataError, match=rf"{path} is not a file.*\nnext: train again"):
        read_sealed(path, Record, remedy="train again")
    with pytest.raises(SealError, match="is not a file"):
        read_metrics_file(path)


def test_a_record_larger_than_any_is_damaged_and_not_read(tmp_path: Path) -> None:
    (tmp_path / "record.json").touch()
    os.truncate(tmp_path / "record.json", 2**40)
    with pytest.raises(
        CorruptDataError, match=r"it has 1,099,511,627,776 bytes, and 67,108,864 at most.*\nnext: do so"
    ):
        read_sealed(tmp_path / "record.json", Record, remedy="do so")


def test_a_file_where_a_folder_belongs_is_the_one_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "stages").touch()
    with pytest.raises(CorruptDataError, match=f"^{tmp_path / 'stages'} is no folder\nnext: do so"):
        read_sealed(tmp_path / "stages" / "0-abc" / "stage.json", Record, remedy="do so")
