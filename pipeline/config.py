"""The config of a run, `cascade.toml`: every field, its range, and all faults of a file at once."""

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from pipeline.errors import ConfigError

CONFIG_NAME = "cascade.toml"

Positive = Annotated[int, Meta(ge=1)]
Natural = Annotated[int, Meta(ge=0)]


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of the file."""


class Data(Section, frozen=True, kw_only=True):
    source: str
    """Address of the data set: digits:, npz:FILE, folder:DIR or torchvision:NAME."""
    canvas: Natural = 0
    """Side, in pixels, that images are resized (shorter side) and centre-cropped to; 0 keeps them as they are."""
    channels: Literal[0, 1, 3] = 0
    """1 for grey, 3 for RGB, 0 to find out from the images."""
    validation: Annotated[float, Meta(ge=0, lt=1)] = 0.1
    """Share of the training set held out, class by class, to choose by. May be 0."""
    seed: Natural = 0
    """Of the sample order and the held-out share; apart from the training seed, so that seeds share one x_0."""


class NetworkSection(Section, frozen=True, kw_only=True):
    stages: Positive
    """J, the number of blocks."""
    width: Positive
    """M, channels of block 0; doubles at each down-sampling after it."""
    downsample_at: list[Natural] = []
    """The j where P_j samples down. 0 is the down-sampling of the image itself."""
    downsample: Literal["invertible", "strided", "average", "max"] = "invertible"
    """How P samples down."""
    batch_norm: bool = True
    """Batch norm in blocks and heads; the paper has none for k = 1."""


class HeadSection(Section, frozen=True, kw_only=True):
    k: Positive
    """Hidden layers of the auxiliary problem, the block counted: the head has k - 1 of its own."""
    width: Positive = 256
    """M_aux, channels of the head of stage 0; doubles with the blocks."""
    pool: Positive = 1
    """Average over so many pixels a side before the head's convolutions; 1 is the paper's head."""


class Augment(Section, frozen=True, kw_only=True):
    crop: Natural = 0
    """Side of the training and test window, in pixels; 0 is the whole canvas."""
    padding: Natural = 0
    """Black pixels added on each side before the random crop."""
    flip: bool = False
    """Flip half of the images horizontally."""
    policy: Literal["recompute", "views", "none"] = "views"
    """What stages after the first train on: fresh draws through the prefix, stored draws, or one fixed rendering."""
    views: Positive = 4
    """Stored draws of each sample, under the policy "views"."""

    @property
    def rendering(self) -> str:
        """Name of what stages after the first train on, as in "views-4"."""
        return f"views-{self.views}" if self.policy == "views" else self.policy

    @property
    def stored_views(self) -> int:
        """Views in a store of training samples past x_0."""
        return self.views if self.policy == "views" else 1


class Train(Section, frozen=True, kw_only=True):
    epochs: Positive = 50
    """Epochs of each stage."""
    batch_size: Annotated[int, Meta(ge=2)] = 128
    """Samples in a step; what does not fill a last batch waits for the next epoch."""
    lr: Annotated[float, Meta(gt=0)] = 0.1
    """Learning rate at the start of each stage."""
    lr_drop_every: Positive = 15
    """Epochs between drops of the learning rate."""
    lr_drop_factor: Annotated[float, Meta(gt=0, le=1)] = 0.2
    """What the learning rate is multiplied by at a drop."""
    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.9
    """Of SGD, without Nesterov."""
    reset_momentum: bool = True
    """Forget the momentum at each drop, as the released code does."""
    weight_decay: Annotated[float, Meta(ge=0)] = 5e-4
    """On every parameter; in the released code, absent from the paper."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the convolutions. "auto": bfloat16 where the device gains from it, float32 elsewhere."""


class Order(Section, frozen=True, kw_only=True):
    run: Positive = 128
    """Consecutive samples that are read together and share a view within an epoch."""
    window: Positive = 2048
    """Samples that are mixed at a time; a multiple of `run`."""


