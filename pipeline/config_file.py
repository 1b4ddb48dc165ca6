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
    MIN_BATCH,
    Augment,
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
    budget_bytes,
)
from pipeline.errors import ConfigError
from pipeline.links import read_file

CONFIG_NAME = "cascade.toml"
VALUE_SHOWN = 200
"""Characters of a value in a message."""
INDEX_DIGITS = 9
"""Of a stage: more than any network has."""
OF_POLICY = {"views": ("views",), "canvas": ("phases", "cut_at")}
"""Policy of augmentation -> settings that are its alone."""


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
    faults += _faults_together(sections)
    if not faults:
        faults += _misfits(Config(**sections))
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
        faults.append(f"{prefix.rstrip('.')} = {_shown(table)}: a section is expected here")
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
                faults.append(f"{prefix}{name} = {_shown(value)}: {_reason(error, fields[name].type)}")
    faults += [f"{prefix}{name}: missing" for name, field in fields.items() if field.required and name not in table]
    return values


def _shown(value: Any) -> str:
    """A value as it stands in a message; Python shows no integer of more digits than it reads."""
    try:
        return _shortened(repr(value))
    except ValueError:
        return "an integer of thousands of digits"


def _shortened(text: str) -> str:
    return text if len(text) <= VALUE_SHOWN else f"{text[:VALUE_SHOWN]}..."


def _default(field: msgspec.structs.FieldInfo) -> Any:
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def _read_stages(table: Any, faults: list[str]) -> dict[str, StageOverrides]:
    """`[stages.J]` tables, each key checked against the section that it overrides."""
    if not isinstance(table, Mapping):
        faults.append(f"stages = {_shown(table)}: write [stages.3.train] and the like")
        return {}
    stages = {}
    kinds: dict[str, type[Section]] = {"head": HeadSection, "train": Train, "store": StoreSection, "compress": Compress}
    for j, sections in table.items():
        if len(j) > INDEX_DIGITS or not j.isdecimal() or str(int(j)) != j:
            faults.append(f"stages.{_shortened(j)}: expected the index of a stage, as in [stages.3.train]")
            continue
        if not isinstance(sections, Mapping):
            faults.append(f"stages.{j} = {_shown(sections)}: write [stages.{j}.train] and the like")
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


def _misfits(config: Config) -> list[str]:
    """Why the network does not fit images of data.canvas pixels; other sizes are known once there are images."""
    if not config.data.canvas:
        return []
    from pipeline.shapes import network_shapes  # which takes torch a second: not for every config

    try:
        network_shapes(config, channels=config.data.channels or 3, image_side=config.data.canvas)
    except ConfigError as error:
        return [f"data.canvas = {config.data.canvas}: {error}"]
    return []


def _unused(augment: Augment) -> list[str]:
    """Settings of another policy than the one in force: their values would do nothing."""
    fields = {field.name: field.default for field in msgspec.structs.fields(Augment)}
    return [
        f'augment.{name} = {getattr(augment, name)}: under policy = "{augment.policy}" it would do nothing; '
        f'set augment.policy = "{policy}", or leave it at {fields[name]}'
        for policy, names in OF_POLICY.items()
        for name in names
        if policy != augment.policy and getattr(augment, name) != fields[name]
    ]


def _faults_of_scale(augment: Augment) -> list[str]:
    """What is wrong with how much of an image a window shows, and why stored features cannot be resized."""
    faults, scale, ratio = [], augment.scale, augment.ratio
    if len(scale) == 1 or scale != sorted(scale):
        faults.append(f"augment.scale = {scale}: expected the least and the largest share, as in [0.08, 1.0], or []")
    if ratio != sorted(ratio):
        faults.append(f"augment.ratio = {ratio}: expected the least and the largest, as in [0.75, 1.333]")
    if not scale and ratio != Augment().ratio:
        faults.append(f"augment.ratio = {ratio}: without augment.scale it would do nothing; set that too, or leave it")
    if scale and augment.padding:
        faults.append(f"augment.padding = {augment.padding}: with augment.scale images are not padded; set it to 0")
    if scale and augment.policy == "canvas":
        faults.append(
            f'augment.scale = {scale}: under policy = "canvas" windows are cut from stored features, which do not '
            f'resize so; set augment.policy = "views" or "recompute", or leave augment.scale out'
        )
    return faults


