"""Keys: what a stage's result depends on, hashed. Outputs of a stage live under its key.

In a key: the stage's own settings, its shapes, the seed, the key of its input, the content of the data. Never in a key:
which x_j are stored, codecs, chunk sizes, devices, thread counts, budgets, paths, times.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from cascade import StageShape
from pipeline.config import Config
from pipeline.ingest import DataInfo

ALGORITHM = 2
"""Raised by hand when a change of the code changes results."""

Fields = dict[str, Any]


def stage_fields(config: Config, shape: StageShape, *, side: int, classes: int, input_key: str) -> Fields:
    """Everything that determines the result of a stage, by the name a user knows it by; `side` is the window's."""
    own = config.for_stage(shape.j)
    fields: Fields = {"algorithm": ALGORITHM, "seed": config.seed, "input": input_key, "classes": classes}
    network = {
        "in_channels": shape.in_channels,
        "in_side": shape.in_side,
        "width": shape.out_channels,
        "downsample": shape.downsample,
        "batch_norm": config.network.batch_norm,
        "precision": config.network.precision,
    }
    augment: Fields = {"crop": side, "padding": own.augment.padding, "flip": own.augment.flip}
    if shape.j > 0:  # stage 0 reads the images: every policy shares it
        augment["policy"] = own.augment.rendering
    if own.augment.policy == "canvas" and own.augment.last_anchor(shape.j) < shape.j:  # up to cut_at it changes nothing
        augment["cut_at"] = own.augment.cut_at
    sections = {
        "network": network,
        "head": {"k": own.head.k, "width": shape.head_width if own.head.k > 1 else None, "pool": own.head.pool},
        "augment": augment,
        "train": msgspec.to_builtins(own.train),
        "order": msgspec.to_builtins(own.order),
    }
    if shape.j > 0:
        fields[f"store.encoding of x_{shape.j}"] = config.for_stage(shape.j - 1).store.encoding
    fields |= {f"{section}.{name}": value for section, values in sections.items() for name, value in values.items()}
    return fields


def key_of(fields: Fields) -> str:
    """The key of a stage, 64 hexadecimal digits."""
    return hashlib.sha256(msgspec.json.encode(fields, order="deterministic")).hexdigest()


def all_stage_fields(config: Config, info: DataInfo, shapes: Sequence[StageShape]) -> list[Fields]:
    """The fields of every stage, each one's input the key of the one before."""
    side = config.augment.crop or info.side
    fields: list[Fields] = []
    input_key = info.digest
    for shape in shapes:
        fields.append(stage_fields(config, shape, side=side, classes=len(info.classes), input_key=input_key))
        input_key = key_of(fields[-1])
    return fields


def differences(then: Fields, now: Fields) -> list[str]:
    """What changed from one set of fields to another, as "train.lr 0.1 -> 0.05"; the input last, and only if alone."""
    names = [name for name in {**then, **now} if name != "input" and then.get(name) != now.get(name)]
    if not names and then.get("input") != now.get("input"):
        return ["its input changed"]
    return [f"{name} {then.get(name)} -> {now.get(name)}" for name in names]
