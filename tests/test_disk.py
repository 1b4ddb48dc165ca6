"""Room on the disk: asked for before it is needed, with the numbers and what to do."""

import errno
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cache import packed_share, read_journal, read_manifest
from cache.files import write_synced
from pipeline import disk
from pipeline.device import choose_device
from pipeline.disk import (
    MARGIN,
    NOTHING,
    SMALL_FILES,
    StoreSize,
    check_room,
    folder_bytes,
    folder_size,
    free_bytes,
    room,
    run_bytes,
    store_size,
)
from pipeline.errors import DiskError, Stopped
from pipeline.progress import Reporter, size
from pipeline.room import check_first_output, kept_bytes, output_size
from pipeline.runfolder import RunFolder, is_committed
from pipeline.training import train_stage
from tests.conftest import Outcome
from tests.images import ingested, npz
from tests.runs import bytes_of, digits_run, reopened

CPU = choose_device("cpu")
SPARSE = np.repeat(np.arange(64, dtype=np.uint8), 64)
"""Which compresses well."""


@pytest.fixture
def set_free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make the disk have so many bytes free."""

    def set_to(nbytes: int) -> None:
        monkeypatch.setattr(disk, "free_bytes", lambda _: nbytes)

    return set_to


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stage 0 trained, x_1 written."""
    run = digits_run(tmp_path_factory.mktemp("disk") / "run", "train.epochs=1", "order.run=8")
    train_stage(run, 0, CPU, Reporter())
    return run.path


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_size_of_a_store_is_that_of_whole_chunks(tmp_path: Path) -> None:
    assert store_size(samples=100, views=3, sample_bytes=10, run=8) == StoreSize(3 * 13 * 8 * 10, 3 * 13 + SMALL_FILES)


def test_free_bytes_are_those_of_the_disk(tmp_path: Path) -> None:
    assert free_bytes(tmp_path) == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.01)


