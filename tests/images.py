"""Small data sets on disk, and the config that names them."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.config import Config
from pipeline.config_file import read_config
from pipeline.data_info import DataInfo
from pipeline.errors import CascadeError
from pipeline.ingest import ingest
from pipeline.progress import Reporter
from pipeline.sources import open_source


def pixels(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def arrays(train: int = 40, test: int = 12, shape: tuple[int, ...] = (8, 8), classes: int = 3) -> dict[str, Any]:
    """What an npz file holds; labels count through the classes."""
    return {
        "train_images": pixels(train, *shape),
        "train_labels": np.arange(train) % classes,
        "test_images": pixels(test, *shape, seed=1),
        "test_labels": np.arange(test) % classes,
    }


def npz(path: Path, **changed: Any) -> str:
    """Write an npz file, entries changed or, where None, left out; returns its address."""
    entries = {key: value for key, value in (arrays() | changed).items() if value is not None}
    np.savez(path, **entries)
    return f"npz:{path}"


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def image_file(path: Path, array: NDArray[Any], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def tree(root: Path, *splits: str, shape: tuple[int, ...] = (8, 8, 3), count: int = 6) -> str:
    """DIR/SPLIT/{ant,bee}/N.png, each of other pixels; returns the address."""
    for number, split in enumerate(splits):
        for label, name in enumerate(("ant", "bee")):
            for i in range(count):
                seed = 1000 * number + 100 * label + i
                image_file(root / split / name / f"{i}.png", pixels(*shape, seed=seed))
    return f"folder:{root}"


def config(source: str, **sections: dict[str, Any]) -> Config:
    """A config on a data set, run = 8, with sections merged in."""
    table: dict[str, Any] = {
        "data": {"source": source},
        "network": {"stages": 2, "width": 4},
        "head": {"k": 1},
        "augment": {"policy": "none"},
        "order": {"run": 8, "window": 16},
    }
    for name, section in sections.items():
        table[name] = table.get(name, {}) | section
    return read_config(table, where="test")


def ingested(folder: Path, source: str, *, skip_bad: bool = False, **sections: dict[str, Any]) -> DataInfo:
    """Ingest a data set into a run folder."""
    folder.mkdir(exist_ok=True)
    return ingest(config(source, **sections), folder, Reporter(), skip_bad=skip_bad)


def refused(kind: type[CascadeError], address: str) -> str:
    """The message with which a data set is refused: of this kind and no other."""
    with pytest.raises(CascadeError) as caught:
        open_source(address)
    assert type(caught.value) is kind
    return str(caught.value)
