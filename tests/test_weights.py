"""Weight files: damage and mix-ups are noticed."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from pipeline.errors import CorruptDataError
from pipeline.weights import content_hash, load_modules, load_tensors, pack_tensors, read_metadata, save_tensors

TENSORS = {
    "block.weight": torch.arange(6.0).reshape(2, 3),
    "seen": torch.tensor(3.0, dtype=torch.float64),
    "steps": torch.tensor([1, 2]),
    "half": torch.ones(2, dtype=torch.bfloat16),
    "none": torch.zeros(0),
}


def test_tensors_and_metadata_come_back(tmp_path: Path) -> None:
    content = save_tensors(tmp_path / "w", TENSORS, {"epochs": "3"})
    tensors, metadata = load_tensors(tmp_path / "w", content=content)
    assert metadata == {"epochs": "3"}
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert torch.equal(tensors[name], tensor)
        assert tensors[name].dtype == tensor.dtype


def test_every_flipped_byte_and_every_cut_is_noticed(tmp_path: Path) -> None:
    data, _ = pack_tensors(TENSORS, {"epochs": "3"})
    path = tmp_path / "w"
    for place in range(len(data)):
        for damaged in (data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :], data[:place]):
            path.write_bytes(damaged)
            with pytest.raises(CorruptDataError, match=r"w (cannot be read|is damaged).*\nnext: delete the folder"):
                load_tensors(path)


@pytest.mark.parametrize(
    ("tensors", "metadata"),
    [
        ({**TENSORS, "steps": torch.tensor([1, 3])}, {}),
        ({**TENSORS, "steps": torch.tensor([1, 2], dtype=torch.int32)}, {}),
        ({**TENSORS, "block.weight": torch.arange(6.0).reshape(3, 2)}, {}),
        ({**{k: v for k, v in TENSORS.items() if k != "seen"}, "Seen": TENSORS["seen"]}, {}),
        ({k: v for k, v in TENSORS.items() if k != "none"}, {}),
        (TENSORS, {"epochs": "3"}),
    ],
)
def test_the_hash_is_of_names_types_shapes_bytes_and_metadata(
    tensors: dict[str, Tensor], metadata: dict[str, str]
) -> None:
    assert content_hash(tensors, metadata) != content_hash(TENSORS, {})


def test_the_hash_does_not_depend_on_the_order_of_names() -> None:
    assert content_hash(dict(reversed(TENSORS.items())), {}) == content_hash(TENSORS, {})


def test_a_whole_file_that_is_another_one_is_refused(tmp_path: Path) -> None:
    content = save_tensors(tmp_path / "block", TENSORS)
    save_tensors(tmp_path / "block", {**TENSORS, "steps": torch.tensor([1, 3])})
    with pytest.raises(CorruptDataError, match=r"is whole, but not the file that the stage's record names\nnext: copy"):
        load_tensors(tmp_path / "block", content=content, remedy="copy it back")


def test_a_file_without_a_hash_is_refused(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "w")
    with pytest.raises(CorruptDataError, match="its content does not have the hash that it names"):
        load_tensors(tmp_path / "w")


def test_metadata_of_a_file_that_is_gone_or_damaged_is_none(tmp_path: Path) -> None:
    assert read_metadata(tmp_path / "w") is None
    (tmp_path / "w").write_bytes(b"short")
    assert read_metadata(tmp_path / "w") is None


@pytest.mark.parametrize("reads", [0, 1, 2])
def test_a_bad_sector_is_damage_wherever_in_the_file_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: int
) -> None:
    save_tensors(tmp_path / "w", TENSORS)
    preadv, left = os.preadv, reads

    def fails(descriptor: int, buffers: Any, offset: int) -> int:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return preadv(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", fails)
    with pytest.raises(CorruptDataError, match=r"w cannot be read: Input/output error\nnext: delete the folder"):
        load_tensors(tmp_path / "w")


def test_a_file_that_shrinks_while_it_is_read_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_tensors(tmp_path / "w", {"a": torch.zeros(10**6)})
    preadv, reads = os.preadv, 0

    def shrinks(descriptor: int, buffers: Any, offset: int) -> int:
        nonlocal reads
        reads += 1
        if reads == 3:
            os.truncate(tmp_path / "w", 10**6)
        return preadv(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", shrinks)
    with pytest.raises(CorruptDataError, match=r"w cannot be read: the file became shorter"):
        load_tensors(tmp_path / "w")


def test_weights_of_another_network_are_refused_with_the_next_action() -> None:
    path = Path("stages/0-abc/block.safetensors")
    with pytest.raises(
        CorruptDataError,
        match=r"is not of this network: (.|\n)*\nnext: move stages/0-abc away and train the stage again$",
    ):
        load_modules({"block.weight": torch.zeros(1, 1)}, path, block=torch.nn.Linear(2, 3))


def test_a_link_in_the_place_of_weights_is_not_followed(tmp_path: Path) -> None:
    save_tensors(tmp_path / "elsewhere", {"a": torch.ones(2)})
    (tmp_path / "block.safetensors").symlink_to(tmp_path / "elsewhere")
    link = r"block.safetensors is not a file, but a link or a device\nnext: delete the folder"
    with pytest.raises(CorruptDataError, match=link):
        load_tensors(tmp_path / "block.safetensors")
