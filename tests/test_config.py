"""The config file: every fault of it at once, each with the key, the value and what is allowed."""

import re
from pathlib import Path

import pytest

from pipeline.config import EXPECTED_BYTES, parse_bytes
from pipeline.host import host_budget
from tests.configs import SOUND, faults, loaded


def test_keys_that_are_not_set_have_defaults(tmp_path: Path) -> None:
    config = loaded(tmp_path)
    assert (config.seed, config.train.lr, config.augment.views, config.cache.keep) == (0, 0.1, 4, "auto")
    assert (config.budget.host, config.machine.micro_batch) == ("free", 0)


def test_all_faults_of_a_file_and_of_the_settings_are_listed_at_once(tmp_path: Path) -> None:
    text = """
    seed = -1
    colour = "red"
    [data]
    sorce = "digits:"
    [network]
    stages = "three"
    width = 0
    [head]
    k = 1.5
    [order]
    window = 200
    [trian]
    lr = 1
    """
    assert faults(tmp_path, "train.momentum=1", "augment.padding=2", "augment.crop=2", text=text) == [
        "seed = -1: Expected int >= 0",
        "colour: unknown key (known: data, network, head, seed, augment, train, order, store, compress, cache, "
        "machine, budget, evaluate, baseline, probe, stages)",
        "data.sorce: unknown key; did you mean source?",
        "data.source: missing",
        "network.stages = 'three': Expected int, got str",
        "network.width = 0: Expected int >= 1",
        "head.k = 1.5: Expected int, got float",
        "trian: unknown key; did you mean train?",
        "train.momentum = 1: Expected float < 1.0",
        "order.window = 200: expected a multiple of order.run = 128",
        "augment.padding = 2: expected less than augment.crop = 2",
    ]


