"""Imports go one way: cli -> pipeline -> {cascade, cache}."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = {"cli", "pipeline", "cascade", "cache"}
MAY_IMPORT = {
    "cli": {"pipeline", "cascade", "cache"},
    "pipeline": {"cascade", "cache"},
    "cascade": {"torch"},
    "cache": {"crc32c", "msgspec", "numcodecs", "numpy", "zarr"},
}
"""Room -> what it imports besides itself and the standard library; cli and pipeline any third party besides."""


def imported(file: Path, room: str) -> Iterator[str]:
    """Top-level names that a source file imports, by statement or by `import_module` of a literal."""
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (name.name.split(".")[0] for name in names)
            case ast.ImportFrom(module=module, level=0) if module:
                yield module.split(".")[0]
            case ast.ImportFrom():
                yield room  # a relative import cannot leave a top-level package
            case ast.Call(
                func=ast.Name(id="__import__" | "import_module") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield name.split(".")[0]


def wrong_imports(root: Path) -> list[str]:
    """Imports under `root` that go against the direction, as "file imports name"."""
    wrong = []
    for room, allowed in MAY_IMPORT.items():
        for file in [*root.glob(f"{room}.py"), *(root / room).rglob("*.py")]:
            for name in imported(file, room):
                closed = room in ("cascade", "cache") or name in ROOMS
                if closed and name not in {room, *allowed, *sys.stdlib_module_names}:
                    wrong.append(f"{file.relative_to(root)} imports {name}")
    return sorted(wrong)


def test_imports_go_one_way() -> None:
    assert all(list((ROOT / room).glob("*.py")) for room in ("cascade", "cache"))
    assert wrong_imports(ROOT) == []


@pytest.mark.parametrize(
    ("file", "line", "name"),
    [
        ("cascade/a.py", "import cache", "cache"),
        ("cascade/a.py", "from cache.store import Store", "cache"),
        ("cascade/a.py", "import zarr", "zarr"),
        ("cascade/a.py", "import numpy as np", "numpy"),
        ("cascade/a.py", "def f():\n    from pipeline import config", "pipeline"),
        ("cascade/a.py", "if TYPE_CHECKING:\n    import pipeline.config", "pipeline"),
        ("cache/a.py", "import torch.nn", "torch"),
        ("cache/a.py", "from cascade import Quantiser", "cascade"),
        ("cache/deep/a.py", "import os, pipeline", "pipeline"),
        ("cache/a.py", "importlib.import_module('torch.nn')", "torch"),
        ("pipeline/a.py", "from cli import main", "cli"),
    ],
)
def test_a_wrong_import_is_found(tmp_path: Path, file: str, line: str, name: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(line)
    assert wrong_imports(tmp_path) == [f"{file} imports {name}"]


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("cli.py", "import pipeline, cascade, cache, click"),
        ("pipeline/a.py", "import cascade, cache, torch, zarr, sklearn"),
        ("cascade/a.py", "import torch\nfrom cascade import Head\nfrom . import heads\nimport math"),
        ("cache/a.py", "import zarr, numpy\nfrom cache.errors import StoreError\nfrom .errors import StoreError"),
    ],
)
def test_a_right_import_is_not(tmp_path: Path, file: str, line: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(line)
    assert wrong_imports(tmp_path) == []


@pytest.mark.parametrize(("room", "heavy"), [("cache", "torch"), ("cascade", "zarr")])
def test_a_room_loads_nothing_of_the_other_side(room: str, heavy: str) -> None:
    code = f"import sys, {room}; sys.exit({heavy!r} in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)
