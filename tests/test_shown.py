"""What is made is shown from a folder that cannot be written too; what is not made is refused there."""

import os
from collections.abc import Callable

import numpy as np
import pytest

from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.runs import run_stages
from tests.conftest import Outcome
from tests.images import image_file, pixels
from tests.runs import tiny_run
from tests.trained import files_of

DONE = (
    ("baseline",),
    ("probe", "--j", 0, "--kind", "linear", "--kind", "cnn-1"),
    ("refit-last", "--head-width", 16),
    ("transfer", "--per-class", 2, "--splits", 1, "--j", 1),
)
LEFT = (
    ("baseline", "--head-width", 16),
    ("probe", "--j", 0),
    ("refit-last", "--head-width", 12),
    ("transfer", "--per-class", 2, "--splits", 1),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = tiny_run(tmp_path_factory.mktemp("shown") / "run", "train.epochs=1", "cache.keep=none")
    run_stages(run, None, None, "cpu", Reporter())
    for label, name in enumerate(("ant", "bee")):
        for i in range(4):
            image = (pixels(8, 8, seed=i) // 2 + 90 * label).astype(np.uint8)
            image_file(run.path.parent / "images" / name / f"{i}.png", image)
    return run


def asked(run: RunFolder, command: tuple[object, ...]) -> tuple[object, ...]:
    data = ("--data", f"folder:{run.path.parent / 'images'}") if command[0] == "transfer" else ()
    return (*command, *data, "--device", "cpu", "--json")


def closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder can be written from now on."""
    monkeypatch.setattr("pipeline.lock.os.access", lambda path, mode, **_: not mode & os.W_OK)


@pytest.mark.parametrize(("done", "left"), list(zip(DONE, LEFT, strict=True)))
def test_what_is_made_is_shown_and_nothing_is_written(
    run: RunFolder,
    monkeypatch: pytest.MonkeyPatch,
    cascade: Callable[..., Outcome],
    done: tuple[object, ...],
    left: tuple[object, ...],
) -> None:
    code, out, err = cascade(*asked(run, done), "--run", run.path)
    assert code == 0, err
    before = files_of(run.path)
    closed(monkeypatch)
    assert cascade(*asked(run, done), "--run", run.path)[:2] == (0, out)
    code, _, err = cascade(*asked(run, left), "--run", run.path)
    assert (code, "cannot be written" in err) == (1, True)
    assert files_of(run.path) == before
