"""Keys: they change with whatever changes a result, and with nothing else."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from pipeline.config import Config, Section, StageOverrides
from pipeline.config_file import read_config
from pipeline.data_info import DataInfo
from pipeline.keys import (
    ADDED,
    ALGORITHM,
    OF_NO_RESULT,
    OF_THE_STAGE,
    OF_WHAT_FOLLOWS,
    Fields,
    all_stage_fields,
    differences,
    fits,
    is_rendered_alike,
    key_of,
    settings_of_views,
)
from pipeline.shapes import network_shapes

STAGES = 4


def config(**settings: Any) -> Config:
    """Four stages; a setting's dots are written as double underscores, as in train__lr=1."""
    table: dict[str, Any] = {
        "data": {"source": "digits:"},
        "network": {"stages": STAGES, "width": 8, "downsample_at": [1]},
        "head": {"k": 2, "width": 16},
        "augment": {"crop": 8, "flip": True},
    }
    for name, value in settings.items():
        *path, key = name.split("__")
        section = table
        for part in path:
            section = section.setdefault(part, {})
        section[key] = value
    return read_config(table, where="test")


def info(config: Config, **changed: Any) -> DataInfo:
    known: dict[str, Any] = {
        "data": config.data,
        "classes": ["a", "b", "c"],
        "channels": 1,
        "side": 16,
        "samples": {"train": 100, "test": 10},
        "class_counts": [4, 3, 3],
        "mean": [0.5],
        "std": [0.2],
        "run": 1,
        "digest": "0" * 64,
        "tables": {"train": 0, "test": 0},
    }
    return DataInfo(**(known | changed))


def stage_fields(config: Config, **changed: Any) -> list[Fields]:
    known = info(config, **changed)
    shapes = network_shapes(config, channels=known.channels, image_side=known.side)
    return all_stage_fields(config, known, shapes, {})


def keys(config: Config, **changed: Any) -> list[str]:
    return [key_of(fields) for fields in stage_fields(config, **changed)]


OTHER_VALUES: dict[str, Any] = {
    "seed": 1,
    "network.width": 4,
    "network.downsample_at": [1],
    "network.downsample": "max",
    "network.batch_norm": False,
    "network.bn_group": 32,
    "network.bias": "all",
    "network.precision": "bfloat16",
    "network.residual": True,
    "network.stages": STAGES + 3,
    "head.k": 3,
    "head.width": 8,
    "head.pool": 2,
    "head.average": "floor",
    "head.pooled_norm": False,
    "head.similarity": 0.5,
    "augment.crop": 16,
    "augment.padding": 1,
    "augment.flip": False,
    "augment.cutout": 4,
    "augment.scale": [0.5, 1.0],
    "augment.ratio": [0.5, 2.0],
    "augment.policy": "recompute",
    "augment.views": 2,
    "augment.phases": 2,
    "augment.cut_at": 2,
    "train.epochs": 3,
    "train.batch_size": 64,
    "train.lr": 0.2,
    "train.schedule": "cosine",
    "train.lr_drop_every": 3,
    "train.lr_drop_factor": 0.5,
    "train.momentum": 0.8,
    "train.reset_momentum": False,
    "train.weight_decay": 0.0,
    "train.start": "identity",
    "train.keep": "best",
    "train.label_smoothing": 0.1,
    "order.run": 64,
    "order.window": 1024,
    "compress.keep": 0.5,
    "compress.epochs": 3,
    "compress.lr": 0.2,
    "store.encoding": "uint8",
    "store.codec": "zstd",
    "data.source": "npz:elsewhere.npz",
    "data.canvas": 16,
    "data.channels": 1,
    "data.validation": 0.3,
    "data.seed": 5,
    "cache.keep": "needed",
    "machine.device": "cuda:1",
    "machine.micro_batch": 64,
    "machine.recompute": "always",
    "machine.shrink": True,
    "budget.device": "2 GB",
    "budget.host": "2 GB",
    "budget.disk": "2 GB",
    "machine.compile": True,
    "machine.deterministic": True,
    "machine.checkpoint_minutes": 1.0,
    "machine.threads": 7,
    "evaluate.ensemble": "softmax",
    "baseline.head_width": 8,
    "baseline.train": {"epochs": 3},
    "probe.samples": 100,
    "probe.train": {"epochs": 3},
}
"""Of every setting, another value than that of `usual()`."""