def test_section_that_is_missing_is_named(tmp_path: Path) -> None:
    lines = faults(tmp_path, text="[augment]\nflip = true")
    assert lines == ["data: missing", "network: missing", "head: missing"]


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        ("train.lrr=1", "train.lrr: unknown key; did you mean lr?"),
        ("train.batchsize=1", "train.batchsize: unknown key; did you mean batch_size?"),
        ("netwrk.width=4", "netwrk: unknown key; did you mean network?"),
        ("evaluate.zzz=1", "evaluate.zzz: unknown key (known: ensemble)"),
        ("stages.1.train.lrr=1", "stages.1.train.lrr: unknown key; did you mean lr?"),
    ],
)
def test_unknown_key_is_a_fault_with_the_nearest_name(tmp_path: Path, setting: str, fault: str) -> None:
    assert faults(tmp_path, setting) == [fault]


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("train.lr=nan", "Expected float > 0.0"),
        ("train.lr=inf", "Expected float <= 1000.0"),
        ("train.lr=1e400", "Expected float <= 1000.0"),
        ("train.lr=-0.1", "Expected float > 0.0"),
        ("train.lr=true", "Expected float, got bool"),
        ("train.weight_decay=inf", "Expected float <= 1000.0"),
        ("train.momentum=1.0", "Expected float < 1.0"),
        ("train.lr_drop_factor=0", "Expected float > 0.0"),
        ("train.epochs=true", "Expected int, got bool"),
        ("train.epochs=0", "Expected int >= 1"),
        ("train.epochs=99999999999999999999", "Expected int <= 9223372036854775807"),
        ("train.batch_size=1", "Expected int >= 8"),
        ("train.batch_size=1000000000000", "Expected int <= 1048576"),
        ("seed=18446744073709551616", "Expected int <= 9223372036854775807"),
        ("data.validation=1", "Expected float < 1.0"),
        ("data.validation=nan", "Expected float >= 0.0"),
        ("data.channels=2", "Expected one of 0, 1, 3"),
        ("data.source=2024-01-01", "Expected str, got date"),
        ("network.stages=1000000000", "Expected int <= 1000"),
        ("network.width=1000000000", "Expected int <= 65536"),
        ("network.batch_norm=yes", "Expected bool, got str"),
        ("network.downsample=sideways", "Expected one of 'invertible', 'strided', 'average', 'max'"),
        ("network.downsample_at=1", "Expected array, got int"),
        ("network.downsample_at=[-1]", "Expected int >= 0 - at $[0]"),
        ("network.downsample_at=[true]", "Expected int, got bool - at $[0]"),
        ("head.k=0", "Expected int >= 1"),
        ("head.pool=0", "Expected int >= 1"),
        ("augment.views=0", "Expected int >= 1"),
        ("augment.crop=-8", "Expected int >= 0"),
        ("order.run=1000000000000", "Expected int <= 65536"),
        ("store.codec=", "Expected one of 'auto', 'none', 'lz4', 'zstd'"),
        ("store.encoding=bfloat16", "Expected one of 'float32', 'float16', 'uint8', 'uint4'"),
        ("augment.policy=fresh", "Expected one of 'recompute', 'views', 'canvas', 'none'"),
        ("augment.phases=3", "Expected one of 1, 2, 4"),
        ("augment.scale=[0, 1]", "Expected float > 0.0 - at $[0]"),
        ("augment.scale=[0.1, 1.5]", "Expected float <= 1.0 - at $[1]"),
        ("augment.ratio=[1]", "Expected array of length >= 2"),
        ("cache.keep=some", "Expected one of 'auto', 'all', 'needed', 'none', a list"),
        ("cache.keep=[0]", "Expected int >= 1 - at $[0]"),
        ("machine.threads=1000000", "Expected int <= 1000"),
        ("augment=3", "a section is expected here"),
        ("stages=3", "write [stages.3.train] and the like"),
    ],
)
def test_value_of_a_wrong_type_or_out_of_range_is_a_fault(tmp_path: Path, setting: str, reason: str) -> None:
    (line,) = faults(tmp_path, setting)
    key = setting.partition("=")[0]
    assert re.fullmatch(rf"{re.escape(key)} = .*: {re.escape(reason)}", line)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        (("order.run=128", "order.window=64"), "order.window = 64: expected a multiple of order.run = 128"),
        (("network.downsample_at=[1, 3]",), "network.downsample_at = [1, 3]: j goes from 0 to 2"),
        (
            ("network.downsample_at=[1, 1]",),
            "network.downsample_at = [1, 1]: a stage samples down once; name each j once",
        ),
        (("cache.keep=[2, 4]",), "cache.keep = [2, 4]: the network has x_1 to x_3"),
        (("augment.crop=8", "augment.padding=8"), "augment.padding = 8: expected less than augment.crop = 8"),
        (("augment.policy=canvas", "augment.cut_at=3"), "augment.cut_at = 3: expected less than network.stages = 3"),
        (("data.canvas=16", "augment.crop=32"), "augment.crop = 32: expected at most data.canvas = 16"),
        (
            ("augment.flip=false",),
            'augment.views: without crop, padding, flip, scale or cutout all views are equal; set policy = "none"',
        ),
        (
            ("augment.flip=false", "augment.policy=canvas"),
            'augment.policy: without crop, padding or flip a canvas has one window; set policy = "none"',
        ),
        (
            ("augment.scale=[0.5]",),
            "augment.scale = [0.5]: expected the least and the largest share, as in [0.08, 1.0], or []",
        ),
        (
            ("augment.scale=[1, 0.5]",),
            "augment.scale = [1.0, 0.5]: expected the least and the largest share, as in [0.08, 1.0], or []",
        ),
        (
            ("augment.scale=[0.5, 1]", "augment.ratio=[2, 1]"),
            "augment.ratio = [2.0, 1.0]: expected the least and the largest, as in [0.75, 1.333]",
        ),
        (
            ("augment.ratio=[0.5, 2]",),
            "augment.ratio = [0.5, 2.0]: without augment.scale it would do nothing; set that too, or leave it",
        ),
        (
            ("augment.scale=[0.08, 1]", "augment.padding=2"),
            "augment.padding = 2: with augment.scale images are not padded; set it to 0",
        ),
        (
            ("augment.scale=[0.08, 1]", "augment.policy=canvas"),
            'augment.scale = [0.08, 1.0]: under policy = "canvas" windows are cut from stored features, which do not '
            'resize so; set augment.policy = "views" or "recompute", or leave augment.scale out',
        ),
        (
            ("budget.host=much",),
            f"budget.host = 'much': {EXPECTED_BYTES}",
        ),
        (("stages.3.train.lr=1",), "stages.3: the network has 3 stages, j from 0 to 2"),
    ],
)
def test_fields_that_contradict_each_other_are_a_fault(tmp_path: Path, settings: tuple[str, ...], fault: str) -> None:
    assert faults(tmp_path, *settings) == [fault]


