"""The epochs of a stage: what is read is what was written, all of it, and of this stage."""

from pathlib import Path

import msgspec
import pytest

from pipeline.device import choose_device
from pipeline.errors import CorruptDataError
from pipeline.metrics import metrics_lines, read_metrics, read_metrics_file
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.sealed import SealError, write_sealed
from pipeline.training import train_stage
from pipeline.verify import verify
from tests.runs import copied, epoch_record, tiny_run

CPU = choose_device("cpu")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Two stages, trained."""
    run = tiny_run(tmp_path_factory.mktemp("whole") / "run")
    for j in range(2):
        train_stage(run, j, CPU, Reporter())
    return run


def test_records_come_back_and_the_first_of_them_where_more_are_there(tmp_path: Path) -> None:
    records = [epoch_record(number) for number in range(3)]
    (tmp_path / "metrics.jsonl").write_bytes(metrics_lines(records))
    assert read_metrics_file(tmp_path / "metrics.jsonl") == records
    assert read_metrics_file(tmp_path / "metrics.jsonl", 2) == records[:2]
    (tmp_path / "metrics.jsonl").write_bytes(metrics_lines(records).replace(b"50.0", b"51.0"))
    with pytest.raises(SealError, match="does not have its checksum"):
        read_metrics_file(tmp_path / "metrics.jsonl")


def test_metrics_of_a_finished_stage_in_the_place_of_anothers_are_told(whole: RunFolder, tmp_path: Path) -> None:
    run = copied(whole, tmp_path / "run")
    assert not [row for row in verify(run, Reporter()) if row.damage]
    first, second = (stage.metrics.read_bytes() for stage in run.stages[:2])
    run.stages[0].metrics.write_bytes(second)
    run.stages[1].metrics.write_bytes(first)
    for stage in run.stages[:2]:
        assert len(read_metrics_file(stage.metrics)) == 2, "whole as they are"
        with pytest.raises(
            CorruptDataError, match=r"it is whole, but not the file that the stage's record names\nnext: delete"
        ):
            read_metrics(stage)
    damage = [damage.file for row in verify(run, Reporter()) for damage in row.damage]
    assert damage == [str(stage.metrics.relative_to(run.path)) for stage in run.stages[:2]]


def test_metrics_that_were_cut_short_are_told(whole: RunFolder, tmp_path: Path) -> None:
    run = copied(whole, tmp_path / "run")
    path = run.stages[0].metrics
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(CorruptDataError, match=r"metrics.jsonl is damaged: it holds 1 of 2 epochs\nnext: delete"):
        read_metrics(run.stages[0])
    (damage,) = [damage for row in verify(run, Reporter()) for damage in row.damage]
    assert damage.reason == "it holds 1 of 2 epochs"


@pytest.mark.parametrize("fields", [{}, {"train.epochs": "many"}])
def test_a_record_that_does_not_say_how_many_epochs_there_were_is_no_bug(
    whole: RunFolder, tmp_path: Path, fields: dict[str, object]
) -> None:
    run = copied(whole, tmp_path / "run")
    stage = run.stages[0]
    assert stage.record is not None
    write_sealed(stage.record_path, msgspec.structs.replace(stage.record, fields=fields))
    assert len(read_metrics(stage)) == 2
    assert not [row for row in verify(run, Reporter()) if row.damage]


def test_a_record_that_names_no_metrics_is_no_record(whole: RunFolder, tmp_path: Path) -> None:
    stage = copied(whole, tmp_path / "run").stages[0]
    assert stage.record is not None
    write_sealed(stage.record_path, msgspec.structs.replace(stage.record, metrics=""))
    with pytest.raises(CorruptDataError, match="it is whole, but not the file that the stage's record names"):
        read_metrics(stage)
