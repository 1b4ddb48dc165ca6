"""cascade transfer: a table by depth, features kept until it is there, and safe to repeat after a kill."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from pipeline.device import choose_device
from pipeline.errors import ConfigError, CorruptDataError, DiskError, RefusedError, Stopped
from pipeline.experiments import linear_transfer
from pipeline.experiments.folds import Fold, Parts, training_rows
from pipeline.experiments.linear_transfer import Settings, Transfer, key_of_depth, read_transfer, transfer
from pipeline.experiments.overview import beside
from pipeline.experiments.pool import open_pool
from pipeline.experiments.transfertables import transfer_table
from pipeline.gc import collect, find_garbage
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.runs import run_stages
from pipeline.status import status
from pipeline.verify import verify
from tests.conftest import Outcome
from tests.images import image_file, pixels
from tests.runs import reopened, tiny_run

CPU = choose_device("cpu")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tiny_run(tmp_path_factory.mktemp("transfer") / "run", "train.epochs=1", "cache.keep=none")
    run_stages(run, None, None, "cpu", Reporter())
    return run.path


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> RunFolder:
    return reopened(Path(shutil.copytree(whole, tmp_path / "run")))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two classes that differ in brightness, of grey and of colour, of two sizes; the third has four images."""
    root = tmp_path_factory.mktemp("images")
    for label, (name, count) in enumerate((("ant", 14), ("bee", 14), ("cat", 4))):
        for i in range(count):
            shape = (8, 8) if i % 2 else (12, 9, 3)
            noise = pixels(*shape, seed=100 * label + i) // 4
            image_file(root / name / f"{i:02}.png", (noise + 60 * label).astype(np.uint8))
    return f"folder:{root}"


@pytest.fixture(autouse=True)
def in_small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_transfer, "PART", 16)


def settings(data: str, *, per_class: int = 3, splits: int = 2, seed: int = 0, **skips: bool) -> Settings:
    asked = {"skip_small": False, "skip_bad": False, **skips}
    return Settings(data=data, per_class=per_class, splits=splits, seed=seed, **asked)


def transferred(run: RunFolder, data: str, *depths: int, **options: object) -> Transfer:
    return transfer(run, settings(data, **options), depths, CPU, Reporter())  # type: ignore[arg-type]


def no_features(*_: object) -> None:
    raise AssertionError("no features are due")


def test_the_images_need_no_trained_block(tmp_path: Path, images: str) -> None:
    run = tiny_run(tmp_path / "run")
    assert [row.j for row in transferred(run, images, 0).rows] == [0]
    with pytest.raises(RefusedError, match="block 0 is needed first"):
        transferred(run, images, 0, 1)
    with pytest.raises(RefusedError, match="block 0 is needed first"):
        transferred(run, images)
    with pytest.raises(ConfigError, match=r"--j 9: .*\nnext: "):
        transferred(run, images, 9)


