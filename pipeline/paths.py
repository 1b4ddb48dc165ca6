"""What is in a folder that another process may be deleting from."""

import shlex
from pathlib import Path


def matching(folder: Path, pattern: str) -> list[Path]:
    """The paths below a folder that match a pattern, sorted.

    Up to Python 3.12 a glob fails where a folder vanishes between its name and its names: then it is looked at again.
    """
    while True:
        try:
            return sorted(folder.glob(pattern))
        except FileNotFoundError:
            continue


def run_option(path: Path) -> str:
    """The option by which a command that is shown names a run folder; "" of the present one."""
    return "" if path.resolve() == Path.cwd() else f" --run {shlex.quote(str(path))}"
