"""JSON records for people to read that carry a checksum, so that a flipped digit does not pass for a result.

The last member of a record's object, "sha256", is the hash of every byte before its own digits.
"""

import errno
import hashlib
from pathlib import Path
from typing import TypeVar

import msgspec

from cache import CorruptStoreError, replace_file
from pipeline.errors import CorruptDataError
from pipeline.links import read_file

DIGITS = 64
ENDS = (b'"\n}\n', b'"}\n')
"""What follows the digits in an indented record, and in one that is a line."""

T = TypeVar("T", bound=msgspec.Struct)


class SealError(ValueError):
    """A record is not as it was written."""


def seal(record: msgspec.Struct) -> bytes:
    """An indented record."""
    indented = msgspec.json.format(msgspec.json.encode(record))
    return _sealed(indented.removesuffix(b"\n}") + b',\n  "sha256": "', ENDS[0])


def seal_line(record: msgspec.Struct) -> bytes:
    """A record on a line of its own."""
    return _sealed(msgspec.json.encode(record).removesuffix(b"}") + b',"sha256":"', ENDS[1])


def unseal(data: bytes, kind: type[T]) -> T:
    """The record of what either of the two gave. Raises SealError."""
    end = next((end for end in ENDS if data.endswith(end)), b"")
    body, digits = data[: -DIGITS - len(end)], data[-DIGITS - len(end) : len(data) - len(end)]
    if not end or not body.endswith((b'"sha256": "', b'"sha256":"')):
        raise SealError("it does not end in a checksum")
    if _digits(body) != digits:
        raise SealError("its content does not have its checksum")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise SealError(str(error)) from error


def write_sealed(path: Path, record: msgspec.Struct) -> None:
    """Write a record in place of what was there, or leave that as it was."""
    replace_file(path, seal(record))


def read_sealed(path: Path, kind: type[T], *, remedy: str) -> T | None:
    """The record at a path, None where there is none. Raises CorruptDataError, with the remedy, where it is damaged,
    or the disk cannot read it."""
    try:
        return unseal(read_file(path), kind)
    except FileNotFoundError:
        return None
    except CorruptStoreError as error:
        raise CorruptDataError(f"{error}\nnext: {remedy}") from error
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        raise CorruptDataError(f"{path} cannot be read: {error.strerror}\nnext: {remedy}") from error
    except SealError as error:
        raise CorruptDataError(f"{path} is damaged: {error}\nnext: {remedy}") from error


def _sealed(body: bytes, end: bytes) -> bytes:
    return body + _digits(body) + end


def _digits(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()
