"""Reading a config: `cascade.toml` with `--set` settings over it, all faults at once."""

import difflib
import os.path
import re
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec

from cache import CorruptStoreError
from pipeline.config import (
    EXPECTED_BYTES,
    BaselineSection,
    Bytes,
    Compress,
    Config,
    HeadSection,
    ProbeSection,
    Section,
    StageOverrides,
    StoreSection,
    Train,
)
from pipeline.config_faults import faults_together, misfits, shortened, shown
from pipeline.errors import ConfigError
from pipeline.links import read_file

CONFIG_NAME = "cascade.toml"
INDEX_DIGITS = 9
"""Of a stage: more than any network has."""


def load_config(folder: Path, settings: Sequence[str] = ()) -> Config:
    """The config of the run folder, with `--set` settings, "train.lr=0.05", over it.

    Raises ConfigError with every fault of the file and the settings.
    """
    path = folder / CONFIG_NAME
    try:
        str(folder.absolute()).encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{str(folder)!a} is not UTF-8; a run folder's path has to be") from None
    try:
        table = tomllib.loads(_read_bytes(folder).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # ValueError also of an integer of more digits than Python reads
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    if isinstance(data := table.get("data"), dict) and "source" in data:
        data["source"] = absolute_source(data["source"], folder)
    for setting in settings:
        apply_setting(table, setting)
    return read_config(table, where=str(path), settings=settings)


def _read_bytes(folder: Path) -> bytes:
    """The config file, which is a regular one: a run folder is what a stranger may have made, and a link leads out."""
    path = folder / CONFIG_NAME
    try:
        return read_file(path)
    except (FileNotFoundError, CorruptStoreError) as error:
        if folder.is_dir() and not path.is_dir() and not isinstance(error, FileNotFoundError):
            raise ConfigError(f"{error}\nnext: put a copy of the config there as a file of its own") from None
    raise ConfigError(
        f"{folder} is not a run folder: it has no {CONFIG_NAME}\n"
        f"next: cascade init PRESET {shlex.quote(str(folder))}, or give the folder with --run DIR"
    )


def absolute_source(address: Any, base: Path) -> Any:
    """A data set's address with the path of its file taken from `base`; other addresses, and no strings, unchanged.

    Where it goes up by "..", links on the way are followed first, as the system does; one in the last place is kept.
    """
    scheme, _, place = address.partition(":") if isinstance(address, str) else ("", "", "")
    if scheme not in ("npz", "folder") or not place:
        return address
    path = base.absolute() / os.path.expanduser(place)
    if ".." in path.parts:
        path = path.resolve() if path.name == ".." else path.parent.resolve() / path.name
    return f"{scheme}:{path}"


def read_config(table: Mapping[str, Any], *, where: str, settings: Sequence[str] = ()) -> Config:
    """A checked config of a parsed TOML table, which `settings` were put over already.

    Raises ConfigError with all faults, one a line, and those of the settings that they speak of.
    """
    faults: list[str] = []
    sections = _read_fields(Config, table, "", faults)
    faults += faults_together(sections)
    if not faults:
        faults += misfits(Config(**sections))
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        named = [one for one in settings if any(".".join(parse_setting(one)[0]) in fault for fault in faults)]
        where += f" with {' '.join(f'--set {one.strip()}' for one in named)}" if named else ""
        raise ConfigError(f"{where} has {count}:\n" + "\n".join(f"  {fault}" for fault in faults))
    return Config(**sections)


def parse_setting(setting: str) -> tuple[list[str], Any]:
    """Path and value of a "key.path=value" setting; the value is TOML, or else a plain string."""
    match = re.fullmatch(r"\s*([\w-]+(?:\.[\w-]+)*)\s*=([^\x00-\x08\n-\x1f\x7f\ud800-\udfff]*)", setting, re.ASCII)
    if not match:
        raise ConfigError(f"--set {ascii(setting)[1:-1]}: expected key=value, as in --set train.lr=0.05")
    path, text = match[1].split("."), match[2]
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text.strip()
    if isinstance(value, dict):
        raise ConfigError(f"--set {setting}: a whole section; set one key at a time, as in --set train.lr=0.05")
    return path, absolute_source(value, Path.cwd()) if path == ["data", "source"] else value


def apply_setting(table: dict[str, Any], setting: str) -> None:
    """Put a "key.path=value" setting into a parsed TOML table. Raises ConfigError where it is none."""
    path, value = parse_setting(setting)
    for part in path[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {setting}: {part} is a value, not a section")
    table[path[-1]] = value


S = TypeVar("S", bound=Section)


def _read(kind: type[S], table: Any, prefix: str, faults: list[str]) -> S | None:
    """A section of the given kind, or None with the reasons in `faults`."""
    if not isinstance(table, Mapping):
        faults.append(f"{prefix.rstrip('.')} = {shown(table)}: a section is expected here")
        return None
    before = len(faults)
    values = _read_fields(kind, table, prefix, faults)
    return kind(**values) if len(faults) == before else None


def _read_fields(kind: type[Section], table: Mapping[str, Any], prefix: str, faults: list[str]) -> dict[str, Any]:
    """The fields of a section that are sound, defaults included; what is wrong with the others is in `faults`."""
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    values = {name: _default(field) for name, field in fields.items() if name not in table and not field.required}
    for name, value in table.items():
        if name not in fields:
            faults.append(f"{prefix}{name}: unknown key{_nearest(name, fields)}")
        elif isinstance(fields[name].type, type) and issubclass(fields[name].type, Section):
            section = _read(fields[name].type, value, f"{prefix}{name}.", faults)
            values |= {} if section is None else {name: section}
        elif name == "stages" and kind is Config:
            values[name] = _read_stages(value, faults)
        elif name == "train" and kind in (BaselineSection, ProbeSection):
            values[name] = _read_own(Train, value, f"{prefix}train.", faults)
        else:
            try:
                values[name] = msgspec.convert(value, fields[name].type)
            except msgspec.ValidationError as error:
                faults.append(f"{prefix}{name} = {shown(value)}: {_reason(error, fields[name].type)}")
    faults += [f"{prefix}{name}: missing" for name, field in fields.items() if field.required and name not in table]
    return values


def _default(field: msgspec.structs.FieldInfo) -> Any:
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def _read_stages(table: Any, faults: list[str]) -> dict[str, StageOverrides]:
    """`[stages.J]` tables, each key checked against the section that it overrides."""
    if not isinstance(table, Mapping):
        faults.append(f"stages = {shown(table)}: write [stages.3.train] and the like")
        return {}
    stages = {}
    kinds: dict[str, type[Section]] = {"head": HeadSection, "train": Train, "store": StoreSection, "compress": Compress}
    for j, sections in table.items():
        if len(j) > INDEX_DIGITS or not j.isdecimal() or str(int(j)) != j:
            faults.append(f"stages.{shortened(j)}: expected the index of a stage, as in [stages.3.train]")
            continue
        if not isinstance(sections, Mapping):
            faults.append(f"stages.{j} = {shown(sections)}: write [stages.{j}.train] and the like")
            continue
        own = {}
        for name, values in sections.items():
            if name not in kinds:
                faults.append(f"stages.{j}.{name}: only sections head, train, store and compress can differ by stage")
                continue
            own[name] = _read_own(kinds[name], values, f"stages.{j}.{name}.", faults)
        stages[j] = StageOverrides(**own)
    return stages


def _read_own(kind: type[Section], values: Any, prefix: str, faults: list[str]) -> dict[str, Any]:
    """What a table sets of a section that it overrides, each key checked against it."""
    required = {"k": 1} if kind is HeadSection and isinstance(values, Mapping) else {}
    read = _read(kind, {**required, **values} if required else values, prefix, faults)
    return {key: getattr(read, key) for key in values} if read else {}


def _reason(error: msgspec.ValidationError, kind: Any) -> str:
    """What is wrong with a value of a field, the values that are allowed included."""
    if kind == Bytes:
        return EXPECTED_BYTES
    options = _options(kind)
    if options and "$[" not in str(error):  # which is within a list
        return f"Expected one of {', '.join(options)}"
    return str(error).replace("`", "")


def _options(kind: Any) -> list[str]:
    """What a Literal, or a union with one, allows; nothing for other types."""
    if get_origin(kind) is Literal:
        return [repr(value) for value in get_args(kind)]
    options = [option for part in get_args(kind) for option in _options(part)]
    return [*options, "a list"] if options and any(get_origin(part) is list for part in get_args(kind)) else options


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f" (known: {', '.join(known)})"
