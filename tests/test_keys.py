"""Keys: they change with whatever changes a result, and with nothing else."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from cascade import StageShape
from pipeline.config import Config, Section
from pipeline.config_file import read_config
from pipeline.errors import ConfigError
from pipeline.ingest import DataInfo
from pipeline.keys import Fields, all_stage_fields, differences, key_of
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
    }
    return DataInfo(**(known | changed))


def stage_fields(config: Config, **changed: Any) -> list[Fields]:
    known = info(config, **changed)
    shapes = network_shapes(config, channels=known.channels, image_side=known.side)
    return all_stage_fields(config, known, shapes)


def keys(config: Config, **changed: Any) -> list[str]:
    return [key_of(fields) for fields in stage_fields(config, **changed)]


CHANGES: dict[str, tuple[Any, int]] = {
    "seed": (1, 0),
    "network__width": (4, 0),
    "network__downsample_at": ([0], 0),
    "network__downsample": ("max", 1),
    "network__batch_norm": (False, 0),
    "head__k": (3, 0),
    "head__width": (8, 0),
    "head__pool": (2, 0),
    "augment__crop": (4, 0),
    "augment__padding": (1, 0),
    "augment__flip": (False, 0),
    "augment__policy": ("recompute", 1),
    "augment__views": (2, 1),
    "train__epochs": (3, 0),
    "train__batch_size": (64, 0),
    "train__lr": (0.2, 0),
    "train__lr_drop_every": (3, 0),
    "train__lr_drop_factor": (0.5, 0),
    "train__momentum": (0.8, 0),
    "train__reset_momentum": (False, 0),
    "train__weight_decay": (0.0, 0),
    "network__precision": ("bfloat16", 0),
    "order__run": (64, 0),
    "order__window": (1024, 0),
    "store__encoding": ("uint8", 1),
    "stages__2__train__lr": (0.2, 2),
    "stages__3__head__width": (8, 3),
    "stages__1__head__pool": (2, 1),
    "stages__2__store__encoding": ("float32", 3),
}
"""Setting -> another value, and the first stage whose key it changes."""

NO_CHANGES: dict[str, Any] = {
    "augment__phases": 2,
    "augment__cut_at": 2,
    "data__source": "npz:elsewhere.npz",
    "data__canvas": 16,
    "data__channels": 1,
    "data__validation": 0.3,
    "data__seed": 5,
    "network__stages": STAGES + 3,
    "store__codec": "zstd",
    "cache__keep": [2],
    "machine__device": "cuda:1",
    "machine__host_memory": "2 GB",
    "machine__device_memory": "2 GB",
    "machine__compile": True,
    "machine__deterministic": True,
    "machine__checkpoint_minutes": 1.0,
    "machine__threads": 7,
    "evaluate__ensemble": "softmax",
    "stages__1__store__codec": "none",
    "stages__1__train__lr": 0.1,
    "stages__1__train": {},
    "stages__3__store__encoding": "uint8",
}
"""Setting -> another value. What of [data] changes a result is in the digest of the images, and no
stage reads the last one's output."""


@pytest.mark.parametrize("setting", CHANGES)
def test_what_changes_a_result_changes_the_key_of_its_stage_and_of_all_after_it(setting: str) -> None:
    value, first = CHANGES[setting]
    before, after = keys(config()), keys(config(**{setting: value}))
    assert [one == other for one, other in zip(before, after, strict=True)] == [j < first for j in range(STAGES)]


@pytest.mark.parametrize("setting", NO_CHANGES)
def test_what_changes_no_result_changes_no_key(setting: str) -> None:
    assert keys(config(**{setting: NO_CHANGES[setting]}))[:STAGES] == keys(config())


def settings_of(kind: type[Section], prefix: str = "") -> Iterator[str]:
    for field in msgspec.structs.fields(kind):
        if isinstance(field.type, type) and issubclass(field.type, Section):
            yield from settings_of(field.type, f"{prefix}{field.name}__")
        elif f"{prefix}{field.name}" != "stages":
            yield f"{prefix}{field.name}"


def test_of_every_setting_it_is_said_above_whether_it_changes_a_result() -> None:
    assert set(settings_of(Config)) <= CHANGES.keys() | NO_CHANGES.keys()


def test_content_of_the_data_changes_every_key() -> None:
    usual = keys(config())
    for changed in ({"digest": "1" * 64}, {"channels": 3}, {"classes": ["a", "b"]}):
        assert not set(usual) & set(keys(config(), **changed))


