"""Refits: what of a run folder is one."""

from pathlib import Path

import pytest

from pipeline.device import choose_device
from pipeline.errors import ConfigError, Stopped
from pipeline.experiments.refit import refit_last
from pipeline.gc import find_garbage
from pipeline.progress import Reporter
from pipeline.refits import find_refits, with_last_head
from pipeline.runfolder import RunFolder
from pipeline.status import other_branches, refit_status
from pipeline.training import train_stage
from tests.runs import reopened, tiny_run

CPU = choose_device("cpu")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Two stages, trained, the second with a head of 8 channels: the network samples down at 1."""
    found = tiny_run(tmp_path / "run")
    for j in range(2):
        train_stage(found, j, CPU, Reporter())
    return found


def widths(run: RunFolder) -> list[int]:
    return [refit.head_width for refit in find_refits(run)]


def test_a_trained_run_has_no_refit(run: RunFolder) -> None:
    assert widths(run) == []


def test_refits_are_found_by_their_width_and_the_stage_is_none_of_them(run: RunFolder) -> None:
    for width in (12, 6):
        refit_last(run, width, "cpu", Reporter())
    assert widths(run) == [6, 12]
    assert all(refit.folder.key != run.stages[-1].key for refit in find_refits(run))
    assert widths(with_last_head(run, 12)) == [6, 8], "seen from one of them the others are"


def test_a_refit_that_has_only_begun_is_one(run: RunFolder) -> None:
    with pytest.raises(Stopped):
        _stopped(run, 6, after=2)
    assert widths(run) == [6]
    row = refit_status(find_refits(run)[0])
    assert (row.state, row.test_accuracy) == ("partial", None)
    assert "--set stages.1.head.width=3" in row.reason


def test_no_refit_is_garbage_nor_another_branch(run: RunFolder) -> None:
    refit_last(run, 6, "cpu", Reporter())
    with pytest.raises(Stopped):
        _stopped(run, 12, after=2)
    assert [one for one in find_garbage(run) if one.kind != "store"] == []
    assert other_branches(run) == []


def test_a_last_stage_with_another_learning_rate_too_is_no_refit(run: RunFolder) -> None:
    of_another = with_last_head(reopened(run.path, "stages.1.train.lr=0.05"), 6)
    train_stage(of_another, 1, CPU, Reporter())
    assert widths(run) == []
    assert [one.path.name for one in find_garbage(run) if one.kind == "branch"] == [of_another.stages[-1].path.name]


def test_refits_on_other_blocks_are_none_of_the_runs(run: RunFolder) -> None:
    refit_last(run, 6, "cpu", Reporter())
    assert widths(reopened(run.path, "stages.0.train.lr=0.05")) == []


def test_a_width_between_those_that_the_down_samplings_allow_is_refused(run: RunFolder) -> None:
    with pytest.raises(ConfigError, match=r"a last head of 7 channels: expected a multiple of 2.*\nnext: 6 or 8"):
        with_last_head(run, 7)


def test_a_head_without_hidden_layers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"head.k = 1: .*\nnext: a network whose head.k is 2"):
        with_last_head(tiny_run(tmp_path / "run", "head.k=1"), 8)


def _stopped(run: RunFolder, width: int, *, after: int) -> None:
    """Refit until so many steps are done."""
    asked = iter([False] * after)
    refit_last(run, width, "cpu", Reporter(), should_stop=lambda: next(asked, True))
