"""What a figure was measured on, and how it is printed and kept. Shared by the benchmarks."""

import datetime
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec

from cache import replace_file

PACKAGES = ("numpy", "zarr", "numcodecs", "google-crc32c", "tensorstore", "torch", "litdata")


def record() -> dict[str, Any]:
    """The machine and the versions that a figure depends on; nothing that names the machine or a place on it."""
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := installed(name))},
        "date": datetime.date.today().isoformat(),
    }


def cpu_model() -> str:
    """Model name of the first processor, as Linux reports it; the architecture where it reports none."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def installed(package: str) -> str | None:
    """Version of a package, found without importing it; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def write_json(path: Path, results: Mapping[str, Any]) -> None:
    """Write results to `path`, indented, whole or not at all."""
    replace_file(path, msgspec.json.format(msgspec.json.encode(results)) + b"\n")


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns as wide as their widest cell; the first column is text, the others numbers."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        numbers = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join([row[0].ljust(widths[0]), *numbers]))
    print(flush=True)
