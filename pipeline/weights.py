"""Weights as safetensors files, and nothing but tensors in them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from cache import replace_file
from pipeline.draws import Purpose, draw
from pipeline.errors import CorruptDataError


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file in place of what was there, or leave that as it was."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    replace_file(path, save(contiguous, metadata))


def load_tensors(path: Path, *, remedy: str | None = None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file. Raises CorruptDataError where it is missing or damaged, PermissionError."""
    with _readable(path, remedy) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


@contextmanager
def _readable(path: Path, remedy: str | None) -> Iterator[Any]:
    """A safetensors file, open."""
    remedy = remedy or f"delete the folder {path.parent} and train the stage again"
    try:
        path.open("rb").close()  # safetensors calls every trouble a missing file
    except FileNotFoundError:
        raise CorruptDataError(f"{path} is missing\nnext: {remedy}") from None
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise CorruptDataError(f"{path} cannot be read: {error}\nnext: {remedy}") from error


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a file, without its tensors. Raises like `load_tensors`."""
    with _readable(path, None) as file:
        metadata: dict[str, str] = file.metadata() or {}
        return metadata


def module_tensors(**modules: nn.Module) -> dict[str, Tensor]:
    """The state of several modules, each tensor's name led by its module's."""
    return dict(nn.ModuleDict(modules).state_dict())


def load_modules(tensors: dict[str, Tensor], path: Path, **modules: nn.Module) -> None:
    """Put a file's tensors into the modules they were saved from. Raises CorruptDataError where they do not fit."""
    try:
        nn.ModuleDict(modules).load_state_dict(tensors)
    except RuntimeError as error:
        raise CorruptDataError(f"{path} is not of this network: {error}") from error


@contextmanager
def fresh_weights(seed: int, stage: int) -> Iterator[None]:
    """A context in which modules initialise themselves with weights that depend on (seed, stage) alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(draw(seed, Purpose.WEIGHTS, stage)[0] >> np.uint64(1)))
        yield
