"""Weights as safetensors files: nothing but tensors in them, and a hash by which damage and mix-ups are noticed."""

import errno
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import torch
from safetensors.torch import save
from torch import Tensor, nn

from cache import CorruptStoreError, replace_file
from pipeline.errors import CorruptDataError
from pipeline.experiments.places import makes_again
from pipeline.tensor_file import TensorFileError, read_tensor_file, read_tensor_metadata, read_tensor_shapes

CONTENT = "content"
"""Entry of a file's metadata: the hash of all else in it."""


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> str:
    """Write a safetensors file in place of what was there, or leave that as it was. Returns its content hash."""
    data, content = pack_tensors(tensors, metadata or {})
    replace_file(path, data)
    return content


def pack_tensors(tensors: dict[str, Tensor], metadata: dict[str, str]) -> tuple[bytes, str]:
    """The bytes of a safetensors file, whose metadata has one entry more: the content hash, also returned."""
    on_host = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = content_hash(on_host, metadata)
    return save(on_host, {**metadata, CONTENT: content}), content


def content_hash(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """SHA-256 over names, element types, shapes and bytes of tensors on the host, and over metadata."""
    digest = hashlib.sha256()
    described = [(name, str(tensor.dtype), list(tensor.shape)) for name, tensor in sorted(tensors.items())]
    digest.update(msgspec.json.encode([described, sorted(metadata.items())]))
    for _, tensor in sorted(tensors.items()):
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_tensors(
    path: Path, *, content: str | None = None, remedy: str | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file, which has to be the one whose `content` hash is given, if it is.

    Raises CorruptDataError where it is missing, damaged or another one, PermissionError.
    """
    remedy = remedy or f"delete the folder {path.parent} and {makes_again(path.parent)}"
    with _naming(path, remedy):
        tensors, metadata = read_tensor_file(path)
    said = metadata.pop(CONTENT, None)
    if said is None or said != content_hash(tensors, metadata):
        raise CorruptDataError(f"{path} is damaged: its content does not have the hash that it names\nnext: {remedy}")
    if content not in (None, said):
        raise CorruptDataError(f"{path} is whole, but not the file that the stage's record names\nnext: {remedy}")
    return tensors, metadata


@contextmanager
def _naming(path: Path, remedy: str) -> Iterator[None]:
    """Say of a weights file that it is missing or damaged, where the disk cannot read it too."""
    try:
        yield
    except FileNotFoundError:
        raise CorruptDataError(f"{path} is missing\nnext: {remedy}") from None
    except CorruptStoreError as error:
        raise CorruptDataError(f"{error}\nnext: {remedy}") from error
    except TensorFileError as error:
        raise CorruptDataError(f"{path} cannot be read: {error}\nnext: {remedy}") from error
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        raise CorruptDataError(f"{path} cannot be read: {error.strerror}\nnext: {remedy}") from error


def read_metadata(path: Path) -> dict[str, str] | None:
    """The metadata of a file, unverified and without its tensors; None where it is gone or cannot be read."""
    try:
        with _naming(path, ""):
            return read_tensor_metadata(path)
    except CorruptDataError:
        return None


def read_shapes(path: Path) -> dict[str, list[int]]:
    """The shapes of a file's tensors, unverified; none where it is gone or cannot be read."""
    try:
        with _naming(path, ""):
            return read_tensor_shapes(path)
    except CorruptDataError:
        return {}


def module_tensors(**modules: nn.Module) -> dict[str, Tensor]:
    """The state of several modules, each tensor's name led by its module's."""
    return dict(nn.ModuleDict(modules).state_dict())


def load_modules(tensors: dict[str, Tensor], path: Path, **modules: nn.Module) -> None:
    """Put a file's tensors into the modules they were saved from. Raises CorruptDataError where they do not fit."""
    try:
        nn.ModuleDict(modules).load_state_dict(tensors)
    except RuntimeError as error:
        raise CorruptDataError(
            f"{path} is not of this network: {error}\nnext: move {path.parent} away and {makes_again(path.parent)}"
        ) from error