def test_contradictions_are_not_looked_for_in_a_section_that_is_faulty_itself(tmp_path: Path) -> None:
    assert faults(tmp_path, "order.run=no", "order.window=100") == ["order.run = 'no': Expected int, got str"]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("4096", 4096),
        ("7 B", 7),
        (" 1.5gb ", 1_500_000_000),
        (" 512 mb ", 512_000_000),
        ("2 KB", 2000),
        ("6 GiB", 6 * 2**30),
        ("0.5mib", 2**19),
    ],
)
def test_bytes_are_read_in_powers_of_1000_and_with_an_i_of_1024(text: str, number: int) -> None:
    assert parse_bytes(text) == number


@pytest.mark.parametrize("text", ["", "GB", "1 i", "1 iB", "-1", "1e3", "1 PB", "1,5 GB", "٣", "inf", "9" * 400])
def test_what_is_no_number_of_bytes_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no number of bytes; write 4096, 512 MB or"):
        parse_bytes(text)


@pytest.mark.parametrize("name", ["device", "host", "disk"])
@pytest.mark.parametrize(
    "value",
    [
        *("0", "-1", "1e3", "nan", "inf", "true", "[]", "9223372036854775808"),
        *('"0"', '"0 B"', '"0.1 B"', '"-1"', '""', '"1e3"', '"NaN"', '"9300000 TB"', '"FREE"'),
    ],
)
def test_a_budget_that_is_none_is_refused_with_what_is_allowed(tmp_path: Path, name: str, value: str) -> None:
    (fault,) = faults(tmp_path, f"budget.{name}={value}")
    assert re.fullmatch(rf"budget\.{name} = .+: {re.escape(EXPECTED_BYTES)}", fault)
    (fault,) = faults(tmp_path, text=f"{SOUND}[budget]\n{name} = {value}")
    assert fault.endswith(EXPECTED_BYTES)


@pytest.mark.parametrize("value", ["free", "1", "1 kB", "9000000 TB"])
def test_a_budget_may_be_as_small_or_as_large_as_anyone_likes(tmp_path: Path, value: str) -> None:
    loaded(tmp_path, *(f'budget.{name}="{value}"' for name in ("device", "host", "disk")))


def test_host_memory_may_be_a_plain_number_of_bytes(tmp_path: Path) -> None:
    assert host_budget(loaded(tmp_path, "budget.host=4096")) == 4096
    assert host_budget(loaded(tmp_path, 'budget.host="4 KB"')) == 4000


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ((), [1, 2]),
        (("cache.keep=none",), []),
        (("cache.keep=[2, 3]",), [2, 3]),
        (("augment.policy=recompute",), []),
        (("augment.policy=canvas",), [1, 2]),
        (("augment.policy=canvas", "augment.cut_at=1"), [1]),
        (("augment.policy=canvas", "augment.cut_at=1", "cache.keep=[2, 3]"), []),
    ],
)
def test_kept_stores_are_those_named_up_to_where_windows_are_cut_and_none_under_recompute(
    tmp_path: Path, settings: tuple[str, ...], kept: list[int]
) -> None:
    config = loaded(tmp_path, *settings)
    assert [j for j in range(1, 4) if config.keeps(j)] == kept


@pytest.mark.parametrize(
    ("settings", "rendering", "views"),
    [
        (("augment.policy=views", "augment.views=3"), "views-3", 3),
        (("augment.policy=canvas", "augment.views=4"), "canvas", 2),
        (("augment.policy=canvas", "augment.flip=false", "augment.padding=1", "augment.crop=6"), "canvas", 1),
        (("augment.policy=canvas", "augment.phases=4"), "canvas-4", 8),
        (("augment.policy=canvas", "augment.phases=2", "augment.flip=false", "augment.padding=1"), "canvas-2", 2),
        (("augment.policy=none", "augment.phases=1", "augment.cut_at=0"), "none", 1),
        (("augment.policy=recompute",), "recompute", 1),
    ],
)
def test_a_policy_stores_so_many_views_and_canvas_its_phases_and_their_mirror_images_if_images_are_flipped(
    tmp_path: Path, settings: tuple[str, ...], rendering: str, views: int
) -> None:
    augment = loaded(tmp_path, *settings).augment
    assert (augment.rendering, augment.stored_views) == (rendering, views)


