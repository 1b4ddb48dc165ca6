"""Links in a run folder are not followed: they would lead out of it, to read there or to write."""

from pathlib import Path

from cache import RECORD_BYTES, CorruptStoreError, Folder
from pipeline.errors import CorruptDataError


def check_unlinked(path: Path, *, below: Path) -> None:
    """Raise CorruptDataError where `path`, or a folder between `below` and it, is a link; `below` itself may be one."""
    while path != below and path != path.parent:
        if path.is_symlink():
            raise CorruptDataError(
                f"{path} is a link, which is not followed inside a run folder\n"
                f"next: put what it leads to in its place, or remove the link"
            )
        path = path.parent


def read_file(path: Path, limit: int = RECORD_BYTES) -> bytes:
    """The bytes of a file; a link is not followed, and a pipe not waited for.

    Raises CorruptStoreError for those and folders, and for a file of more than `limit` bytes; FileNotFoundError,
    PermissionError.
    """
    try:
        return Folder(path.parent).read(path.name, limit)
    except NotADirectoryError as error:
        first = next((folder for folder in reversed(path.parents) if not folder.is_dir()), path.parent)
        raise CorruptStoreError(f"{first} is no folder") from error
