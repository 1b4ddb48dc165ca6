"""The list of bad images, and what in it is shown."""

import errno
import os
from pathlib import Path

import pytest

from pipeline.bad_images import (
    BadImage,
    is_of_the_machine,
    printable,
    read_bad_images,
    reason_of,
    shown,
    write_bad_images,
)
from pipeline.errors import CorruptDataError


def bad(i: int) -> BadImage:
    return BadImage(split="train", sample_id=i, name=f"{i}.png", reason="an empty file")


def test_list_is_read_back_as_it_was_written_one_a_line(tmp_path: Path) -> None:
    write_bad_images(tmp_path / "list", [bad(3), bad(1)])
    assert read_bad_images(tmp_path / "list") == [bad(3), bad(1)]
    assert (tmp_path / "list").read_text().splitlines() == [
        f'{{"split":"train","sample_id":{i},"name":"{i}.png","reason":"an empty file"}}' for i in (3, 1)
    ]


@pytest.mark.parametrize("data", [None, b"", b"{", b"\xff", b'{"split":"train"}', b"[]"])
def test_list_that_is_missing_or_damaged_is_empty(tmp_path: Path, data: bytes | None) -> None:
    if data is not None:
        (tmp_path / "list").write_bytes(data)
    assert read_bad_images(tmp_path / "list") == []


@pytest.mark.parametrize("what", ["link", "pipe", "folder", "giant"])
def test_what_is_no_list_is_named_and_neither_followed_nor_waited_for(tmp_path: Path, what: str) -> None:
    path = tmp_path / "list"
    if what == "link":
        path.symlink_to("/dev/zero")
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    else:
        path.touch()
        os.truncate(path, 2**40)
    with pytest.raises(
        CorruptDataError, match=f"{path} is (not a file|damaged: it has 1,099,511,627,776).*\nnext: remove"
    ):
        read_bad_images(path)


def test_ten_are_shown_and_the_others_counted() -> None:
    assert shown([bad(1), bad(2)]) == "  1.png: an empty file\n  2.png: an empty file"
    assert shown([bad(i) for i in range(10)]).count("\n") == 9
    assert shown([bad(i) for i in range(1012)]).endswith("  9.png: an empty file\n  and 1,002 more")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/set/bée 1.png", "/set/bée 1.png"),
        ("caf\udce9.png", "caf\\udce9.png"),
        ("a\nb\x1b[31m", "a\\nb\\x1b[31m"),
    ],
)
def test_text_is_one_line_that_can_be_written(text: str, expected: str) -> None:
    assert printable(text) == expected
    assert printable(text).encode().isascii() or "é" in text


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/a/b.png"), "No such file or directory"),
        (OSError("image file is truncated"), "image file is truncated"),
        (KeyError(), "KeyError"),
        (ValueError("two\nlines"), "two\\nlines"),
    ],
)
def test_reason_is_what_the_decoder_said_without_the_path(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.ENOMEM, errno.ESTALE])
def test_failing_disk_or_memory_is_of_the_machine(number: int) -> None:
    assert is_of_the_machine(OSError(number, "failed"))
    assert is_of_the_machine(MemoryError())


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.ELOOP, errno.EINVAL])
def test_missing_or_unreadable_file_is_of_the_image(number: int) -> None:
    assert not is_of_the_machine(OSError(number, "failed"))
    assert not is_of_the_machine(OSError("image file is truncated"))
    assert not is_of_the_machine(ValueError("no image"))