CANVAS = {"augment__policy": "canvas"}
OF_CANVASES = ("augment.phases", "augment.cut_at")
OF_COMPRESSION = ("compress.epochs", "compress.lr")
TRIED_BELOW = (*OF_CANVASES, *OF_COMPRESSION, "train.start")
"""Whether they count is tried below."""


TAKES: dict[str, dict[str, Any]] = {
    "train.start": {"network__batch_norm": False},
    "head.average": {"augment__crop": 14},
    "augment.ratio": {"augment__scale": [0.5, 1.0]},
    "augment.phases": CANVAS,
    "augment.cut_at": CANVAS,
}
"""What some settings take to have another value."""


def usual(path: str = "", *, like: str = "") -> Config:
    """A config whose stage 0 samples down, with the setting at `path` at its other value; or without, but else `like`
    that one."""
    name = (path or like).removeprefix("stages.2.")
    other = {path.replace(".", "__"): OTHER_VALUES[name]} if path else {}
    samples_down: dict[str, Any] = {"network__downsample_at": [0]}
    return config(**(samples_down | TAKES.get(name, {}) | other))


def settings_of(kind: type[Section], prefix: str = "") -> Iterator[str]:
    for field in msgspec.structs.fields(kind):
        if isinstance(field.type, type) and issubclass(field.type, Section):
            yield from settings_of(field.type, f"{prefix}{field.name}.")
        elif f"{prefix}{field.name}" != "stages":
            yield f"{prefix}{field.name}"


SETTINGS = list(settings_of(Config))
SECTIONS_OF_A_STAGE = {field.name for field in msgspec.structs.fields(StageOverrides)}
OVERRIDDEN = [name for name in SETTINGS if name.split(".")[0] in SECTIONS_OF_A_STAGE and name not in TRIED_BELOW]


def changed_keys(path: str) -> list[bool]:
    """Whether the key of each stage is another one once the setting at `path` has another value."""
    return [one != other for one, other in zip(keys(usual(like=path)), keys(usual(path))[:STAGES], strict=True)]


def test_of_every_setting_it_is_said_once_what_it_affects() -> None:
    assert sorted([*OF_THE_STAGE, *OF_WHAT_FOLLOWS, *OF_NO_RESULT]) == sorted(SETTINGS)
    assert all([*OF_WHAT_FOLLOWS.values(), *OF_NO_RESULT.values()]), "with a reason where a key leaves it out"
    assert OTHER_VALUES.keys() == set(SETTINGS), "and it is tried"


@pytest.mark.parametrize("setting", [name for name in SETTINGS if name not in TRIED_BELOW])
def test_keys_change_as_is_said_of_the_setting(setting: str) -> None:
    first = 0 if setting in OF_THE_STAGE else 1 if setting in OF_WHAT_FOLLOWS else STAGES
    assert changed_keys(setting) == [j >= first for j in range(STAGES)]


@pytest.mark.parametrize("setting", OVERRIDDEN)
def test_keys_from_an_overridden_stage_on_change_as_is_said_of_the_setting(setting: str) -> None:
    first = 2 if setting in OF_THE_STAGE else 3 if setting in OF_WHAT_FOLLOWS else STAGES
    assert changed_keys(f"stages.2.{setting}") == [j >= first for j in range(STAGES)]


@pytest.mark.parametrize("override", [{"1__train__lr": 0.1}, {"1__train": {}}, {"3__store__encoding": "uint8"}])
def test_an_override_that_says_what_holds_anyway_or_that_nothing_reads_changes_no_key(override: Any) -> None:
    assert keys(config(**{f"stages__{name}": value for name, value in override.items()})) == keys(config())


