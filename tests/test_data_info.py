"""The record of x_0: what is read of it fits together, and the stores beside it are those that it is of."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cache import MANIFEST
from pipeline.data_info import check_all_images, read_data_info
from pipeline.device import choose_device
from pipeline.errors import CorruptDataError
from pipeline.evaluation import evaluate
from pipeline.progress import Reporter
from pipeline.repair import Repaired, repair
from pipeline.runfolder import RunFolder
from pipeline.sealed import write_sealed
from pipeline.training import train_stage
from pipeline.verify import verify
from tests.conftest import Outcome
from tests.images import arrays, ingested, npz, pixels
from tests.runs import TINY, copied, digits_run
from tests.trained import files_of

CPU = choose_device("cpu")


def of_source(source: Path, folder: Path) -> RunFolder:
    """A run folder with the images that are at `source` now, the first stage trained."""
    run = digits_run(folder, f"data.source=npz:{source}", *TINY, "train.epochs=1")
    train_stage(run, 0, CPU, Reporter())
    return run


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("source") / "images.npz"


@pytest.fixture(scope="module")
def whole(source: Path) -> RunFolder:
    npz(source, **arrays(train=30))
    return of_source(source, source.parent / "whole")


@pytest.fixture(scope="module")
def other(source: Path, whole: RunFolder) -> RunFolder:
    """The same settings and the same address, at which other pixels were then."""
    before = source.read_bytes()
    npz(
        source, **arrays(train=30) | {"train_images": pixels(30, 8, 8, seed=7), "test_images": pixels(12, 8, 8, seed=8)}
    )
    run = of_source(source, source.parent / "other")
    source.write_bytes(before)
    return run


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_images_of_another_ingest_with_the_same_settings_are_refused(
    whole: RunFolder, other: RunFolder, tmp_path: Path, split: str, cascade: Callable[..., Outcome]
) -> None:
    run = copied(whole, tmp_path / "run")
    assert run.fingerprint(0, split) == other.fingerprint(0, split)
    shutil.rmtree(run.store(0, split))
    shutil.copytree(other.store(0, split), run.store(0, split))
    message = (
        rf"x_0/{split} is whole, but not the {split} images that were ingested here\n"
        rf"next: put those back, or delete {run.path / 'x_0'} and ingest again"
    )
    for refused in (
        lambda: run.open_store(0, split),
        lambda: train_stage(run, 1, CPU, Reporter()),  # though it reads x_1
        lambda: evaluate(run),
        lambda: evaluate(run, recompute_on=CPU),
    ):
        with pytest.raises(CorruptDataError, match=message):
            refused()
    assert run.stages[1].record is None
    (damage,) = [damage for row in verify(run, Reporter()) for damage in row.damage]
    assert damage.file == f"x_0/{split}/{MANIFEST}"
    assert f"not the {split} images that were ingested here" in damage.reason
    assert damage.remedy.startswith("put those back, or delete")
    for command in (("train-stage", "--j", 1), ("evaluate",), ("verify",)):
        assert cascade(*command, "--run", run.path)[0] == 4


def test_a_split_that_is_missing_or_damaged_is_left_to_whoever_reads_it(whole: RunFolder, tmp_path: Path) -> None:
    run = copied(whole, tmp_path / "run")
    (run.store(0, "validation") / MANIFEST).write_bytes(b"{}")
    (run.store(0, "train") / MANIFEST).unlink()
    check_all_images(run.info, run.path)
    assert evaluate(run).stages.keys() == {0}


def test_images_that_are_all_lost_come_back_from_the_same_source_alone(
    whole: RunFolder, other: RunFolder, source: Path, tmp_path: Path
) -> None:
    def repaired(run: RunFolder) -> Repaired:
        (outcome,) = repair(run, CPU, Reporter())
        return outcome

    run, sound = copied(whole, tmp_path / "run"), source.read_bytes()
    before = files_of(run.path)
    (run.store(0, "train") / MANIFEST).unlink()
    for chunk in run.store(0, "train").glob("*/c.*"):
        chunk.unlink()  # so that nothing is left to compare with
    npz(source, **arrays(train=30) | {"train_images": pixels(30, 8, 8, seed=7)})
    try:
        reason = repaired(run).left[MANIFEST]
    finally:
        source.write_bytes(sound)
    assert reason.startswith(f"computed again it comes out different: npz:{source} does not hold the images that were")
    assert repaired(run).put_back == [MANIFEST]
    assert files_of(run.path) == before


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"mean": []}, "mean has 0 numbers, expected 1"),
        ({"mean": [0.1, 0.2]}, "mean has 2 numbers, expected 1"),
        ({"std": []}, "std has 0 numbers, expected 1"),
        ({"std": [0.0]}, r"Expected `float` > 0.0 - at `\$.std"),
        ({"class_counts": [1, 2]}, "class_counts has 2 numbers, expected 3"),
        ({"classes": []}, "Expected `array` of length >= 1"),
        ({"channels": 2}, "channels = 2, expected 1 or 3"),
        ({"run": 0}, r"Expected `int` >= 1 - at `\$.run"),
        ({"side": 0}, r"Expected `int` >= 1 - at `\$.side"),
        ({"samples": {"train": 36, "test": 0}}, "Expected `int` >= 1"),
        ({"samples": {"train": 36}}, "it has images of train, and tables of train, validation, test"),
        ({"samples": {"train": 36, "validation": 4, "../x": 12}}, "it has images of train, validation, ../x"),
        ({"tables": {}}, "it has images of train, validation, test, and tables of $"),
    ],
)
def test_a_record_whose_parts_do_not_fit_is_damaged_though_its_checksum_is_right(
    tmp_path: Path, changed: dict[str, Any], reason: str
) -> None:
    info = ingested(tmp_path / "run", npz(tmp_path / "images.npz"))
    assert read_data_info(tmp_path / "run") == info
    write_sealed(tmp_path / "run/x_0/ingest.json", msgspec.structs.replace(info, **changed))
    with pytest.raises(CorruptDataError, match=rf"(?m)ingest.json is damaged: {reason}") as caught:
        read_data_info(tmp_path / "run")
    assert str(caught.value).endswith(f"\nnext: delete {tmp_path / 'run/x_0'} and ingest again")
