"""A small trained run folder, made once and copied: run folders can move."""

from pathlib import Path

import msgspec
import pytest

from pipeline.device import choose_device
from pipeline.networks import EncodingRecord
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.sealed import unseal, write_sealed
from pipeline.training import train_stage
from pipeline.weights import load_tensors, save_tensors
from tests.runs import digits_run

CPU = choose_device("cpu")
SETTINGS = (
    "network.width=4",
    "head.width=4",
    "train.epochs=1",
    "order.run=64",
    "order.window=128",
    "data.validation=0.4",
)


def trained_run(folder: Path, *settings: str, stages: int = 2) -> RunFolder:
    """The first stages trained, with x_1 and x_2 of three or more chunks a view."""
    run = digits_run(folder, *SETTINGS, *settings)
    for j in range(stages):
        train_stage(run, j, CPU, Reporter())
    return run


def double_block(run: RunFolder, *, pinned: bool = True) -> None:
    """Put another block 0 in place, `pinned` as the one that the stage's record and scale name."""
    folder = run.stages[0]
    tensors, metadata = load_tensors(folder.block)
    doubled = {name: tensor * 2 if tensor.dim() > 1 else tensor for name, tensor in tensors.items()}
    content, record = save_tensors(folder.block, doubled, metadata), folder.record
    if pinned and record is not None:
        write_sealed(folder.record_path, msgspec.structs.replace(record, content={**record.content, "block": content}))
        scale = unseal(folder.scale.read_bytes(), EncodingRecord)
        write_sealed(folder.scale, msgspec.structs.replace(scale, block=content))


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, but for the lock."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Trained, and not to be changed."""
    return trained_run(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def of_stage_0(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Stage 0 trained, which all policies and encodings share, and nothing stored."""
    return trained_run(tmp_path_factory.mktemp("of_stage_0") / "run", "cache.keep=none", stages=1)
