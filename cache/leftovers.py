"""What an interrupted attempt left at the place of a store, and what of it can be built on."""

import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cache.errors import CorruptStoreError
from cache.in_threads import in_threads
from cache.journal import Begun, read_journal
from cache.layout import JOURNAL, ChunkRecord
from cache.place import Folder
from cache.removal import remove_folder
from cache.verified import verify


def sound_chunks(store: Path, begun: Begun, pool: ThreadPoolExecutor) -> dict[int, ChunkRecord]:
    """The journaled chunks of an earlier attempt at what is `begun` now, by index, if they are as they were written."""
    found = read_journal(store)
    if found is None or not found[0].is_of(begun):
        return {}
    place, last = Folder(store), begun.shape[0] * begun.chunks_per_view
    journaled = [(index, found[1][index]) for index in sorted(found[1]) if index < last]

    def is_sound(chunk: tuple[int, ChunkRecord]) -> bool:
        index, record = chunk
        try:
            verify(place, begun.chunk_name(index), record, begun.chunk_name(index))
        except PermissionError:
            raise  # which says nothing of the file
        except (CorruptStoreError, OSError):
            return False
        return True

    are_sound = in_threads(pool, is_sound, journaled)
    return {index: record for (index, record), is_kept in zip(journaled, are_sound, strict=True) if is_kept}


def keep_only(store: Path, chunks: Iterable[str]) -> None:
    """Remove what is at the place of a store, but for these chunks and their journal."""
    kept = set(chunks)
    if not store.exists():
        return
    if not kept:
        remove_folder(store)
        return
    kept |= {"x", JOURNAL}
    for path in (*store.iterdir(), *(store / "x").iterdir()):
        if str(path.relative_to(store)) in kept:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