def test_bytes_of_a_folder_are_those_of_its_files_and_no_links(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_bytes(b"x" * 100)
    (tmp_path / "a" / "d").write_bytes(b"x" * 10)
    assert folder_bytes(tmp_path / "a") == 110
    assert folder_bytes(tmp_path / "a" / "d") == 10
    assert folder_bytes(tmp_path / "none") == 0
    assert folder_bytes(tmp_path / "a" / "d" / "none") == 0
    assert folder_size(tmp_path / "a") == StoreSize(110, 4)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert folder_bytes(tmp_path / "link") < 110


def test_what_vanishes_while_it_is_measured_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(b"x" * 10)
    lstat = os.lstat

    def vanishing(path: str) -> os.stat_result:
        if path.endswith("b"):
            os.unlink(path)
        return lstat(path)

    monkeypatch.setattr("pipeline.disk.os.lstat", vanishing)
    assert folder_size(tmp_path) == StoreSize(20, 3)


@pytest.mark.parametrize("codec", ["none", "zstd"])
@pytest.mark.parametrize("there", [NOTHING, StoreSize(500, 2), StoreSize(500, 5)])
def test_room_is_refused_from_the_first_byte_too_few(
    tmp_path: Path, set_free: Callable[[int], None], codec: str, there: StoreSize
) -> None:
    def check(free: int) -> None:
        set_free(free)
        check_room("x_1", tmp_path, needed, lambda: codec, lambda: SPARSE, there=there, remedy=lambda: "less")  # type: ignore[arg-type, return-value]

    needed = StoreSize(1_000_000, 3)
    share = 1 if codec == "none" else MARGIN * packed_share(SPARSE, "zstd")
    assert codec == "none" or share < 0.5
    bytes_to_come = round(share * 1_000_000) + max(3 - there.files, 0) * os.statvfs(tmp_path).f_frsize - there.nbytes
    check(bytes_to_come)
    with pytest.raises(
        DiskError, match=f"x_1 needs {size(bytes_to_come)} .* are free on the disk of {tmp_path}\nnext: less"
    ):
        check(bytes_to_come - 1)
    assert DiskError.exit_code == 6


def test_a_sample_is_packed_and_a_remedy_looked_for_only_where_that_decides(
    tmp_path: Path, set_free: Callable[[int], None]
) -> None:
    def sample() -> NDArray[np.uint8]:
        raise AssertionError

    def remedy() -> str:
        raise AssertionError

    set_free(10**9)
    check_room("x_1", tmp_path, StoreSize(10**6, 3), lambda: "zstd", sample, remedy=remedy)


def test_numbers_that_do_not_compress_need_no_more_than_they_are(
    tmp_path: Path, set_free: Callable[[int], None]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, 5000, np.uint8)
    set_free(10**6)
    with pytest.raises(DiskError, match=r"zstd leaves 100% of 1.0 MB, as measured on 5000 samples"):
        check_room("x_1", tmp_path, StoreSize(10**6, 3), lambda: "zstd", lambda: noise, remedy=lambda: "less")


def test_a_write_back_without_room_is_refused_and_goes_on_once_there_is(
    folder: Path, set_free: Callable[[int], None], cascade: Callable[..., Outcome]
) -> None:
    whole = bytes_of(reopened(folder), 0)
    run = reopened(folder)
    shutil.rmtree(run.stages[0].path / "x_1")
    needed = sum(output_size(run, 0, split).nbytes for split in run.splits)
    set_free(50_000)
    code, _, err = cascade("train-stage", "--j", 0, "--run", folder)
    assert code == 6
    assert "error: stage 0 is trained and kept, and x_1 needs " in err
    assert f"% of {size(needed)}, as measured on 8 samples and a tenth), and 50.0 KB are free on the disk of" in err
    assert 'next: make room on that disk; or set cache.keep to "auto", "needed", to fewer x_j' in err
    assert not any(is_committed(run.store(1, split)) for split in run.splits)
    set_free(10**9)
    assert cascade("train-stage", "--j", 0, "--run", folder)[0] == 0
    assert bytes_of(reopened(folder), 0) == whole


def test_what_is_there_already_is_not_needed_again(folder: Path, set_free: Callable[[int], None]) -> None:
    run = reopened(folder, 'store.codec="none"')
    (run.store(1, "train") / "manifest.json").unlink()
    size_of_train, there = output_size(run, 0, "train"), folder_size(run.store(1, "train"))
    blocks = max(size_of_train.files - there.files, 0) * os.statvfs(folder).f_frsize
    needed = size_of_train.nbytes + blocks - there.nbytes
    set_free(needed - 1)
    with pytest.raises(DiskError, match=rf"x_1 needs {size(needed)} "):
        train_stage(run, 0, CPU, Reporter())
    set_free(needed)
    train_stage(run, 0, CPU, Reporter())
    assert run.is_stored(1)


@pytest.mark.parametrize("codec", ["none", "lz4", "zstd"])
def test_before_training_what_is_there_already_is_not_needed_again(
    folder: Path, set_free: Callable[[int], None], capsys: pytest.CaptureFixture[str], codec: str
) -> None:
    """Of x_2, validation is committed, and train is not; how it compresses, x_1 says of lz4 and nothing of zstd."""
    train_stage(reopened(folder), 1, CPU, Reporter())
    run = reopened(folder, f"store.codec={codec}")
    (run.store(2, "train") / "manifest.json").unlink()
    shutil.rmtree(run.store(2, "test"))
    share = run.open_store(1, "train").nbytes / output_size(run, 0, "train").nbytes if codec == "lz4" else 1
    due = output_size(run, 1, "train").nbytes + output_size(run, 1, "test").nbytes
    needed = round(share * due) - folder_bytes(run.store(2, "train"))
    capsys.readouterr()
    set_free(needed + 1)
    check_first_output(run, 1, Reporter())
    assert "may not fit" not in capsys.readouterr().err
    set_free(needed - 1)
    if codec == "zstd":
        check_first_output(run, 1, Reporter())
        assert f"x_2 may not fit: at most {size(needed)} before compression" in capsys.readouterr().err
        return
    with pytest.raises(DiskError, match=rf"x_2 will need {size(needed)} "):
        check_first_output(run, 1, Reporter())


@pytest.mark.parametrize(
    ("codec", "stored_before", "outcome"),
    [("none", False, "refused"), ("lz4", False, "said"), ("lz4", True, "refused"), ("zstd", True, "said")],
)
def test_before_training_it_is_refused_where_it_is_known_and_else_said(
    folder: Path,
    set_free: Callable[[int], None],
    cascade: Callable[..., Outcome],
    codec: str,
    stored_before: bool,
    outcome: str,
) -> None:
    if not stored_before:
        shutil.rmtree(reopened(folder).stages[0].path / "x_1")
    set_free(50_000)
    first = 1 if stored_before else 0
    options = ("--set", f"store.codec={codec}", "--set", "train.epochs=1", "--set", "stages.1.train.lr=0.05")
    code, _, err = cascade("run", "--from", first, "--to", first, "--run", folder, *options)
    assert code == 6
    if outcome == "said":
        assert f"x_{first + 1} may not fit: at most " in err
    else:
        assert f"error: x_{first + 1} will need " in err
        assert "epoch  1/1" not in err, "before it trains"


def test_a_store_that_fits_as_the_one_before_it_did_is_not_refused(
    folder: Path, set_free: Callable[[int], None]
) -> None:
    run = reopened(folder)
    raw = sum(output_size(run, 1, split).nbytes for split in run.splits)
    share = run.open_store(1, "train").nbytes / output_size(run, 0, "train").nbytes
    assert share < 0.9
    set_free(round(share * raw) + 1)
    check_first_output(run, 1, Reporter())
    set_free(round(share * raw) - 1)
    with pytest.raises(DiskError, match=rf"x_2 will need .* \(compressed to {share:.0%}, as the last x_j was\)"):
        check_first_output(run, 1, Reporter())


def test_what_is_advised_is_neither_set_already_nor_of_another_policy(
    folder: Path, set_free: Callable[[int], None]
) -> None:
    """gc is named only where it frees something: here a stage with another lr."""
    canvas = ("augment.policy=canvas", "augment.padding=1", "augment.phases=4")
    set_free(0)

    def advice(*settings: str) -> str:
        with pytest.raises(DiskError) as error:
            check_first_output(reopened(folder, "store.codec=none", "train.epochs=1", *settings), 1, Reporter())
        return str(error.value).partition("\nnext: ")[2].removesuffix("; then the same command goes on")

    codec, encodings = "; or set store.codec to zstd", "; or train anew with a smaller store.encoding"
    assert advice() == (
        'make room on that disk; or set cache.keep to "auto", "needed", to fewer x_j, or to "none"'
        f"{codec}{encodings} (uint8, uint4), or fewer augment.views"
    )
    assert 'cache.keep to fewer x_j, or to "none"' in advice("cache.keep=[2]")
    assert advice("cache.keep=needed", "stages.1.store.encoding=uint4") == (
        f'make room on that disk; or set cache.keep to a few x_j, or to "none"{codec}; or train anew with '
        "fewer augment.views"
    )
    assert "fewer augment.phases" in advice(*canvas)
    assert "augment.views" not in advice(*canvas)
    stage = reopened(folder, "train.lr=0.05").stages[0].path
    shutil.copytree(reopened(folder).stages[0].path, stage)
    freed = size(folder_bytes(stage))
    assert advice().startswith(f"cascade gc --run {folder} lists what can be freed, {freed}; or set cache.keep")


def test_what_is_written_of_a_store_says_how_it_compresses(folder: Path, set_free: Callable[[int], None]) -> None:
    run, calls = reopened(folder), iter(range(10**6))
    records = read_manifest(run.store(1, "train")).arrays["x"]
    shutil.rmtree(run.stages[0].path / "x_1")
    with pytest.raises(Stopped):
        train_stage(run, 0, CPU, Reporter(), should_stop=lambda: next(calls) > 20)
    written = read_journal(run.store(1, "train"))
    assert written is not None
    assert 0 < len(written[1]) < len(records)
    whole = output_size(run, 0, "train")
    share = sum(one.length for one in written[1].values()) / (len(written[1]) * whole.nbytes / len(records))
    due = sum(output_size(run, 0, split).nbytes for split in run.splits)
    needed = round(share * due) - sum(folder_bytes(run.store(1, split)) for split in run.splits)
    set_free(needed + 1)
    check_first_output(run, 0, Reporter())
    set_free(needed - 1)
    with pytest.raises(DiskError, match=rf"x_1 will need .* \(compressed to {share:.0%}, as what is written of it\)"):
        check_first_output(run, 0, Reporter())


def test_a_disk_that_fills_up_in_the_middle_is_named_with_what_is_missing_and_free(
    folder: Path, cascade: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = reopened(folder)
    shutil.rmtree(run.stages[0].path / "x_1")
    written: list[Path] = []

    def filling(path: Path, *parts: bytes | memoryview) -> None:
        written.append(path)
        if len(written) > 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write_synced(path, *parts)

    with monkeypatch.context() as patch:
        patch.setattr("cache.writer.write_synced", filling)
        code, _, err = cascade("train-stage", "--j", 0, "--run", folder)
    assert code == 6
    assert f"error: the disk is full at {run.store(1, 'train')}/x/c." in err
    assert re.search(
        r"x_1 needs at most [\d.]+ MB more, before compression, and [\d.]+ .B are free on the disk of ", err
    )
    assert "; what was committed is intact\nnext: make room on that disk; or set cache.keep" in err
    assert cascade("train-stage", "--j", 0, "--run", folder)[0] == 0


def test_under_needed_two_neighbours_are_kept_at_a_time(folder: Path) -> None:
    def run(keep: str) -> RunFolder:
        return reopened(folder, f"cache.keep={keep}", "network.stages=4")

    sizes = [kept_bytes(run(f"[{index}]")) for index in (1, 2, 3)]
    assert kept_bytes(run("all")) == sum(sizes)
    assert kept_bytes(run("needed")) == max(sizes[0] + sizes[1], sizes[1] + sizes[2])


@pytest.mark.parametrize("codec", ["none", "lz4", "auto"])
def test_an_ingest_without_room_is_refused_before_it_writes(
    tmp_path: Path, set_free: Callable[[int], None], codec: str
) -> None:
    source = npz(tmp_path / "data.npz")
    set_free(1000)
    with pytest.raises(DiskError, match=r"x_0 needs .* and 1.0 KB are free on the disk of .*\nnext: make room"):
        ingested(tmp_path / "run", source, store={"codec": codec})
    assert list((tmp_path / "run").iterdir()) == []
    set_free(10**9)
    assert ingested(tmp_path / "run", source, store={"codec": codec}).samples["train"] == 37


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mount a file system of so many KB."""
    mounted: list[Path] = []

    def mount(kilobytes: int) -> Path:
        path = tmp_path / f"disk-{kilobytes}"
        path.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", path], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("needs root, to mount a small disk")
        mounted.append(path)
        return path

    yield mount
    for path in mounted:
        subprocess.run(["umount", path], check=False)


def test_a_disk_that_is_really_too_small(
    small_disk: Callable[[int], Path], cascade: Callable[..., Outcome], trained: Path
) -> None:
    path = Path(shutil.copytree(trained, small_disk(6000) / "run"))
    whole = bytes_of(reopened(path), 0)
    shutil.rmtree(reopened(path).stages[0].path / "x_1")
    filler = path.parent / "filler"
    filler.write_bytes(bytes(free_bytes(path) - 200_000))
    code, _, err = cascade("train-stage", "--j", 0, "--run", path)
    assert code == 6, err
    assert "stage 0 is trained and kept, and x_1 needs " in err
    filler.unlink()
    assert cascade("train-stage", "--j", 0, "--run", path)[0] == 0
    assert bytes_of(reopened(path), 0) == whole


def test_a_budget_counts_like_a_disk_of_its_size(folder: Path, cascade: Callable[..., Outcome]) -> None:
    run = reopened(folder)
    shutil.rmtree(run.stages[0].path / "x_1")
    there = disk.folder_bytes(folder)
    code, _, err = cascade("train-stage", "--j", 0, "--run", folder, "--disk", there + 50_000)
    assert code == 6
    assert f" KB are left of budget.disk, {size(there + 50_000)}" in err
    assert cascade("train-stage", "--j", 0, "--run", folder, "--disk", "1 GB")[0] == 0


def test_images_that_are_shared_by_a_link_count_as_the_run_folders_own(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "images").write_bytes(bytes(1000))
    own = tmp_path / "run"
    own.mkdir()
    (own / "file").write_bytes(bytes(10))
    (own / "elsewhere").symlink_to(tmp_path / "shared")
    before = run_bytes(own)
    assert before < 100, "other links are not followed"
    (own / "x_0").symlink_to("../shared")
    assert run_bytes(own) - before >= 1000
    assert room(own, before + 1500) <= 500
