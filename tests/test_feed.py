"""Where batches come from changes none of them."""

from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch

from cache import BudgetError
from cache.place import Folder, OpenObject
from pipeline.device import choose_device
from pipeline.feed import Feed
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.training import train_stage
from tests.runs import digits_run, reopened, tiny_run

CPU = choose_device("cpu")
EVERYTHING = 2**40


@pytest.fixture(scope="module", params=["views", "canvas", "recompute"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = digits_run(tmp_path_factory.mktemp("run"), f'augment.policy="{request.param}"', 'store.encoding="uint4"')
    train_stage(run, 0, CPU, Reporter())
    return run


def epochs(feed: Feed, count: int = 2) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(x.clone(), y) for epoch in range(count) for x, y in feed.training(epoch)]


def assert_same(ours: list[tuple[torch.Tensor, torch.Tensor]], theirs: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    for (x, y), (x_again, y_again) in zip(ours, theirs, strict=True):
        assert torch.equal(x, x_again)
        assert torch.equal(y, y_again)


@pytest.mark.parametrize("j", [0, 1])
def test_a_split_that_stays_on_the_device_gives_the_same_batches(run: RunFolder, j: int) -> None:
    streamed, resident = Feed(run, j, CPU), Feed(run, j, CPU, device_memory_bytes=EVERYTHING)
    assert_same(epochs(streamed), epochs(resident))
    assert_same(list(streamed.training(1, start=640)), list(resident.training(1, start=640)))
    for split in ("validation", "test"):
        assert_same(list(streamed.sequential(split)), list(resident.sequential(split)))


def test_what_stays_is_read_once(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    open_file = Folder.open

    def noted(folder: Folder, name: str, *limit: int) -> AbstractContextManager[OpenObject]:
        opened.append(name)
        return open_file(folder, name, *limit)

    monkeypatch.setattr(Folder, "open", noted)
    for feed in (Feed(run, 0, CPU), Feed(run, 0, CPU, device_memory_bytes=EVERYTHING)):
        epochs(feed, 1)
        assert any(name.startswith("x/c.") for name in opened)
        opened.clear()
        epochs(feed, 2)
        assert not opened, "64 MB of host memory hold all of the digits"


def test_an_epoch_goes_on_from_any_batch(run: RunFolder) -> None:
    feed = Feed(run, 1, CPU)
    whole = epochs(feed, 1)
    for start in (0, 64, 1280):
        assert_same([(x.clone(), y) for x, y in feed.training(0, start=start)], whole[start // 64 :])


def test_one_feed_gives_one_epoch_at_a_time(run: RunFolder) -> None:
    feed = Feed(run, 0, CPU)
    first = feed.training(0)
    next(first)
    with pytest.raises(RuntimeError, match="batches are being read into this ring already"):
        next(feed.training(1))


def test_every_forward_pass_is_over_a_whole_run_and_what_fills_up_the_last_is_cut(tmp_path: Path) -> None:
    feed = Feed(tiny_run(tmp_path / "run"), 0, CPU)
    passes: list[torch.Tensor] = []

    def through(x: torch.Tensor) -> torch.Tensor:
        passes.append(x)
        return x

    batches = list(feed.sequential("train", through))
    assert [len(x) for x in passes] == [8, 8, 8, 8]
    assert [(len(x), len(y)) for x, y in batches] == [(8, 8), (8, 8), (8, 8), (3, 3)]
    assert torch.equal(passes[-1][3:], passes[-1][2:3].expand(5, -1, -1, -1))


def test_the_test_window_of_training_samples_takes_their_images(tmp_path: Path) -> None:
    run = digits_run(tmp_path / "run")
    train_stage(run, 0, CPU, Reporter())
    with pytest.raises(ValueError, match="takes anchor = 0"):
        next(Feed(run, 1, CPU).sequential("train"))
    next(Feed(run, 1, CPU, anchor=0).sequential("train"))


def test_a_window_beyond_the_host_memory_is_refused_with_both_numbers(tmp_path: Path) -> None:
    run = digits_run(tmp_path / "run")
    tight = reopened(run.path, "budget.host=40_000")
    with pytest.raises(BudgetError, match=r"reading x_0 takes 65.5 KB of host memory, for two windows"):
        next(Feed(tight, 0, CPU).training(0))


def test_chunks_that_stay_leave_room_for_two_chunks_a_thread(tmp_path: Path) -> None:
    run, left = tiny_run(tmp_path / "run"), list[int]()
    for threads in (1, 4):
        feed = Feed(reopened(run.path, "budget.host=100_000", f"machine.threads={threads}"), 0, CPU)
        next(feed.training(0))
        left.append(feed._kept.nbytes)
    store = run.open_store(0, "train")
    chunk = store.chunk_samples * store.sample_bytes
    assert left[0] - left[1] == 2 * 3 * chunk
    assert 0 < left[0] < 100_000 - 2 * chunk


def test_a_split_of_not_quite_two_runs_is_read_within_the_memory_announced(tmp_path: Path) -> None:
    run = digits_run(tmp_path / "run", "order.run=128", "data.validation=0.15")
    assert 192 < run.info.samples["validation"] < 256
    feed = Feed(run, 0, CPU, sequential_only=True)
    assert sum(len(x) for x, _ in feed.sequential("validation")) == run.info.samples["validation"]


def test_waiting_is_told_by_cause(run: RunFolder) -> None:
    feed = Feed(run, 0, CPU)
    epochs(feed, 1)
    assert feed.waits.keys() == {"disk", "decode", "gather", "copy"}
    assert sum(feed.waits.values()) > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_on_cuda_are_those_on_the_cpu(run: RunFolder) -> None:
    ours, theirs = Feed(run, 0, torch.device("cuda")), Feed(run, 0, CPU)
    for (x, y), (x_cpu, y_cpu) in zip(ours.training(0), theirs.training(0), strict=True):
        torch.testing.assert_close(x.cpu(), x_cpu)
        assert torch.equal(y.cpu(), y_cpu)