class StoreSection(Section, frozen=True, kw_only=True):
    encoding: Literal["float32", "float16", "uint8"] = "float16"
    """How activations become stored numbers. Part of the method: replayed stages see the same numbers."""
    codec: Literal["none", "lz4", "zstd"] = "lz4"
    """How stored numbers become bytes, losslessly. Changes no result."""


class Cache(Section, frozen=True, kw_only=True):
    keep: Literal["all", "none"] | list[Positive] = "all"
    """Which x_j to store, j >= 1: "all" up to x_{J-1}, "none", or a list. Changes no result."""


class Machine(Section, frozen=True, kw_only=True):
    device: str = "auto"
    """A torch device, or auto: CUDA where there is one, else the CPU."""
    host_memory: str = "1 GB"
    """What the reader may hold in host memory: bytes, or a number with KB, MB or GB."""
    threads: Positive = 2
    """Threads that read, and threads that write."""


class Evaluate(Section, frozen=True, kw_only=True):
    ensemble: Literal["logits", "softmax"] = "logits"
    """What the ensemble averages; the released code takes softmax on ImageNet."""


class StageOverrides(Section, frozen=True, kw_only=True):
    """`[stages.J.*]`: what differs in one stage."""

    head: dict[str, Any] = {}
    train: dict[str, Any] = {}
    store: dict[str, Any] = {}


class Config(Section, frozen=True, kw_only=True):
    data: Data
    network: NetworkSection
    head: HeadSection
    seed: Natural = 0
    """Of weights, order and augmentation."""
    augment: Augment = Augment()
    train: Train = Train()
    order: Order = Order()
    store: StoreSection = StoreSection()
    cache: Cache = Cache()
    machine: Machine = Machine()
    evaluate: Evaluate = Evaluate()
    stages: dict[str, StageOverrides] = {}

    def for_stage(self, j: int) -> "Config":
        """The config as stage j sees it, its overrides merged in."""
        own = self.stages.get(str(j), StageOverrides())
        return msgspec.structs.replace(
            self,
            head=msgspec.structs.replace(self.head, **own.head),
            train=msgspec.structs.replace(self.train, **own.train),
            store=msgspec.structs.replace(self.store, **own.store),
        )

    @property
    def host_memory_bytes(self) -> int:
        return parse_bytes(self.machine.host_memory)

    def keeps(self, j: int) -> bool:
        """Whether x_j, j >= 1, is to be stored for training."""
        if self.augment.policy == "recompute" or self.cache.keep == "none":
            return False
        return j < self.network.stages if self.cache.keep == "all" else j in self.cache.keep