def test_images_of_a_known_size_that_the_network_does_not_fit_are_a_fault(tmp_path: Path) -> None:
    assert faults(tmp_path, "data.canvas=31", "network.downsample_at=[1]") == [
        "data.canvas = 31: the network does not fit the images: stage 1 samples down images of 31x31 pixels, an odd "
        "side; give images whose side is a multiple of 2, or sample down less often"
    ]
    (fault,) = faults(tmp_path, "data.canvas=9", "augment.policy=canvas", "augment.crop=8", "network.downsample_at=[1]")
    assert fault.startswith(
        "data.canvas = 9: augment.policy = canvas: the padded images have 9x9 pixels, no multiple of"
    )
    (fault,) = faults(tmp_path, "data.canvas=32", "head.pool=17")
    assert fault.startswith(
        "data.canvas = 32: the network does not fit the images: x_1 would have 32x32 pixels: too few"
    )
    assert loaded(tmp_path, "data.canvas=31", "augment.crop=24", "network.downsample_at=[1]").data.canvas == 31
    assert loaded(tmp_path, "data.canvas=31").data.canvas == 31


@pytest.mark.parametrize(
    ("settings", "setting", "policy", "default"),
    [
        (("augment.policy=recompute", "augment.views=2"), "views = 2", "views", 4),
        (("augment.policy=canvas", "augment.views=8"), "views = 8", "views", 4),
        (("augment.phases=2",), "phases = 2", "canvas", 1),
        (("augment.policy=none", "augment.cut_at=1"), "cut_at = 1", "canvas", 0),
    ],
)
def test_a_setting_that_the_policy_does_not_use_is_a_fault_unless_it_is_left_at_its_default(
    tmp_path: Path, settings: tuple[str, ...], setting: str, policy: str, default: int
) -> None:
    (fault,) = faults(tmp_path, *settings)
    assert fault.startswith(f"augment.{setting}: under policy = ")
    assert fault.endswith(f'it would do nothing; set augment.policy = "{policy}", or leave it at {default}')
    name = setting.split(" ")[0]
    assert getattr(loaded(tmp_path, *settings, f"augment.{name}={default}").augment, name) == default


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("seed = 0x1{0}", "seed"),
        ("[network]\nstages = 0x1{0}", "network.stages"),
        ("[train]\nlr = 0x1{0}", "train.lr"),
        ("[data]\nsource = 0x1{0}", "data.source"),
        ("[cache]\nkeep = [0x1{0}]", "cache.keep"),
        ("train = 0x1{0}", "train"),
        ("stages = 0x1{0}", "stages"),
        ("[stages]\n3 = 0x1{0}", "stages.3"),
    ],
)
def test_an_integer_of_thousands_of_digits_is_a_fault_and_not_shown(tmp_path: Path, text: str, key: str) -> None:
    lines = faults(tmp_path, text=text.format("0" * 5000))
    (line,) = (line for line in lines if line.startswith(f"{key} = "))
    assert line.startswith(f"{key} = an integer of thousands of digits: ")
    assert len(line) < 200


def test_a_long_value_is_shortened_in_its_fault(tmp_path: Path) -> None:
    (line,) = faults(tmp_path, f"seed={'9' * 5000}")
    assert line == f"seed = '{'9' * 199}...: Expected int, got str"
    (line,) = faults(tmp_path, f"stages.{'9' * 5000}.train.lr=1")
    assert line == f"stages.{'9' * 200}...: expected the index of a stage, as in [stages.3.train]"


@pytest.mark.parametrize("section", ["baseline", "probe"])
def test_settings_of_what_is_trained_beside_the_stages_are_checked_as_those_of_training(
    tmp_path: Path, section: str
) -> None:
    assert faults(tmp_path, f"{section}.train.lrr=1") == [f"{section}.train.lrr: unknown key; did you mean lr?"]
    assert faults(tmp_path, f"{section}.train.lr=-1") == [f"{section}.train.lr = -1: Expected float > 0.0"]
    assert faults(tmp_path, f"{section}.train=3") == [f"{section}.train = 3: a section is expected here"]
    grouped = ("network.bn_group=32", f"{section}.train.batch_size=40")
    assert faults(tmp_path, *grouped) == [
        f"{section}.train.batch_size = 40: expected a multiple of network.bn_group = 32"
    ]


def test_what_is_not_set_of_the_training_end_to_end_is_as_in_the_last_stage(tmp_path: Path) -> None:
    config = loaded(tmp_path, "stages.2.train.lr=0.3", "baseline.train.epochs=120", "probe.train.epochs=20")
    assert (config.baseline_train.lr, config.baseline_train.epochs) == (0.3, 120)
    assert (config.probe_train.lr, config.probe_train.epochs) == (0.1, 20)


@pytest.mark.parametrize("section", ["baseline", "probe"])
def test_what_always_starts_at_random_takes_no_start(tmp_path: Path, section: str) -> None:
    assert faults(tmp_path, f"{section}.train.start=identity") == [
        f"{section}.train.start: what is trained there always starts at random; leave it out"
    ]
