"""Keys: what a stage's result depends on, hashed. Outputs of a stage live under its key.

In a key: the stage's own settings, its shapes, the seed, the key of its input, the content of the data. Never in a key:
which x_j are stored, codecs, chunk sizes, devices, thread counts, budgets, paths, times. Every setting of the config is
in one of the three tables below; tests/test_keys.py changes each of them and looks at the keys.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from cascade import StageShape
from pipeline.config import Config
from pipeline.data_info import DataInfo
from pipeline.microbatch import is_grouped

ALGORITHM = 5
"""Raised by hand when a change of the code changes results."""

Fields = dict[str, Any]

OF_THE_STAGE = frozenset(
    [
        "seed",
        *(
            "network." + name
            for name in (
                "width",
                "downsample_at",
                "downsample",
                "batch_norm",
                "bn_group",
                "bias",
                "residual",
                "precision",
            )
        ),
        *("head." + name for name in ("k", "width", "pool", "average", "pooled_norm", "similarity")),
        *("augment." + name for name in ("crop", "padding", "flip", "cutout", "scale", "ratio")),
        *("train." + name for name in ("epochs", "batch_size", "lr", "schedule", "lr_drop_every", "lr_drop_factor")),
        *("train." + name for name in ("momentum", "reset_momentum", "weight_decay", "label_smoothing")),
        *("train." + name for name in ("start", "keep")),
        *("order." + name for name in ("run", "window")),
        *("compress." + name for name in ("keep", "epochs", "lr")),
    ]
)
"""Settings that the result of a stage itself depends on."""

ADDED = {
    "network.bias": "auto",
    "head.average": "adaptive",
    "head.pooled_norm": True,
    "head.similarity": 0.0,
    "train.start": "random",
    "train.keep": "last",
    "network.residual": False,
    "augment.cutout": 0,
    "augment.scale": [],
    "augment.ratio": [3 / 4, 4 / 3],
    "train.schedule": "step",
    "train.label_smoothing": 0.0,
}
"""Settings that came later, each with the value that says what was done before: with it a key is what it was."""

_INGESTED = "what it makes of the images is in their content hash"
OF_WHAT_FOLLOWS = {
    "augment.policy": "stage 0 reads the images, and all policies share it",
    "augment.views": "likewise, and only the policy views has any",
    "augment.phases": "likewise, and only canvases have any",
    "augment.cut_at": "only stages past x_cut_at cut their canvases' windows elsewhere",
    "store.encoding": "of x_{j+1}: a block is trained and tested before its output is rounded",
}
"""Settings that change no result of stage 0 or, for `store`, of the stage they are of, but those after it; and why."""
OF_NO_RESULT = {
    "data.source": _INGESTED,
    "data.canvas": _INGESTED,
    "data.channels": _INGESTED,
    "data.validation": _INGESTED,
    "data.seed": _INGESTED,
    "network.stages": "a stage knows nothing of those after it",
    "store.codec": "lossless",
    "cache.keep": "what is not stored is replayed, to the same bits",
    "machine.device": "moves the last bits at most; the stage's record names it",
    "machine.micro_batch": "batch norm has groups of its own; sums of gradients differ in their last bits at most",
    "machine.recompute": "what is computed once more comes out the same",
    "machine.shrink": "as for the micro-batch",
    "budget.device": "where stored numbers wait changes none of them",
    "budget.host": "order.window says what is mixed",
    "budget.disk": "what is not stored is replayed, to the same bits",
    "machine.compile": "moves the last bits at most; the stage's record names it",
    "machine.deterministic": "moves the last bits at most; the stage's record names it",
    "machine.checkpoint_minutes": "a stage that goes on ends as if it had not stopped",
    "machine.threads": "batches do not depend on who read them",
    "evaluate.ensemble": "of stages that have ended",
    "baseline.head_width": "of the training end to end, which has a key of its own",
    "baseline.train": "likewise",
    "probe.samples": "of probes, which have keys of their own",
    "probe.train": "likewise",
}
"""Settings that change no result, and why."""


def stage_fields(config: Config, shape: StageShape, *, side: int, classes: int, input_key: str) -> Fields:
    """Everything that determines the result of a stage, by the name a user knows it by; `side` is the window's."""
    own = config.for_stage(shape.j)
    fields: Fields = {"algorithm": ALGORITHM, "seed": config.seed, "input": input_key, "classes": classes}
    network: Fields = {
        "in_channels": shape.in_channels,
        "in_side": shape.in_side,
        "width": shape.before_cut.out_channels,
        "downsample": shape.downsample,
        "batch_norm": config.network.batch_norm,
        "bn_group": config.network.bn_group if is_grouped(own.network, own.head) else None,
        "bias": "auto" if config.network.has_bias != config.network.batch_norm else config.network.bias,
        "residual": config.network.residual,
        "precision": config.network.precision,
    }
    augment: Fields = {"crop": side, "padding": own.augment.padding, "flip": own.augment.flip}
    augment |= {"cutout": own.augment.cutout, "scale": own.augment.scale, "ratio": own.augment.ratio}
    if shape.j > 0:  # stage 0 reads the images: every policy shares it
        augment["policy"] = own.augment.rendering
    if own.augment.policy == "canvas" and own.augment.last_anchor(shape.j) < shape.j:  # up to cut_at it changes nothing
        augment["cut_at"] = own.augment.cut_at
    sections: dict[str, Fields] = {
        "network": network,
        "head": _head_fields(own, shape),
        "augment": augment,
        "train": _settings(own, "train"),
        "order": _settings(own, "order"),
    }
    if shape.cut_from is not None:  # where none is cut off, no field says so: the stage is what it was without
        sections["compress"] = _settings(own, "compress")
    if shape.j > 0:
        fields[f"store.encoding of x_{shape.j}"] = config.for_stage(shape.j - 1).store.encoding
    fields |= {f"{section}.{name}": value for section, values in sections.items() for name, value in values.items()}
    if shape.j == 0:
        del fields["train.start"]  # there is no stage before it
    return {name: value for name, value in fields.items() if name not in ADDED or value != ADDED[name]}


