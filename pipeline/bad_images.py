"""Images that cannot be ingested: whose fault it is, the file that lists them, and how they are shown."""

import errno
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from cache import CorruptStoreError, replace_file
from pipeline.errors import CorruptDataError
from pipeline.links import read_file
from pipeline.sealed import SealError, seal_line, unseal

BAD_IMAGES = "bad_images.jsonl"
"""In the run folder: what the last ingest was refused for. The next one tries these first."""
SKIPPED = "skipped.jsonl"
"""In x_0: what was left out of it."""
LIST_BYTES = 512 * 2**20
"""What a list stays within: a line is some 200 bytes, and the largest data sets have 14 million images."""
SHOWN = 10
MACHINE_FAULTS = (
    errno.EIO,
    errno.ENOMEM,
    errno.EMFILE,
    errno.ENFILE,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ENOTCONN,
    errno.EHOSTDOWN,
)
"""Met when a disk or a network fails, or memory or file handles run out: the next image would fail as well."""


class BadImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image that cannot be ingested."""

    split: str
    """The split that it belongs to."""
    sample_id: int
    """Its index in the data set's training or test images."""
    name: str
    """Its file, or what else to call it."""
    reason: str
    """What is wrong with it."""


def is_of_the_machine(error: Exception) -> bool:
    """Whether an error met with an image says nothing of the image."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in MACHINE_FAULTS)


def reason_of(error: Exception) -> str:
    """What is wrong with an image, from what its decoder raised."""
    text = error.strerror if isinstance(error, OSError) and error.errno else str(error)
    return printable(text or type(error).__name__)


def printable(text: str) -> str:
    """A text that can be written as UTF-8 and shown in one line: file names hold any byte but the slash."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def write_bad_images(path: Path, images: Iterable[BadImage]) -> None:
    """Write a list of images, one a line."""
    replace_file(path, msgspec.json.Encoder().encode_lines(images))


def read_bad_images(path: Path) -> list[BadImage]:
    """A list of images; empty where there is none or it is damaged, since each of them is only to be tried again.

    Raises CorruptDataError where what is there is no file, or larger than any list.
    """
    try:
        return msgspec.json.Decoder(BadImage).decode_lines(read_file(path, LIST_BYTES))
    except CorruptStoreError as error:
        raise CorruptDataError(f"{error}\nnext: remove it: it only lists the images to be tried first") from error
    except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return []


def write_skipped(x_0: Path, images: Iterable[BadImage]) -> None:
    """Write what is left out of x_0 beside it, each line with its checksum."""
    replace_file(x_0 / SKIPPED, *map(seal_line, images))


def read_skipped(x_0: Path, counts: Mapping[str, int]) -> list[BadImage]:
    """What was left out of x_0, so many images of each split as its record says.

    Raises CorruptDataError where the list is damaged or another.
    """
    path = x_0 / SKIPPED
    try:
        lines = read_file(path, LIST_BYTES).splitlines(keepends=True) if counts else []
        images = [unseal(line, BadImage) for line in lines]
        found = Counter(image.split for image in images)
        reason = "" if found == counts else f"it lists {dict(found)} images, {dict(counts)} were left out"
    except (FileNotFoundError, CorruptStoreError, SealError) as error:
        reason = "it is missing" if isinstance(error, FileNotFoundError) else str(error)
    if reason:
        raise CorruptDataError(
            f"{path} is damaged: {reason}\nnext: put it back from a copy, or delete {x_0} and ingest again with "
            f"--skip-bad"
        )
    return images


def shown(images: Sequence[BadImage]) -> str:
    """The first images with their reasons, a line each, and how many there are beside them."""
    lines = [f"  {image.name}: {image.reason}" for image in images[:SHOWN]]
    return "\n".join([*lines, *([f"  and {len(images) - SHOWN:,} more"] if len(images) > SHOWN else [])])
