"""The device: which one, what precision pays there, and how much of its memory was used."""

import os
import resource
from contextlib import AbstractContextManager

import torch
from torch import nn

from pipeline.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """The torch device of a name; "auto" is CUDA where there is one, else the CPU. Raises ConfigError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda", "mps", "xpu"):
            raise RuntimeError("nothing is trained on it")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(f"device {name!r} cannot be used here: {reason}\nnext: --device cpu, or auto") from None
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
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "precision": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "torch": str(torch.__version__),
    }