def parse_bytes(text: str) -> int:
    """Bytes of "512 MB", "1.5GB" or "4096"; units are powers of 1000. Raises ValueError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|TB)?\s*", text, re.IGNORECASE)
    if not match:
        raise ValueError(f"{text!r} is no number of bytes; write 4096, 512 MB or 1.5 GB")
    exponent = ["B", "KB", "MB", "GB", "TB"].index((match[2] or "B").upper())
    return int(float(match[1]) * 1000**exponent)


def load_config(folder: Path, settings: Sequence[str] = ()) -> Config:
    """The config of the run folder, with `--set` settings, "train.lr=0.05", over it.

    Raises ConfigError with every fault of the file and the settings.
    """
    path = folder / CONFIG_NAME
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(
            f"{folder} is not a run folder: it has no {CONFIG_NAME}\n"
            f"next: cascade init PRESET {folder}, or give the folder with --run DIR"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    for setting in settings:
        _apply(table, setting)
    return read_config(table, where=str(path))


def read_config(table: Mapping[str, Any], *, where: str) -> Config:
    """A checked config of a parsed TOML table. Raises ConfigError with all faults, one a line."""
    faults: list[str] = []
    config = _read(Config, table, "", faults)
    if config is not None:
        _check_together(config, faults)
    if faults or config is None:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise ConfigError(f"{where} has {count}:\n" + "\n".join(f"  {fault}" for fault in faults))
    return config


def parse_setting(setting: str) -> tuple[list[str], Any]:
    """Path and value of a "key.path=value" setting; the value is TOML, or else a plain string."""
    key, equals, text = setting.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise ConfigError(f"--set {setting}: expected key=value, as in --set train.lr=0.05")
    try:
        return path, tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return path, text.strip()


def _apply(table: dict[str, Any], setting: str) -> None:
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
        faults.append(f"{prefix.rstrip('.')} = {table!r}: a section is expected here")
        return None
    before = len(faults)
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name not in fields:
            faults.append(f"{prefix}{name}: unknown key{_nearest(name, fields)}")
        elif isinstance(fields[name].type, type) and issubclass(fields[name].type, Section):
            values[name] = _read(fields[name].type, value, f"{prefix}{name}.", faults)
        elif name == "stages" and kind is Config:
            values[name] = _read_stages(value, faults)
        else:
            try:
                values[name] = msgspec.convert(value, fields[name].type)
            except msgspec.ValidationError as error:
                faults.append(f"{prefix}{name} = {value!r}: {str(error).replace('`', '')}")
    for name, field in fields.items():
        if field.required and name not in table:
            faults.append(f"{prefix}{name}: missing")
    return kind(**values) if len(faults) == before else None


def _read_stages(table: Any, faults: list[str]) -> dict[str, StageOverrides]:
    """`[stages.J]` tables, each key checked against the section that it overrides."""
    if not isinstance(table, Mapping):
        faults.append(f"stages = {table!r}: write [stages.3.train] and the like")
        return {}
    stages = {}
    kinds: dict[str, type[Section]] = {"head": HeadSection, "train": Train, "store": StoreSection}
    for j, sections in table.items():
        if not j.isdecimal() or str(int(j)) != j:
            faults.append(f"stages.{j}: expected the index of a stage, as in [stages.3.train]")
            continue
        for name, values in sections.items() if isinstance(sections, Mapping) else [("", sections)]:
            if name not in kinds or not isinstance(values, Mapping):
                faults.append(f"stages.{j}.{name}: only sections head, train and store can differ by stage")
                continue
            required = {"k": 1} if name == "head" else {}
            _read(kinds[name], {**required, **values}, f"stages.{j}.{name}.", faults)
        if isinstance(sections, Mapping):
            stages[j] = StageOverrides(
                **{name: dict(v) for name, v in sections.items() if name in kinds and isinstance(v, Mapping)}
            )
    return stages


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f" (known: {', '.join(known)})"


def _check_together(config: Config, faults: list[str]) -> None:
    """Fields against each other."""
    stages = config.network.stages
    if config.order.window % config.order.run:
        faults.append(f"order.window = {config.order.window}: expected a multiple of order.run = {config.order.run}")
    outside = [j for j in config.network.downsample_at if j >= stages]
    if outside:
        faults.append(f"network.downsample_at = {config.network.downsample_at}: j goes from 0 to {stages - 1}")
    for j in config.stages:
        if int(j) >= stages:
            faults.append(f"stages.{j}: the network has {stages} stages, j from 0 to {stages - 1}")
    if isinstance(config.cache.keep, list) and any(j > stages for j in config.cache.keep):
        faults.append(f"cache.keep = {config.cache.keep}: the network has x_1 to x_{stages}")
    if config.augment.padding and not config.augment.crop:
        faults.append("augment.padding without augment.crop: set crop to the side of the window")
    if (
        config.augment.policy == "views"
        and not (config.augment.crop or config.augment.flip)
        and config.augment.views > 1
    ):
        faults.append('augment.views: without crop or flip all views are the same; set policy = "none"')
    try:
        parse_bytes(config.machine.host_memory)
    except ValueError as error:
        faults.append(f"machine.host_memory: {error}")
