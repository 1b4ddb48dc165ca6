"""Configs to copy and edit: the .toml files of this folder."""

import json
import re
import tomllib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from cache import replace_file
from pipeline.config_file import CONFIG_NAME, apply_setting, parse_setting, read_config
from pipeline.errors import ConfigError, RefusedError


def preset_names() -> list[str]:
    """Names of all presets."""
    return sorted(file.name.removesuffix(".toml") for file in files(__name__).iterdir() if file.name.endswith(".toml"))


def preset_text(name: str) -> str:
    """The commented TOML of a preset. Raises ConfigError where there is none of this name."""
    if name not in preset_names():
        raise ConfigError(f"no preset {name!r}: there are {', '.join(preset_names())}")
    return (files(__name__) / f"{name}.toml").read_text(encoding="utf-8")


def preset_summary(name: str) -> str:
    """The first line of its comment."""
    return preset_text(name).splitlines()[0].lstrip("# ")


def first_command(name: str) -> str:
    """The command that a preset is for, "baseline" where nothing but the network end to end is compared."""
    return "baseline" if name.endswith("-baseline") else "run"


def write_preset(name: str, folder: Path, settings: Sequence[str]) -> Path:
    """Write FOLDER/cascade.toml from a preset with settings put in, checked as a whole. Never over an existing one."""
    text = preset_text(name)
    path = folder / CONFIG_NAME
    table = tomllib.loads(text)
    for setting in settings:
        apply_setting(table, setting)
    read_config(table, where=str(path), settings=settings)
    for setting in settings:
        text = with_setting(text, setting)
    read_config(tomllib.loads(text), where=str(path))  # what is written is what was checked, or a bug is seen here
    if path.exists():
        raise RefusedError(f"{path} exists already\nnext: edit it, or give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(path, text.encode())
    return path


def with_setting(text: str, setting: str) -> str:
    """The preset with one value of a sound config replaced in its line, comments kept, or added as a line."""
    path, value = parse_setting(setting)
    section, key = ".".join(path[:-1]), path[-1]
    literal = _toml_literal(value)
    lines, here, last = text.removesuffix("\n").split("\n"), "", None
    for number, line in enumerate(lines):
        if header := re.fullmatch(r"\[(.+)\]", line.split("#")[0].strip()):
            here = header[1]
        if here == section and line.strip():
            last = number
            if found := re.match(rf"{re.escape(key)}\s*=\s*(\"(?:[^\"\\]|\\.)*\"|\[[^\]]*\]|[^\s#]+)", line):
                lines[number] = f"{key} = {literal}{line[found.end() :]}"
                break
    else:
        added = [f"{key} = {literal}"]
        if last is None:
            lines += ["", f"[{section}]", *added]
        else:
            lines[last + 1 : last + 1] = added
    return "\n".join(lines) + "\n"


def _toml_literal(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_literal, value))}]"
    return repr(value)
