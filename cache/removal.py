"""Taking stores back: what makes a folder count as something goes first, so that half of it never does."""

import shutil
from pathlib import Path

from cache.files import sync
from cache.layout import MANIFEST


def remove_store(path: Path) -> None:
    """Delete the store in a folder, committed or not; whenever this is interrupted, it is whole or does not exist."""
    remove_folder(path, MANIFEST)


def remove_folder(path: Path, first: str) -> None:
    """Delete a folder, its file `first` durably before all others."""
    (path / first).unlink(missing_ok=True)
    sync(path)
    shutil.rmtree(path)
    sync(path.parent)
