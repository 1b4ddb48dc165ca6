"""Looking at folders from which another process deletes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.paths import matching


def test_paths_are_found_in_order_and_none_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    for name in ("b", "a", "c.d"):
        (tmp_path / name).mkdir()
    assert [path.name for path in matching(tmp_path, "[!.]")] == ["a", "b"]
    assert matching(tmp_path / "none", "*") == []


def test_a_folder_that_vanishes_meanwhile_is_looked_past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    glob = Path.glob

    def vanishing(path: Path, pattern: str) -> Iterator[Path]:
        yield from glob(path, pattern)
        if (tmp_path / "b").exists():
            (tmp_path / "b").rmdir()
            raise FileNotFoundError

    monkeypatch.setattr(Path, "glob", vanishing)
    assert matching(tmp_path, "*") == [tmp_path / "a"]