def test_content_of_the_data_changes_every_key() -> None:
    usual = keys(config())
    for changed in ({"digest": "1" * 64}, {"channels": 3}, {"classes": ["a", "b"]}):
        assert not set(usual) & set(keys(config(), **changed))


def test_size_of_uncropped_images_changes_every_key() -> None:
    whole = config(augment__crop=0)
    assert not set(keys(whole, side=16)) & set(keys(whole, side=32))


@pytest.mark.parametrize("policy", ["none", "canvas", "recompute"])
def test_number_of_views_counts_only_where_views_are_stored(policy: str) -> None:
    usual = config(augment__policy=policy)
    other = msgspec.structs.replace(usual, augment=msgspec.structs.replace(usual.augment, views=2))
    assert keys(other) == keys(usual)


def test_each_policy_has_keys_of_its_own_from_stage_1_on() -> None:
    first, *later = zip(
        *(keys(config(augment__policy=policy)) for policy in ("recompute", "views", "canvas", "none")), strict=True
    )
    assert len(set(first)) == 1
    assert [len(set(stage)) for stage in later] == [4] * (STAGES - 1)


@pytest.mark.parametrize(("setting", "value", "first"), [("phases", 2, 1), ("cut_at", 1, 2), ("cut_at", 2, 3)])
def test_phases_of_canvases_count_past_the_images_and_where_they_are_cut_past_that(
    setting: str, value: int, first: int
) -> None:
    before = keys(config(augment__policy="canvas"))
    after = keys(config(augment__policy="canvas", **{f"augment__{setting}": value}))
    assert [one == other for one, other in zip(before, after, strict=True)] == [j < first for j in range(STAGES)]


@pytest.mark.parametrize("setting", OF_COMPRESSION)
def test_how_a_head_is_tuned_counts_where_filters_are_cut_and_nowhere_else(setting: str) -> None:
    other = {f"stages__1__{setting.replace('.', '__')}": OTHER_VALUES[setting]}
    assert keys(config(**other)) == keys(config())
    cut = {"stages__1__compress__keep": 0.5}
    before, after = keys(config(**cut)), keys(config(**cut, **other))
    assert [one == same for one, same in zip(before, after, strict=True)] == [True, False, False, False]


def test_compression_that_cuts_no_filter_off_changes_no_key() -> None:
    assert keys(config(compress__keep=0.99)) == keys(config())


def test_compression_leaves_the_width_that_a_stage_is_trained_with() -> None:
    fields = stage_fields(config(stages__1__compress__keep=0.5))
    assert [own["network.width"] for own in fields] == [8, 16, 16, 16]
    assert [own["network.in_channels"] for own in fields] == [1, 8, 8, 16]


def test_starting_as_the_identity_counts_past_stage_0_which_has_no_stage_before_it() -> None:
    assert changed_keys("train.start") == [j >= 1 for j in range(STAGES)]


@pytest.mark.parametrize(
    "settings",
    [
        {"network__bias": "none"},
        {"network__batch_norm": False, "network__bias": "all"},
        {"network__batch_norm": False, "head__pooled_norm": False},
        {"head__average": "floor"},
    ],
)
def test_what_text_and_code_differ_in_counts_only_where_it_makes_a_difference(settings: dict[str, Any]) -> None:
    without = {name: value for name, value in settings.items() if name == "network__batch_norm"}
    assert keys(config(**settings)) == keys(config(**without))


@pytest.mark.parametrize("setting", ADDED)
def test_a_setting_that_was_added_leaves_keys_as_they_were_at_its_first_value(setting: str) -> None:
    section, name = setting.split(".")
    assert getattr(getattr(config(), section), name) == ADDED[setting]
    assert not any(setting in fields for fields in stage_fields(config()))


def test_keys_of_stages_all_differ() -> None:
    assert len(set(keys(config(network__downsample_at=[])))) == STAGES