def _head_fields(own: Config, shape: StageShape) -> Fields:
    """Of a head: what counts of its settings on a block's output of this shape."""
    head = own.head
    return {
        "k": head.k,
        "width": shape.head_width if head.k > 1 else None,
        "pool": head.pool,
        "average": head.average if shape.out_side // head.pool % 2 else "adaptive",
        "pooled_norm": head.pooled_norm or not own.network.batch_norm,
        "similarity": head.similarity,
    }


def _settings(config: Config, section: str) -> Fields:
    """The settings of a section that are not known to change no result."""
    settings: Fields = msgspec.to_builtins(getattr(config, section))
    return {name: value for name, value in settings.items() if f"{section}.{name}" not in OF_NO_RESULT}


def key_of(fields: Fields) -> str:
    """The key of a stage, 64 hexadecimal digits."""
    return hashlib.sha256(msgspec.json.encode(fields, order="deterministic")).hexdigest()


def all_stage_fields(
    config: Config, info: DataInfo, shapes: Sequence[StageShape], stand_ins: Mapping[int, Fields]
) -> list[Fields]:
    """The fields of every stage, each one's input the key of the one before; those of `stand_ins` as they are given."""
    side = config.augment.crop or info.side
    fields: list[Fields] = []
    input_key = info.digest
    for shape in shapes:
        own = stage_fields(config, shape, side=side, classes=len(info.classes), input_key=input_key)
        fields.append(stand_ins.get(shape.j, own))
        input_key = key_of(fields[-1])
    return fields


def differences(then: Fields, now: Fields) -> list[str]:
    """What changed of a stage's own fields, as "train.lr 0.1 -> 0.05"; its input is not of its own."""
    names = [name for name in {**then, **now} if name != "input" and then.get(name) != now.get(name)]
    return [f"{name} {then.get(name)} -> {now.get(name)}" for name in names]


def fits(then: Fields, now: Fields) -> bool:
    """Whether a stage trained with some fields can take the place of another: the same network, head and classes."""
    others = ("classes", "compress.keep")
    names = [name for name in {**then, **now} if name.startswith(("network.", "head.")) or name in others]
    return all(then.get(name) == now.get(name) for name in names)


def is_rendered_alike(fields: Fields, config: Config) -> bool:
    """Whether the stores of a stage with these fields hold the views that the config describes.

    The policy is in a store's name, and the crop in the shapes.
    """
    return not settings_of_views(fields, config) and fields.get("algorithm") == ALGORITHM


def settings_of_views(fields: Fields, config: Config) -> list[str]:
    """What the config is to be set to, as "seed=1", for it to describe the views that such a stage's stores hold."""
    now: Fields = {
        "seed": config.seed,
        "augment.padding": config.augment.padding,
        "augment.flip": config.augment.flip,
        "augment.cutout": config.augment.cutout,
        "augment.scale": config.augment.scale,
        "augment.ratio": config.augment.ratio,
        "order.run": config.order.run,
    }
    had = {name: fields.get(name, ADDED.get(name)) for name in now}
    then = {name: value for name, value in had.items() if value != now[name]}
    return [f"{name}={msgspec.json.encode(value).decode()}" for name, value in then.items()]