def _faults_together(sections: Mapping[str, Any]) -> list[str]:
    """What is wrong between fields, in sections that are sound each by itself."""
    names = ("data", "network", "augment", "order", "cache", "budget")
    data, network, augment, order, cache, budget = map(sections.get, names)
    faults = []
    if order and order.window % order.run:
        faults.append(f"order.window = {order.window}: expected a multiple of order.run = {order.run}")
    if network:
        stages, at = network.stages, network.downsample_at
        if any(j >= stages for j in at):
            faults.append(f"network.downsample_at = {at}: j goes from 0 to {stages - 1}")
        if len(set(at)) < len(at):
            faults.append(f"network.downsample_at = {at}: a stage samples down once; name each j once")
        for j in sections.get("stages", {}):
            if int(j) >= stages:
                faults.append(f"stages.{j}: the network has {stages} stages, j from 0 to {stages - 1}")
        if cache and isinstance(cache.keep, list) and any(j > stages for j in cache.keep):
            faults.append(f"cache.keep = {cache.keep}: the network has x_1 to x_{stages}")
    if augment and network and augment.cut_at >= network.stages:
        faults.append(f"augment.cut_at = {augment.cut_at}: expected less than network.stages = {network.stages}")
    if augment and augment.crop and augment.padding >= augment.crop:
        faults.append(f"augment.padding = {augment.padding}: expected less than augment.crop = {augment.crop}")
    if augment and data and augment.crop > data.canvas > 0:
        faults.append(f"augment.crop = {augment.crop}: expected at most data.canvas = {data.canvas}")
    if augment and augment.crop and augment.cutout > augment.crop:
        faults.append(f"augment.cutout = {augment.cutout}: expected at most augment.crop = {augment.crop}")
    if augment:
        faults += _unused(augment)
        faults += _faults_of_scale(augment)
    if augment and augment.policy == "views" and augment.views > 1 and not augment.is_random:
        faults.append(
            'augment.views: without crop, padding, flip, scale or cutout all views are equal; set policy = "none"'
        )
    is_moved = augment and (augment.crop or augment.padding or augment.flip)
    if augment and augment.policy == "canvas" and not (is_moved or augment.scale):
        faults.append('augment.policy: without crop, padding or flip a canvas has one window; set policy = "none"')
    if budget:
        for name in ("device", "host", "disk"):
            try:
                budget_bytes(getattr(budget, name))
            except ValueError:
                faults.append(f"budget.{name} = {_shown(getattr(budget, name))}: {EXPECTED_BYTES}")
    return [*faults, *_faults_of_batches(sections), *_faults_of_start(sections), *_faults_of_compression(sections)]


def _faults_of_batches(sections: Mapping[str, Any]) -> list[str]:
    """What is wrong with the parts that batches are to be taken in."""
    network, train = sections.get("network"), sections.get("train")
    if not network or not train or not (group := network.bn_group):
        return []
    if group % MIN_BATCH:
        return [f"network.bn_group = {group}: expected a multiple of {MIN_BATCH}, or 0 for the whole batch"]
    sizes = {"train.batch_size": train.batch_size}
    for j, own in sections.get("stages", {}).items():
        if "batch_size" in own.train:
            sizes[f"stages.{j}.train.batch_size"] = own.train["batch_size"]
    for name in ("baseline", "probe"):
        if (section := sections.get(name)) and "batch_size" in section.train:
            sizes[f"{name}.train.batch_size"] = section.train["batch_size"]
    return [
        f"{name} = {size}: expected a multiple of network.bn_group = {group}"
        for name, size in sizes.items()
        if size % group
    ]


def _faults_of_start(sections: Mapping[str, Any]) -> list[str]:
    """Why a stage that is to start as the identity, with the head before it, cannot; and what has none before it."""
    faults = [
        f"{name}.train.start: what is trained there always starts at random; leave it out"
        for name in ("baseline", "probe")
        if (section := sections.get(name)) and "start" in section.train
    ]
    network, head, train, stages = (sections.get(name) for name in ("network", "head", "train", "stages"))
    compress = sections.get("compress")
    if not network or not head or not train or not compress:
        return faults
    own = {int(j): overrides for j, overrides in (stages or {}).items()}
    heads = [msgspec.structs.replace(head, **own[j].head) if j in own else head for j in range(network.stages)]
    for j in range(1, network.stages):
        start = own[j].train.get("start", train.start) if j in own else train.start
        reasons = {
            "network.batch_norm is true, and a block that normalises is no identity": network.batch_norm,
            "network.residual is true, and a block that adds its input is none": network.residual,
            f"stage {j} samples down (network.downsample_at), and P is no identity": j in network.downsample_at,
            f"filters of stage {j - 1} are cut off (compress.keep)": _share(own, compress, j - 1) < 1,
            f"its head is another than that of stage {j - 1} ([head])": heads[j] != heads[j - 1],
        }
        why = next((reason for reason, holds in reasons.items() if holds), None)
        if start == "identity" and why:
            faults.append(f'stages.{j}.train.start = "identity": {why}; set stages.{j}.train.start = "random"')
    return faults


def _faults_of_compression(sections: Mapping[str, Any]) -> list[str]:
    """What cannot be compressed: blocks with skip connections, whose shapes are to stay equal, stages that are to keep
    their best point, which is of another network, and those with a similarity loss, which is of all filters."""
    names = ("network", "head", "train", "compress", "stages")
    network, head, train, compress, stages = (sections.get(name) for name in names)
    if not network or not head or not train or not compress:
        return []
    own = {int(j): overrides for j, overrides in (stages or {}).items()}
    cut = [j for j in range(network.stages) if _share(own, compress, j) < 1]
    if cut and network.residual:
        return ["network.residual: filters of blocks with skip connections are not cut off; set compress.keep = 1"]
    faults = [
        f"stages.{j}.head.similarity = {share:g}: its filters are cut off after the training (compress.keep), and the "
        f"similarity loss compares all of them; set stages.{j}.head.similarity = 0 or stages.{j}.compress.keep = 1"
        for j in cut
        if (share := own[j].head.get("similarity", head.similarity) if j in own else head.similarity) > 0
    ]
    return faults + [
        f'stages.{j}.train.keep = "best": its filters are cut off after the training (compress.keep), and what is left '
        f'is no point of that; set stages.{j}.train.keep = "last" or stages.{j}.compress.keep = 1'
        for j in cut
        if (own[j].train.get("keep", train.keep) if j in own else train.keep) == "best"
    ]


def _share(own: Mapping[int, StageOverrides], compress: Compress, j: int) -> float:
    """`compress.keep` of stage j."""
    share: float = own[j].compress.get("keep", compress.keep) if j in own else compress.keep
    return share
