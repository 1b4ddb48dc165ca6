"""Files of tensors: read as safetensors reads them, without being mapped, and within the bytes that they have."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.tensor_file import LENGTH, TYPES, TensorFileError, read_tensor_file, read_tensor_metadata


def with_header(path: Path, header: Any, data: bytes = b"") -> Path:
    """A file of a header and data."""
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(LENGTH.pack(len(encoded)) + encoded + data)
    return path


def tensor(first: int, last: int, dtype: str = "F32", shape: tuple[int, ...] = (1,)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, last]}


def test_tensors_of_every_type_are_those_that_safetensors_reads(tmp_path: Path) -> None:
    tensors = {name: torch.arange(7).reshape(1, 7).to(kind) for name, kind in TYPES.items()}
    save_file({**tensors, "none": torch.zeros(0, 3), "one": torch.tensor(1.5)}, tmp_path / "w", {"epochs": "3"})
    found, metadata = read_tensor_file(tmp_path / "w")
    expected = load_file(tmp_path / "w")
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)
    assert metadata == read_tensor_metadata(tmp_path / "w") == {"epochs": "3"}


def test_the_bytes_of_all_tensors_are_in_memory_once(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1000), "b": torch.ones(1000)}, tmp_path / "w")
    found, _ = read_tensor_file(tmp_path / "w")
    assert len({value.untyped_storage().data_ptr() for value in found.values()}) == 1
    assert found["a"].untyped_storage().nbytes() == 8000


def test_metadata_is_read_without_the_tensors(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1000)}, tmp_path / "w", {"epochs": "3"})
    whole = (tmp_path / "w").read_bytes()
    (tmp_path / "w").write_bytes(whole[:-4000])
    assert read_tensor_metadata(tmp_path / "w") == {"epochs": "3"}
    with pytest.raises(TensorFileError, match="it has 0 bytes of tensors, and 4,000 belong there"):
        read_tensor_file(tmp_path / "w")


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        (b"", "its header: "),
        (b"[" * 10**5, "its header: "),
        (b'{"a": 1}', "its header: "),
        (b'{"__metadata__": {"a": 1}}', "its header: "),
        ({"a": tensor(0, 4, shape=(1,) * 9)}, "its header: "),
        ({"a": tensor(0, 4, shape=(-1,))}, "its header: "),
        ({"a": tensor(0, 4, "F128")}, "a is of type F128; known: F64, "),
        ({"a": tensor(4, 8)}, "a is said to be at bytes 4 to 8"),
        ({"a": tensor(0, 8)}, "a is said to be at bytes 0 to 8"),
        ({"a": tensor(0, 4), "b": tensor(0, 4)}, "b is said to be at bytes 0 to 4"),
        ({"a": tensor(0, 1, "U8"), "b": tensor(1, 5)}, "b is said to be at bytes 1 to 5"),
        ({"a": tensor(0, 4)}, "it has 8 bytes of tensors, and 4 belong there"),
    ],
)
def test_a_header_that_cannot_be_is_refused(tmp_path: Path, header: Any, fault: str) -> None:
    with pytest.raises(TensorFileError, match=fault):
        read_tensor_file(with_header(tmp_path / "w", header, bytes(8)))


@pytest.mark.parametrize("length", [0, 3, 8])
def test_a_file_that_ends_before_its_header_does_is_refused(tmp_path: Path, length: int) -> None:
    (tmp_path / "w").write_bytes(LENGTH.pack(9)[:length])
    with pytest.raises(TensorFileError, match=f"it ends after {length} bytes, before its header does"):
        read_tensor_file(tmp_path / "w")


def test_a_file_that_someone_blew_up_fills_no_memory(tmp_path: Path) -> None:
    path = with_header(tmp_path / "w", {"a": tensor(0, 4)}, bytes(4))
    with path.open("r+b") as file:
        file.truncate(2**42)
    with pytest.raises(TensorFileError, match=r"it has 4,398,\d+,\d+,\d+ bytes of tensors, and 4 belong there"):
        read_tensor_file(path)
    path.write_bytes(LENGTH.pack(2**40))
    with path.open("r+b") as file:
        file.truncate(2**42)
    with pytest.raises(TensorFileError, match="its header is said to have 1,099,511,627,776 bytes"):
        read_tensor_file(path)