def test_transfers_are_told_apart_by_their_splits_in_status(run: RunFolder, images: str) -> None:
    for seed in (0, 5):
        transferred(run, images, 0, splits=1 + seed // 5, seed=seed)
    reasons = [row.reason for row in beside(run)]
    assert sum("1 split of seed 0: " in one for one in reasons) == 1
    assert sum("2 splits of seed 5: " in one for one in reasons) == 1


def test_a_class_name_is_printed_in_one_line(run: RunFolder, images: str) -> None:
    record = transferred(run, images, 0, skip_small=True, per_class=6)
    odd = msgspec.structs.replace(record, left_out=["a\nb\x1b[31m"])
    assert transfer_table(odd).endswith("left out: a\\nb\\x1b[31m")


def test_every_depth_has_a_row_with_its_deviation_and_nothing_else_stays(run: RunFolder, images: str) -> None:
    record = transferred(run, images)
    assert [(row.j, row.features, row.components) for row in record.rows] == [(1, 4, 4), (2, 8, 8)]
    for row in record.rows:
        assert row.accuracy.mean == pytest.approx(np.mean(row.by_split))
        assert row.accuracy.deviation == pytest.approx(np.std(row.by_split, ddof=1))
    assert [path.name for path in (run.path / "transfer").rglob("*")] == [record.key[:8], "record.json"]
    assert find_garbage(run) == []


def test_a_repeated_command_reads_the_record_and_a_further_depth_is_added_to_it(
    run: RunFolder, images: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = transferred(run, images, 2)
    both = transferred(run, images, 1, 2)
    assert both.rows[1] == first.rows[0]
    monkeypatch.setattr(linear_transfer._Work, "take_features", no_features)
    assert transferred(run, images, 1, 2) == both
    assert transferred(run, images, 1).rows == both.rows[:1]


def test_other_settings_have_a_record_of_their_own(run: RunFolder, images: str) -> None:
    records = [transferred(run, images, 1), transferred(run, images, 1, seed=1), transferred(run, images, 1, splits=1)]
    assert len({record.key for record in records}) == 3
    assert records[2].rows[0].accuracy.deviation is None


def test_each_split_and_seed_trains_on_images_of_its_own(
    run: RunFolder, images: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bytes, int]] = []

    def watched(_: Parts, labels: np.ndarray, chosen: np.ndarray, *, state: int) -> Fold:
        assert len(labels) == len(chosen) == 32
        seen.append((chosen.tobytes(), state))
        return Fold(accuracy=float(len(seen)), components=4, converged=True)

    monkeypatch.setattr(linear_transfer, "fold", watched)
    rows = [transferred(run, images, 1, seed=seed).rows[0] for seed in (0, 7)]
    labels = open_pool(images).labels
    assert seen == [
        (training_rows(labels, 3, seed=seed, split=split).tobytes(), seed + split)
        for seed in (0, 7)
        for split in (0, 1)
    ]
    assert len({chosen for chosen, _ in seen}) == 4
    assert [row.by_split for row in rows] == [[1, 2], [3, 4]]


MOVED: list[tuple[tuple[str, ...], list[int]]] = [
    (("store.encoding=uint8",), [1, 2]),
    (("stages.0.store.encoding=uint8",), [1, 2]),
    (("stages.1.store.encoding=uint8",), []),
    (("augment.crop=6",), [0, 1, 2]),
    (("augment.policy=canvas", "augment.padding=2"), [1, 2]),
    (("augment.views=3",), [2]),
    (("seed=1",), [1, 2]),
    (("stages.1.train.lr=0.01",), [2]),
    (("cache.keep=all", "machine.threads=1"), []),
]
"""Settings, and the x_j of an image that are others under them; the last one is not rounded."""


@pytest.mark.parametrize(("changes", "expected"), MOVED)
def test_a_row_is_another_where_x_j_of_an_image_is(whole: Path, changes: tuple[str, ...], expected: list[int]) -> None:
    here, there = reopened(whole, "augment.padding=2"), reopened(whole, "augment.padding=2", *changes)
    assert [j for j in range(3) if key_of_depth(here, j) != key_of_depth(there, j)] == expected


def test_a_row_is_another_where_canvases_are_cut_elsewhere_though_the_same_stages_made_it(whole: Path) -> None:
    canvas = ("network.stages=3", "augment.policy=canvas", "augment.padding=2")
    late, early = (reopened(whole, *canvas, f"augment.cut_at={index}") for index in (0, 1))
    assert late.stages[1].key == early.stages[1].key
    assert key_of_depth(late, 2) != key_of_depth(early, 2)


def test_a_stage_that_is_trained_anew_has_rows_of_its_own(run: RunFolder, images: str) -> None:
    first = transferred(run, images)
    other = reopened(run.path, "stages.1.train.lr=0.01")
    run_stages(other, None, None, "cpu", Reporter())
    second = transferred(other, images)
    assert second.rows[0] == first.rows[0], "block 0 is the same"
    assert second.rows[1].key != first.rows[1].key
    assert transferred(run, images) == first


def test_what_was_stopped_goes_on_from_its_features_and_ends_the_same(
    run: RunFolder, images: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = transferred(reopened(Path(shutil.copytree(whole, tmp_path / "other"))), images)
    asked = 0

    def soon() -> bool:
        nonlocal asked
        asked += 1
        return asked > 7  # of 32 images, 8 at a time, four times; then splits

    with pytest.raises(Stopped, match="fitting on x_2"):
        transfer(run, settings(images), [], CPU, Reporter(), should_stop=soon)
    assert [one.why for one in find_garbage(run)] == [
        "features of a transfer that did not end, which the same command goes on from"
    ]
    monkeypatch.setattr(linear_transfer, "Depths", no_features)
    record = transferred(run, images)
    assert [row.by_split for row in record.rows] == [row.by_split for row in expected.rows]
    assert find_garbage(run) == []


def test_a_damaged_file_of_features_is_made_again(run: RunFolder, images: str) -> None:
    stopped = iter([False] * 4 + [True])
    with pytest.raises(Stopped):
        transfer(run, settings(images), [], CPU, Reporter(), should_stop=lambda: next(stopped))
    damaged = sorted((run.path / "transfer").rglob("*.safetensors"))[0]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert len(transferred(run, images).rows) == 2


def test_gc_takes_the_features_of_what_did_not_end(run: RunFolder, images: str) -> None:
    stopped = iter([False] * 4 + [True])
    with pytest.raises(Stopped):
        transfer(run, settings(images), [], CPU, Reporter(), should_stop=lambda: next(stopped))
    collect(run, delete=True, keep_branches=False, accept_stale=False)
    assert list((run.path / "transfer").rglob("*.safetensors")) == []
    assert len(transferred(run, images).rows) == 2


def test_verify_and_status_know_the_record(run: RunFolder, images: str) -> None:
    record = transferred(run, images)
    (row,) = beside(run)
    assert (row.what, row.state) == ("transfer", "done")
    assert row.reason.startswith(f"to {images}, 3 a class, 2 splits of seed 0: x_1 ")
    assert [row.state for row in beside(reopened(run.path, "train.lr=0.5"))] == ["stale"]
    assert [one.damage for one in verify(run, Reporter()) if one.kind == "experiment"] == [[]]
    path = run.path / "transfer" / record.key[:8] / "record.json"
    path.write_bytes(path.read_bytes().replace(b'"splits": 2', b'"splits": 9'))
    (damaged,) = (one for one in verify(run, Reporter()) if one.damage)
    assert (damaged.what, "checksum" in damaged.damage[0].reason) == (f"transfer/{record.key[:8]}/record.json", True)
    assert [row.state for row in beside(run)] == ["damaged"]
    with pytest.raises(CorruptDataError, match="next: delete "):
        transferred(run, images)
    assert status(run)[1].state == "done"


def test_small_classes_are_refused_or_left_out_and_named(run: RunFolder, images: str) -> None:
    with pytest.raises(ConfigError, match=r"'cat' \(4\)"):
        transferred(run, images, per_class=6)
    record = transferred(run, images, per_class=6, skip_small=True)
    assert (record.left_out, record.classes, record.images) == (["cat"], ["ant", "bee"], 28)


def test_damaged_images_are_refused_or_left_out_and_named(
    run: RunFolder, images: str, tmp_path: Path, cascade: Callable[..., Outcome]
) -> None:
    sound = transferred(run, images, 1, skip_small=True)
    assert transferred(run, images, 1, skip_small=True, skip_bad=True) == sound, "none is damaged"
    root = Path(shutil.copytree(images.removeprefix("folder:"), tmp_path / "images"))
    for name in ("ant/03.png", "bee/13.png"):
        (root / name).write_bytes(b"nothing")
    asked = ("transfer", "--data", f"folder:{root}", "--run", run.path, "--per-class", 3, "--splits", 2, "--j", 1)
    code, _, err = cascade(*asked)
    assert (code, "or with --skip-bad, which leaves damaged ones out" in err) == (4, True)
    code, out, _ = cascade(*asked, "--skip-bad")
    assert (code, "damaged images, left out: 2, " in out, "ant/03.png (not recognised" in out) == (0, True, True)
    (path,) = (one for one in (run.path / "transfer").glob("*/record.json") if sound.key[:8] not in str(one))
    record = read_transfer(path)
    assert record is not None
    assert (record.images, len(record.skipped), record.classes) == (30, 2, ["ant", "bee", "cat"])
    for name in ("ant/03.png", "bee/13.png"):
        (root / name).unlink()
    taken_away = transferred(run, f"folder:{root}", 1)
    assert [row.by_split for row in taken_away.rows] == [row.by_split for row in record.rows]


def test_depths_that_are_not_there_are_refused(run: RunFolder, images: str) -> None:
    with pytest.raises(ConfigError, match="--j 3: x_j has j from 0, the images, to 2"):
        transferred(run, images, 3)
    shutil.rmtree(run.stages[1].path)
    assert [row.j for row in transferred(run, images).rows] == [1]
    with pytest.raises(RefusedError, match="block 1 is needed first"):
        transferred(run, images, 2)


def test_features_that_have_no_room_are_refused(run: RunFolder, images: str) -> None:
    tight = reopened(run.path, "budget.disk=1 KB")
    with pytest.raises(DiskError, match=r"features of 32 images need 1\.5 KB, and 0 B are left of budget\.disk"):
        transferred(tight, images)


def test_features_that_do_not_fit_in_host_memory_come_from_the_disk(run: RunFolder, images: str) -> None:
    expected = transferred(run, images, 2)
    shutil.rmtree(run.path / "transfer")
    tight = reopened(run.path, "budget.host=1000")
    assert transferred(tight, images, 2).rows[0].by_split == expected.rows[0].by_split


def test_a_link_in_the_way_is_not_written_through(run: RunFolder, images: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (run.path / "transfer").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CorruptDataError, match="is a link"):
        transferred(run, images)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_command_prints_the_table_and_json(run: RunFolder, images: str, cascade: Callable[..., Outcome]) -> None:
    arguments = ("transfer", "--run", run.path, "--data", images, "--per-class", 3, "--splits", 2)
    code, out, _ = cascade(*arguments)
    assert (code, "x_2" in out, "PCA: 500, but no more than channels or training images" in out) == (0, True, True)
    code, out, _ = cascade(*arguments, "--j", 2, "--json")
    assert [row["accuracy"]["n"] for row in json.loads(out)["rows"]] == [2]
    code, _, err = cascade("transfer", "--run", run.path, "--data", "nothing")
    assert (code, "expected digits:, npz:FILE" in err) == (2, True)
