"""A run whose stores the config names is refused before it begins where they surely do not fit, and so is its plan."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.disk import folder_bytes
from pipeline.presets import write_preset
from pipeline.progress import size
from pipeline.runfolder import RunFolder
from pipeline.training import train_stage
from tests.conftest import Outcome
from tests.runs import SMALL, digits_run, reopened
from tests.test_plan import made_up_rates

SETTINGS = (
    "network.stages=4",
    "network.downsample_at=[2]",
    "train.epochs=1",
    "augment.policy=none",
    "store.codec=none",
    "network.width=4",
    "head.width=4",
)
MADE_UP = 6_000
"""Bytes that the made up machine of a plan has in fewer letters than the one that writes the stores."""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.setattr("pipeline.planning.rates_of", lambda *_, **__: made_up_rates(4))
    return digits_run(tmp_path / "run", *SETTINGS)


def needed(cascade: Callable[..., Outcome], run: RunFolder, keep: str) -> int:
    """Bytes of disk that a run takes, as its plan has them where there is next to nothing."""
    options = ("--run", run.path, "--set", f"cache.keep={keep}", "--disk", "10 KB")
    code, out, _ = cascade("plan", *options, "--json")
    assert code == 6
    return int(msgspec.json.decode(out)["needs_bytes"])


@pytest.mark.parametrize("keep", ["all", "needed", "none", "[2]", "[2,4]"])
def test_what_surely_does_not_fit_is_refused_before_anything_is_trained(
    run: RunFolder, cascade: Callable[..., Outcome], keep: str
) -> None:
    budget = needed(cascade, run, keep)
    for command in ("run", "plan"):
        options = ("--run", run.path, "--set", f"cache.keep={keep}", "--disk", budget - 5_000)
        code, out, err = cascade(command, *options)
        assert code == 6, err
        assert "and what is kept beside, take " in err
        assert f"more than there is of budget.disk, {size(budget - 5_000)}\nnext: --disk " in err
        assert command == "run" or "\ndoes not fit: x_0" in out
    assert not list(run.path.glob("stages/*/*"))
    assert cascade("run", "--run", run.path, "--set", f"cache.keep={keep}", "--disk", budget + MADE_UP)[0] == 0
    assert folder_bytes(run.path) <= budget + MADE_UP
    assert "not fit" not in cascade("plan", "--run", run.path, "--set", f"cache.keep={keep}", "--disk", budget)[1]


def test_the_budget_that_is_advised_suffices(run: RunFolder, cascade: Callable[..., Outcome]) -> None:
    options = ("--run", run.path, "--set", "cache.keep=all")
    err = cascade("run", *options, "--disk", "300 KB")[2]
    (advised,) = re.findall(r"next: --disk '(.*?)'", err)
    code, _, err = cascade("run", *options, "--disk", advised)
    assert code == 0, err


def test_what_else_fits_is_named_and_nothing_that_does_not(run: RunFolder, cascade: Callable[..., Outcome]) -> None:
    def advice(budget: int) -> str:
        return cascade("run", "--run", run.path, "--set", "cache.keep=all", "--disk", budget)[2].partition("next: ")[2]

    every, pairs, none = (needed(cascade, run, keep) for keep in ("all", "needed", "none"))
    assert every > pairs + 100_000 > none
    assert "; or cache.keep = auto or needed or none; or store.codec = zstd, which may suffice" in advice(pairs + 3_000)
    assert "; or cache.keep = auto or none; or store.codec = zstd" in advice(pairs - 3_000)
    assert "cache.keep" not in advice(none - 3_000)
    assert "store.codec" not in advice(none - 3_000), "of what is there already, and of what is no store"
    assert "train anew with store.encoding = uint8 or uint4, another method" in advice(every - 3_000)
    assert "store.encoding" not in advice(none + 3_000)
    for keep in ("needed", "none"):
        options = ("--run", run.path, "--set", f"cache.keep={keep}", "--disk", pairs + 3_000)
        assert cascade("run", *options, "--to", 0)[0] == 0


def test_it_is_refused_before_the_images_are_read_too(
    tmp_path: Path, cascade: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_preset("digits", tmp_path / "run", [*SMALL, *SETTINGS, "augment.views=4", "cache.keep=all"])
    code, _, err = cascade("run", "--run", tmp_path / "run", "--disk", "1 MB")
    assert code == 6
    assert "x_0, x_1, x_2, x_3, and what is kept beside, take " in err
    assert not (tmp_path / "run" / "x_0").exists()


def test_a_disk_without_room_is_named_where_no_budget_is_set(
    run: RunFolder, cascade: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.planning.free_bytes", lambda _: 500_000)
    code, _, err = cascade("run", "--run", run.path, "--set", "cache.keep=all")
    assert code == 6
    assert "more than this disk has for it, " in err
    assert re.search(r"next: make [\d.]+ [KM]B free on that disk; or ", err)
    assert "--disk" not in err


def test_what_compression_may_take_in_is_tried(run: RunFolder, cascade: Callable[..., Outcome]) -> None:
    options = ("--run", run.path, "--set", "cache.keep=all", "--set", "store.codec=zstd")
    budget = needed(cascade, run, "none") + 5_000
    code, out, _ = cascade("plan", *options, "--disk", budget)
    assert (code, "\nmay not fit: x_0, x_1, x_2, x_3 and what is kept beside take at most " in out) == (0, True)
    _, _, err = cascade("run", *options, "--disk", budget)
    assert "stage 0: " in err, "it began"


def test_with_nothing_to_do_nothing_is_refused(run: RunFolder, cascade: Callable[..., Outcome]) -> None:
    options = ("--run", run.path, "--set", "cache.keep=none")
    assert cascade("run", *options)[0] == 0
    for command in ("run", "plan"):
        assert cascade(command, *options, "--disk", "10 KB")[0] == 0


def test_each_stage_is_refused_before_it_trains_where_its_output_surely_has_no_room(
    run: RunFolder, cascade: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not there when the run began."""
    options = ("--run", run.path, "--set", "cache.keep=all")
    budget = needed(cascade, run, "all") + 5_000
    assert cascade("run", *options, "--disk", budget, "--to", 0)[0] == 0

    def and_others_write(run: RunFolder, j: int, *arguments: Any, **more: Any) -> bool:
        done = train_stage(run, j, *arguments, **more)
        if j == 1:
            (run.path / "of_mine").write_bytes(bytes(budget))
        return done

    monkeypatch.setattr("pipeline.runs.train_stage", and_others_write)
    code, _, err = cascade("run", *options, "--disk", budget)
    assert code == 6
    assert reopened(run.path).stages[1].record is not None
    assert "error: x_3 will need " in err
    assert "stage 2: " not in err, "before it trains"


def test_under_needed_what_is_freed_on_the_way_is_not_held_against_it(
    run: RunFolder, cascade: Callable[..., Outcome]
) -> None:
    options = ("--run", run.path, "--set", "cache.keep=needed", "--disk", needed(cascade, run, "needed") + MADE_UP)
    for last in range(4):
        code, _, err = cascade("run", *options, "--to", last)
        assert code == 0, err