def test_size_of_uncropped_images_changes_every_key() -> None:
    whole = config(augment__crop=0)
    assert not set(keys(whole, side=16)) & set(keys(whole, side=32))


@pytest.mark.parametrize("policy", ["none", "canvas", "recompute"])
def test_number_of_views_counts_only_where_views_are_stored(policy: str) -> None:
    assert keys(config(augment__policy=policy, augment__views=2)) == keys(config(augment__policy=policy))


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


def test_differences_blame_the_input_only_if_nothing_else_changed() -> None:
    then, now = config(), config(stages__1__train__lr=0.05)
    before, after = stage_fields(then), stage_fields(now)
    changed = [differences(one, other) for one, other in zip(before, after, strict=True)]
    assert changed == [[], ["train.lr 0.1 -> 0.05"], ["its input changed"], ["its input changed"]]


def test_another_encoding_shows_in_the_stage_that_reads_it_and_in_those_after_as_a_changed_input() -> None:
    then, now = config(), config(stages__1__store__encoding="uint4")
    before, after = stage_fields(then), stage_fields(now)
    changed = [differences(one, other) for one, other in zip(before, after, strict=True)]
    assert changed == [[], [], ["store.encoding of x_2 float16 -> uint4"], ["its input changed"]]


def test_a_setting_that_a_later_version_adds_shows_as_a_difference() -> None:
    assert differences({"a": 1}, {"a": 1, "b": 2}) == ["b None -> 2"]


def test_shapes_take_the_head_of_each_stage_from_its_overrides() -> None:
    shapes = network_shapes(config(stages__2__head__width=5), channels=1, image_side=16)
    assert [shape.head_width for shape in shapes] == [16, 32, 10, 32]
    assert [shape.out_side for shape in shapes] == [8, 4, 4, 4]


def test_shapes_are_those_of_the_windows_and_of_whole_images_without_crop() -> None:
    for crop, side in ((8, 8), (0, 16)):
        shapes = network_shapes(config(augment__crop=crop), channels=1, image_side=16)
        assert [shape.in_side for shape in shapes] == [side, side, side // 2, side // 2]


@pytest.mark.parametrize("policy", ["views", "canvas"])
def test_canvases_that_the_network_does_not_sample_down_evenly_are_refused_and_windows_are_not(policy: str) -> None:
    def shapes(padding: int, image_side: int = 16) -> list[StageShape]:
        settings = {"augment__padding": padding, "augment__policy": policy, "network__downsample_at": [1, 2]}
        return network_shapes(config(**settings), channels=1, image_side=image_side)

    assert shapes(2) == shapes(0) == shapes(1, image_side=18)
    if policy == "views":
        assert shapes(1) == shapes(2)
        return
    with pytest.raises(
        ConfigError, match=r"padded images have 18x18 pixels, no multiple of 4, .*; change augment.padding \(now 1\)"
    ):
        shapes(1)


def test_canvases_have_to_be_sampled_down_evenly_only_up_to_where_windows_are_cut() -> None:
    def shapes(cut_at: int) -> list[StageShape]:
        settings = {"augment__padding": 1, "augment__policy": "canvas", "network__downsample_at": [1, 2]}
        return network_shapes(config(**settings, augment__cut_at=cut_at), channels=1, image_side=16)

    assert shapes(1) == shapes(2)
    with pytest.raises(ConfigError, match="padded images have 18x18 pixels, no multiple of 4"):
        shapes(3)


def test_head_may_pool_as_much_as_its_own_stage_allows() -> None:
    assert len(network_shapes(config(stages__0__head__pool=8, augment__crop=0), channels=1, image_side=16)) == STAGES
    with pytest.raises(
        ConfigError, match=r"the network does not fit the images: x_2 would have 8x8 pixels.*pools by 8"
    ):
        network_shapes(config(stages__1__head__pool=8, augment__crop=0), channels=1, image_side=16)


@pytest.mark.parametrize(
    ("side", "message"),
    [
        (2, "x_2 would have 1x1 pixels: too few.*give larger images"),
        (9, "stage 1 samples down images of 9x9 pixels, an odd side; give images whose side is a multiple of 2"),
    ],
)
def test_images_smaller_than_the_down_samplings_allow_are_refused(side: int, message: str) -> None:
    with pytest.raises(ConfigError, match=f"the network does not fit the images: {message}"):
        network_shapes(config(augment__crop=0), channels=1, image_side=side)
