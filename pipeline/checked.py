"""What `verify` says of a store, or of the files of a stage."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

GONE = "it was deleted while it was looked at"
"""A note on a store or stage that `gc` took back meanwhile."""


@dataclass(frozen=True)
class Damage:
    """One file that is not as it was written."""

    file: str
    """In the run folder."""
    reason: str
    """What is wrong with it."""
    remedy: str
    """What to type or do."""


@dataclass(frozen=True)
class Checked:
    """One store, the files of one stage, or what an experiment keeps."""

    what: str
    """Its folder in the run folder."""
    files: int
    """Chunks, or files of the stage."""
    nbytes: int
    """Bytes of them."""
    recomputed: int
    """Chunks that were computed again from the parent."""
    damage: list[Damage]
    """What is not as it was written, or does not follow from the parent."""
    note: str = ""
    """What a reader should know of the recomputation."""
    kind: Literal["store", "stage", "experiment", "list"] = "store"
    """What it is: an experiment, what is kept beside the stages; a list, of images left out of x_0."""


def within(reason: str, path: Path) -> str:
    """What is wrong with a file of a store, without the store's path, which is said once."""
    return reason.replace(f" of {path}", "").replace(f"{path}/", "")
