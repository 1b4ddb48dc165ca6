"""Taking folders back: a name of their own first, under which nobody looks for anything, so that no half of one counts.

A store or a stage that is only partly deleted would pass for a damaged one, or for one that is being written. So a
folder NAME becomes `.NAME.removed` beside its place, durably, before anything in it goes.
"""

import os
import shutil
from pathlib import Path

from cache.files import sync

REMOVED = ".removed"


def remove_folder(path: Path) -> None:
    """Delete a folder; whenever this is interrupted, it is whole or not there, and what is left of it can be deleted
    in the same way."""
    aside = path
    if not path.name.endswith(REMOVED):
        aside = path.with_name(f".{path.name.removeprefix('.')}{REMOVED}")
        _delete(aside)  # of an earlier folder in the same place
        os.rename(path, aside)
    sync(path.parent)  # also of what another command renamed, which may have been killed before it did this
    _delete(aside)
    sync(path.parent)


def sweep_removed(folder: Path) -> None:
    """End the removals in a folder that were interrupted."""
    for left in sorted(folder.glob(f".*{REMOVED}")):
        remove_folder(left)


def _delete(path: Path) -> None:
    """Delete a folder, or what else is at its path; a link is not followed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
