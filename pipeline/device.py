"""The device: which one, what precision pays there, and how much of its memory was used."""

import os
import resource
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn

from pipeline.errors import ConfigError
from pipeline.heap import keep_heap

CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
FIXED_WORKSPACES = (":4096:8", ":16:8")
"""With which cuBLAS computes the same bits each time."""


def choose_device(name: str, *, deterministic: bool = False) -> torch.device:
    """The torch device of a name; "auto" is CUDA where there is one, else the CPU. Raises ConfigError.

    One that is to compute `deterministic`ally is told so before CUDA starts.
    """
    if deterministic:
        _fix_cublas_workspace()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda", "mps", "xpu"):
            raise RuntimeError("nothing is trained on it")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(f"device {name!r} cannot be used here: {reason}\nnext: --device cpu, or auto") from None
    if device.type == "cpu":
        keep_heap()
    return device


def autocast_type(device: torch.device, precision: str) -> torch.dtype:
    """The element type of convolutions under the config's `network.precision`.

    "auto" is bfloat16 where the hardware multiplies it faster than float32: CUDA from Ampere on, and CPUs with
    avx512_bf16 or AMX, which take half the time of float32 or less.
    """
    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else torch.float32
    if device.type == "cuda":
        gains = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        gains = device.type == "cpu" and any(getattr(torch.cpu, probe, bool)() for probe in probes)
    return torch.bfloat16 if gains else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Mixed precision with convolutions in `dtype`; float32 switches it off."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)


@contextmanager
def determinism(device: torch.device, *, asked_for: bool) -> Iterator[None]:
    """Have CUDA compute the same bits each time, where that is asked for. A CPU does so at one thread count anyway."""
    if not asked_for or device.type != "cuda":
        yield
        return
    _fix_cublas_workspace()
    cudnn = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        cudnn.deterministic, cudnn.benchmark = before[1:]


def _fix_cublas_workspace() -> None:
    if (chosen := os.environ.setdefault(CUBLAS_WORKSPACE, FIXED_WORKSPACES[0])) not in FIXED_WORKSPACES:
        raise ConfigError(
            f"machine.deterministic = true, and the environment says {CUBLAS_WORKSPACE} = {chosen}\n"
            f"next: unset it, or set it to {' or '.join(FIXED_WORKSPACES)}"
        )


def place(module: nn.Module, device: torch.device) -> None:
    """Move a module to the device, its convolutions in channels-last memory, which they are fastest in."""
    module.to(device).to(memory_format=torch.channels_last)


def reset_peak_memory(device: torch.device) -> None:
    """Start a new measurement of the device's peak memory; a process on the CPU has but one."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_bytes(device: torch.device) -> int:
    """Bytes allocated on the device at its peak; on the CPU the peak resident set of the process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes * 1024


def machine_record(device: torch.device, dtype: torch.dtype) -> dict[str, object]:
    """What of the machine can move the last bits of a result."""
    is_cuda = device.type == "cuda"
    cudnn: Any = torch.backends.cudnn
    return {
        "device": torch.cuda.get_device_name(device) if is_cuda else device.type,
        "precision": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": str(torch.__version__),
        **({"cuda": torch.version.cuda, "cudnn": cudnn.version()} if is_cuda else {}),
    }


class StepOutOfMemory(RuntimeError):
    """The device had no room for a training step, or for the prefix that it starts from: smaller parts take less."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch had no room for a tensor, on whatever device."""
    return isinstance(error, torch.OutOfMemoryError | StepOutOfMemory) or "can't allocate memory" in str(error)