def test_a_key_is_64_hexadecimal_digits_whatever_the_order_of_its_fields() -> None:
    (fields, *_) = stage_fields(config())
    assert re.fullmatch("[0-9a-f]{64}", key_of(fields))
    assert key_of(dict(reversed(fields.items()))) == key_of(fields)


def test_each_stage_has_the_key_of_the_one_before_as_its_input() -> None:
    fields = stage_fields(config())
    assert [stage["input"] for stage in fields] == ["0" * 64, *map(key_of, fields[:-1])]


def test_differences_name_the_settings_that_changed() -> None:
    then, now = config(), config(train__lr=0.05, head__k=3)
    before, after = stage_fields(then), stage_fields(now)
    assert sorted(differences(before[0], after[0])) == ["head.k 2 -> 3", "train.lr 0.1 -> 0.05"]
    assert sorted(differences(before[2], after[2])) == ["head.k 2 -> 3", "train.lr 0.1 -> 0.05"]
    assert differences(before[0], before[0]) == []


def test_an_input_that_changed_is_no_difference_of_a_stages_own() -> None:
    then, now = config(), config(stages__1__train__lr=0.05)
    before, after = stage_fields(then), stage_fields(now)
    changed = [differences(one, other) for one, other in zip(before, after, strict=True)]
    assert changed == [[], ["train.lr 0.1 -> 0.05"], [], []]
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, False, False]


def test_another_encoding_shows_in_the_stage_that_reads_it() -> None:
    then, now = config(), config(stages__1__store__encoding="uint4")
    before, after = stage_fields(then), stage_fields(now)
    changed = [differences(one, other) for one, other in zip(before, after, strict=True)]
    assert changed == [[], [], ["store.encoding of x_2 float16 -> uint4"], []]


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_stage_fits_in_the_place_of_one_of_the_same_network_head_and_classes(setting: str) -> None:
    is_another = (setting.startswith(("network.", "head.")) and setting in OF_THE_STAGE) or setting in (
        "augment.crop",
        "compress.keep",
    )
    assert fits(stage_fields(usual(setting))[0], stage_fields(usual(like=setting))[0]) != is_another
    assert not fits(stage_fields(usual(), classes=["a"])[0], stage_fields(usual())[0])


@pytest.mark.parametrize("setting", SETTINGS)
def test_stores_hold_other_views_under_another_seed_padding_or_flip_and_other_chunks_in_other_runs(
    setting: str,
) -> None:
    is_another = setting in (
        "seed",
        *("augment." + name for name in ("padding", "flip", "cutout", "scale", "ratio")),
        "order.run",
    )
    assert is_rendered_alike(stage_fields(usual(like=setting))[1], usual(setting)) != is_another


def test_what_another_algorithm_stored_holds_other_views() -> None:
    assert not is_rendered_alike({**stage_fields(usual())[1], "algorithm": ALGORITHM - 1}, usual())


def test_settings_of_views_are_what_to_set_for_the_config_to_describe_them() -> None:
    then, now = config(seed=1, augment__flip=False), config(augment__flip=True, augment__padding=1)
    wanted = settings_of_views(stage_fields(then)[1], now)
    assert sorted(wanted) == ["augment.flip=false", f"augment.padding={then.augment.padding}", "seed=1"]


def test_a_stand_in_gives_its_key_to_the_stage_after_it() -> None:
    now, then = config(), stage_fields(config(train__lr=0.2))
    shapes = network_shapes(now, channels=1, image_side=16)
    mixed = all_stage_fields(now, info(now), shapes, {0: then[0]})
    assert mixed[0] == then[0]
    assert [stage["input"] for stage in mixed] == ["0" * 64, *map(key_of, mixed[:-1])]
    assert not set(map(key_of, mixed)) & set(keys(now)), "so nothing made from it is taken for fresh"


def test_a_setting_that_a_later_version_adds_shows_as_a_difference() -> None:
    assert differences({"a": 1}, {"a": 1, "b": 2}) == ["b None -> 2"]
