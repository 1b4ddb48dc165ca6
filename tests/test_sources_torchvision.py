"""Data sets by address: torchvision:NAME, with data sets that stand in for torchvision's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from pipeline.errors import CascadeError, ConfigError, CorruptDataError
from pipeline.sources import open_source
from tests.images import refused

calls: list[dict[str, Any]] = []
"""The arguments of each data set made."""


class Fake(datasets.VisionDataset):  # type: ignore[misc]
    """Twelve images of three classes, as torchvision would give them."""

    numbers: Any = np.arange(12) % 3

    def __getitem__(self, i: int) -> Any:
        if i >= 12:
            raise IndexError(i)
        return Image.fromarray(np.full((8, 8), i, np.uint8)), int(self.numbers[i])

    def __len__(self) -> int:
        return 12


class WithFlag(Fake):
    def __init__(self, root: str, train: bool = True, download: bool = False) -> None:
        calls.append({"root": root, "train": train, "download": download})
        self.targets = self.numbers
        self.classes = ["ant", "bee", "cat"]


class WithSplit(Fake):
    def __init__(self, root: str, split: str = "train", download: bool = False) -> None:
        calls.append({"root": root, "split": split, "download": download})
        self._labels = torch.from_numpy(self.numbers)


class WithVal(Fake):
    """As ImageNet: no labels of the test split, nothing to download, synonyms for names."""

    def __init__(self, root: str, split: str = "train") -> None:
        if split not in ("train", "val"):
            raise ValueError(f"Unknown value '{split}' for argument split")
        calls.append({"root": root, "split": split})
        self._samples = [(f"{i}.png", int(label)) for i, label in enumerate(self.numbers)]
        self.classes = [("ant", "emmet"), ("bee",), "cat"]


class WithoutLabelList(Fake):
    def __init__(self, root: str, train: bool = True) -> None:
        calls.append({"root": root, "train": train})


@pytest.fixture(autouse=True)
def in_torchvision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The fakes, under their names in torchvision.datasets."""
    monkeypatch.setenv("CASCADE_DATA", str(tmp_path))
    for kind in (WithFlag, WithSplit, WithVal, WithoutLabelList):
        monkeypatch.setattr(datasets, kind.__name__, kind, raising=False)
    calls.clear()


@pytest.mark.parametrize(
    ("kind", "made", "classes"),
    [
        (WithFlag, [{"train": True, "download": True}, {"train": False, "download": True}], ("ant", "bee", "cat")),
        (WithSplit, [{"split": "train", "download": True}, {"split": "test", "download": True}], ("0", "1", "2")),
        (WithVal, [{"split": "train"}, {"split": "val"}], ("ant, emmet", "bee", "cat")),
        (WithoutLabelList, [{"train": True}, {"train": False}], ("0", "1", "2")),
    ],
)
def test_torchvisions_data_sets_of_every_kind_are_taken(
    tmp_path: Path, kind: type[Fake], made: list[dict[str, Any]], classes: tuple[str, ...]
) -> None:
    source = open_source(f"torchvision:{kind.__name__}")
    assert calls == [{"root": str(tmp_path), **arguments} for arguments in made]
    assert source.classes == classes
    for split in (source.train, source.test):
        assert split.labels.tolist() == [0, 1, 2] * 4
        assert split.labels.dtype == np.int64
        assert [np.asarray(split.load(i)).max() for i in range(12)] == list(range(12))
    assert source.test.name(3) == f"{kind.__name__} test[3]"


@pytest.mark.parametrize("name", ["", "Nothing", "folder", "wrap_dataset_for_transforms_v2", "os"])
def test_unknown_name_is_refused(name: str) -> None:
    message = refused(ConfigError, f"torchvision:{name}")
    assert message == f"data.source = 'torchvision:{name}': torchvision.datasets has no data set of this name"


@pytest.mark.parametrize("name", ["ImageFolder", "FakeData", "Caltech101"])
def test_data_set_without_splits_is_refused(name: str) -> None:
    assert "has no training and test split; give it as folder:DIR" in refused(ConfigError, f"torchvision:{name}")


@pytest.mark.parametrize("name", ["EMNIST", "OxfordIIITPet", "Kinetics", "PhotoTour"])
def test_data_set_with_more_to_choose_is_refused(name: str) -> None:
    assert "cannot be had by its name alone" in refused(ConfigError, f"torchvision:{name}")


def test_data_set_that_cannot_be_downloaded_is_refused_with_where_it_was_looked_for(tmp_path: Path) -> None:
    assert refused(ConfigError, "torchvision:ImageNet").startswith(f"torchvision:ImageNet is not at hand in {tmp_path}")


@pytest.mark.parametrize(
    ("labels", "kind", "message"),
    [
        (np.zeros((12, 40), int), ConfigError, "has labels of type int64 and shape (12, 40); expected one integer"),
        ([0.5] * 12, ConfigError, "has labels of type float64 and shape (12,)"),
        ([None] * 12, ConfigError, "has labels of type object"),
        ([[1], [1, 2]], ConfigError, "the labels of torchvision's WithFlag train cannot be read"),
        ([0, 1, -1] * 4, CorruptDataError, "4 labels of the training images lie outside 0..2, the first is -1"),
        ([0, 1, 2] * 3, ConfigError, "torchvision's WithFlag train has 9 labels for 12 images"),
        ([7] * 12, ConfigError, "has no training images of 7 of 8 classes"),
    ],
)
def test_labels_that_are_not_one_class_for_each_image_are_refused(
    monkeypatch: pytest.MonkeyPatch, labels: Any, kind: type[CascadeError], message: str
) -> None:
    monkeypatch.setattr(WithFlag, "numbers", labels)
    assert message in refused(kind, "torchvision:WithFlag")


def test_what_is_no_image_is_a_bad_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WithFlag, "__getitem__", lambda self, i: (torch.zeros(3), 0))
    with pytest.raises(TypeError, match="torchvision's WithFlag gives Tensor, not images"):
        open_source("torchvision:WithFlag").train.load(0)
