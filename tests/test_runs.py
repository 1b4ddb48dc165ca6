"""What a run needs of disk and memory, said before the first stage."""

from pathlib import Path

import pytest

from cache import BudgetError, ring_samples
from pipeline.beforehand import check_host_memory
from pipeline.errors import Stopped
from pipeline.progress import Reporter
from pipeline.room import kept_bytes
from pipeline.runs import run_stages
from tests.runs import digits_run, reopened, tiny_run

CANVAS = ("augment.policy=canvas", "augment.crop=6", "augment.padding=1", "augment.flip=true")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits, 8x8: 1,299 to train on, 143 held out, 355 to test on. The network samples down at stage 1."""
    path = tmp_path_factory.mktemp("runs") / "run"
    assert digits_run(path).info.samples == {"train": 1299, "validation": 143, "test": 355}
    return path


@pytest.mark.parametrize(
    ("settings", "train", "others"),
    [
        (("augment.views=3", "store.encoding=float32"), 3 * 4 * (8 * 8 * 8 + 16 * 4 * 4), 4 * (8 * 8 * 8 + 16 * 4 * 4)),
        ((*CANVAS, "store.encoding=float16"), 2 * 2 * (8 * 10 * 10 + 16 * 5 * 5), 2 * (8 * 10 * 10 + 16 * 5 * 5)),
        ((*CANVAS, "store.encoding=uint4"), 2 * (8 * 10 * 5 + 16 * 5 * 3), 8 * 10 * 5 + 16 * 5 * 3),
        ((*CANVAS, "augment.flip=false", "store.encoding=uint8"), 8 * 100 + 16 * 25, 8 * 100 + 16 * 25),
        ((*CANVAS, "store.encoding=uint8", "cache.keep=[2]"), 2 * 16 * 25, 16 * 25),
        ((*CANVAS, "augment.phases=2"), 4 * 2 * (8 * 10 * 10 + 16 * 5 * 5), 2 * (8 * 10 * 10 + 16 * 5 * 5)),
        ((*CANVAS, "augment.cut_at=1"), 2 * 2 * 8 * 10 * 10, 2 * 8 * 10 * 10),
        (("cache.keep=none",), 0, 0),
        (("augment.policy=recompute",), 0, 0),
    ],
)
def test_bytes_to_be_kept_are_those_by_hand(folder: Path, settings: tuple[str, ...], train: int, others: int) -> None:
    assert kept_bytes(reopened(folder, *settings)) == 1344 * train + (192 + 384) * others, "chunks of 64 are whole"


@pytest.mark.parametrize(
    ("settings", "worst", "sample_bytes"),
    [
        (("store.encoding=float16",), 1, 2 * 8 * 8 * 8),
        ((*CANVAS, "store.encoding=float16"), 1, 2 * 8 * 10 * 10),
        ((*CANVAS, "store.encoding=uint4"), 1, 8 * 10 * 5),
        ((*CANVAS, "stages.0.store.encoding=uint4", "store.encoding=float32"), 2, 4 * 16 * 5 * 5),
        ((*CANVAS, "augment.cut_at=1", "stages.0.store.encoding=uint4", "store.encoding=float32"), 1, 8 * 10 * 5),
        ((*CANVAS, "cache.keep=none"), 0, 8 * 8),
    ],
)
def test_windows_of_the_largest_store_to_come_have_to_fit_in_the_host_memory(
    folder: Path, settings: tuple[str, ...], worst: int, sample_bytes: int
) -> None:
    run, needed = reopened(folder, *settings), ring_samples(512, 64) * sample_bytes
    check_host_memory(run.outline, range(3), run.config.keeps, needed)
    with pytest.raises(BudgetError, match=f"reading x_{worst} takes .* of host memory"):
        check_host_memory(run.outline, range(3), run.config.keeps, needed - 1)


@pytest.mark.parametrize(
    ("keep", "said"), [("none", "no stores past the images; "), ("all", "stores past the images: at most ")]
)
def test_what_the_stores_take_is_said_where_there_will_be_any(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], keep: str, said: str
) -> None:
    run_stages(tiny_run(tmp_path / "run", "train.epochs=1", f"cache.keep={keep}"), 0, 0, "cpu", Reporter())
    assert capsys.readouterr().err.startswith(said)


def test_a_stop_is_before_the_first_stage_with_something_to_do_and_a_finished_run_is_not_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tiny_run(tmp_path / "run", "train.epochs=1")
    run_stages(run, 0, 0, "cpu", Reporter())
    with pytest.raises(Stopped, match="stopped before stage 1"):
        run_stages(run, None, None, "cpu", Reporter(), should_stop=lambda: True)
    run_stages(run, None, None, "cpu", Reporter())
    capsys.readouterr()
    run_stages(run, None, None, "cpu", Reporter(), should_stop=lambda: True)
    assert capsys.readouterr().err.endswith("stage 0  done already\nstage 1  done already\n")
