"""What is trained beside the stages, as it is listed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.device import choose_device
from pipeline.errors import Stopped
from pipeline.experiments.baseline import train_baseline
from pipeline.experiments.end_to_end import end_to_end
from pipeline.experiments.overview import beside, reached, why_not_reached
from pipeline.experiments.places import command_of
from pipeline.gc import find_garbage
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from tests.runs import copied, reopened, tiny_run

CPU = choose_device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A network of two stages, trained end to end."""
    run = tiny_run(tmp_path_factory.mktemp("whole") / "run")
    train_baseline(run, CPU, Reporter())
    return run


def states(run: RunFolder) -> list[tuple[str, str]]:
    return [(one.what, one.state) for one in beside(run)]


def test_nothing_is_listed_where_nothing_was_begun(tmp_path: Path) -> None:
    assert beside(tiny_run(tmp_path / "run")) == []


def test_it_is_done_and_of_other_settings_stale(run: RunFolder) -> None:
    assert states(run) == [("end to end", "done")]
    (row,) = beside(reopened(run.path, "baseline.train.lr=0.5"))
    assert (row.state, row.reason) == ("stale", "train.lr 0.1 -> 0.5")


def test_a_file_that_is_missing_is_damage_and_the_remedy_is_named(run: RunFolder, tmp_path: Path) -> None:
    ours = copied(run, tmp_path / "ours")
    folder = end_to_end(ours).folder
    folder.head.unlink()
    (row,) = beside(ours)
    assert row.state == "damaged"
    assert row.reason == f"head.safetensors missing: delete {folder.path} and cascade baseline --run {ours.path}"


def test_one_that_was_stopped_says_how_far_it_is(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run")
    answers: Iterator[bool] = iter([False, True])
    with pytest.raises(Stopped):
        train_baseline(run, CPU, Reporter(), should_stop=lambda: next(answers))
    (row,) = beside(run)
    assert (row.state, row.reason) == ("partial", f"0 of 2 epochs and 16 images: cascade baseline --run {run.path}")
    assert not [one for one in find_garbage(run) if one.path.parent.name == "baselines"], "it will go on"
    other = reopened(run.path, "baseline.train.lr=0.5")
    (garbage,) = [one for one in find_garbage(other) if one.path.parent.name == "baselines"]
    assert garbage.why == "end to end with other settings, not finished"


def test_what_is_of_other_settings_is_told_from_what_the_config_describes(run: RunFolder) -> None:
    path, other = end_to_end(run).folder.path, reopened(run.path, "baseline.head_width=16")
    assert path in reached(run)
    assert path not in reached(other)
    accuracy = f"{beside(run)[0].test_accuracy:.2f}"
    expected = f"end to end with other settings, test {accuracy}%: head.width 8 -> 16"
    assert why_not_reached(other, path) == expected
    assert [one.why for one in find_garbage(other) if one.path == path] == [expected]


def test_every_folder_has_the_command_that_fills_it() -> None:
    assert command_of(Path("run/baselines/3-01234567")) == "baseline"
    assert command_of(Path("run/probes/2-01234567")) == "probe --j 2"
