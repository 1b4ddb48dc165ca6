"""What a report warns of."""

import shutil
from pathlib import Path

import msgspec
import pytest

from pipeline.device import choose_device
from pipeline.experiments.report.facts import run_facts
from pipeline.metrics import metrics_content, metrics_lines, read_metrics
from pipeline.opening import open_to_look
from pipeline.record import Session
from pipeline.runfolder import RunFolder
from pipeline.sealed import write_sealed
from tests.reports import reported_run

CPU = choose_device("cpu")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return reported_run(tmp_path_factory.mktemp("facts") / "run")


@pytest.fixture
def run(whole: RunFolder, tmp_path: Path) -> RunFolder:
    return open_to_look(Path(shutil.copytree(whole.path, tmp_path / "run")), (), False)


def test_what_a_reader_must_know_is_warned_of(run: RunFolder) -> None:
    folder, record = run.stages[0], run.stages[0].record
    assert record is not None
    slow = [msgspec.structs.replace(epoch, wait_share=0.5) for epoch in read_metrics(folder)]
    folder.metrics.write_bytes(metrics_lines(slow))
    other = Session(machine={"device": "another"}, epoch=1, consumed=0)
    write_sealed(
        folder.record_path,
        msgspec.structs.replace(record, metrics=metrics_content(slow), sessions=[*record.sessions, other]),
    )
    assert [line for line in run_facts(run).warnings if line.startswith("stage 0")] == [
        "stage 0 was trained on 2 machines, one after the other",
        "stage 0 waited for stored data 50% of its time",
    ]
