"""Where a config comes from: its file, `--set` over it, and what `[stages.J]` overrides for one stage."""

import os
from pathlib import Path

import pytest

from pipeline.config_file import CONFIG_NAME, absolute_source, load_config, parse_setting
from pipeline.errors import ConfigError
from tests.configs import SOUND, faults, loaded


@pytest.mark.parametrize("place", ["", "missing", f"{CONFIG_NAME}"])
def test_folder_without_a_config_is_no_run_folder(tmp_path: Path, place: str) -> None:
    if place == CONFIG_NAME:
        (tmp_path / CONFIG_NAME).write_text(SOUND)
    with pytest.raises(ConfigError, match=rf"is not a run folder: it has no {CONFIG_NAME}\nnext: cascade init PRESET"):
        load_config(tmp_path / place)


def test_folder_in_the_place_of_the_config_is_none(tmp_path: Path) -> None:
    (tmp_path / CONFIG_NAME).mkdir()
    with pytest.raises(ConfigError, match=f"{tmp_path} is not a run folder"):
        load_config(tmp_path)


@pytest.mark.parametrize("what", ["link", "pipe", "device"])
def test_a_config_that_is_no_file_of_its_own_is_refused_and_not_waited_for(tmp_path: Path, what: str) -> None:
    config = tmp_path / CONFIG_NAME
    if what == "pipe":
        os.mkfifo(config)
    else:
        (tmp_path / "elsewhere.toml").write_text(SOUND)
        config.symlink_to("/dev/zero" if what == "device" else tmp_path / "elsewhere.toml")
    with pytest.raises(ConfigError, match=f"{config} is not a file.*\nnext: put a copy of the config there as a file"):
        load_config(tmp_path)


def test_a_config_larger_than_any_is_refused_and_not_read(tmp_path: Path) -> None:
    with open(tmp_path / CONFIG_NAME, "wb") as file:
        file.truncate(2**40)
    with pytest.raises(ConfigError, match=r"it has 1,099,511,627,776 bytes, and 67,108,864 at most belong there"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"seed = ", r"Invalid value \(at end of document\)"),
        (b"seed = 1\nseed = 2", "Cannot overwrite a value"),
        (b"seed = '\xff'", "can't decode byte 0xff"),
        (b"seed = " + b"[" * 5000, ""),
        (b"seed = " + b"9" * 5000, r"Exceeds the limit \(4300 digits\)"),
    ],
)
def test_what_is_not_toml_is_refused_with_the_place(tmp_path: Path, text: bytes, reason: str) -> None:
    (tmp_path / CONFIG_NAME).write_bytes(text)
    with pytest.raises(ConfigError, match=f"{tmp_path / CONFIG_NAME} is not valid TOML: .*{reason}"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("setting", "path", "value"),
    [
        ("train.lr=0.05", ["train", "lr"], 0.05),
        (" train.lr = 0.05 ", ["train", "lr"], 0.05),
        ("seed=3", ["seed"], 3),
        ("augment.flip=true", ["augment", "flip"], True),
        ("network.downsample_at=[1, 2]", ["network", "downsample_at"], [1, 2]),
        ('store.codec="lz4"', ["store", "codec"], "lz4"),
        ("store.codec=lz4", ["store", "codec"], "lz4"),
        ("data.source=npz:/data/a = b #1.npz", ["data", "source"], "npz:/data/a = b #1.npz"),
        ("data.source=", ["data", "source"], ""),
        ("train.lr=[1", ["train", "lr"], "[1"),
        ("stages.3.train.lr=1e-3", ["stages", "3", "train", "lr"], 0.001),
        ("a=" + "[" * 5000, ["a"], "[" * 5000),
    ],
)
def test_value_of_a_setting_is_toml_or_else_a_plain_string(setting: str, path: list[str], value: object) -> None:
    assert parse_setting(setting) == (path, value)
    assert type(parse_setting(setting)[1]) is type(value)


@pytest.mark.parametrize(
    "setting", ["", "train.lr", "=3", ".=1", "train..lr=1", "train lr=1", "seed=1\ndata=2", "a=\x00"]
)
def test_setting_that_is_no_key_and_value_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match=r"^--set .*: expected key=value, as in --set train\.lr=0\.05"):
        parse_setting(setting)


def test_setting_of_a_whole_section_is_refused() -> None:
    with pytest.raises(ConfigError, match="a whole section; set one key at a time"):
        parse_setting("train={lr=0.1}")


def test_settings_go_over_the_file_and_the_last_one_wins(tmp_path: Path) -> None:
    config = loaded(tmp_path, "network.width=16", "train.lr=0.3", "train.lr=0.2", "stages.2.train.epochs=7")
    assert (config.network.width, config.network.stages) == (16, 3)
    assert (config.train.lr, config.train.epochs) == (0.2, 50)
    assert config.for_stage(2).train.epochs == 7
    assert (tmp_path / CONFIG_NAME).read_text() == SOUND


def test_setting_below_a_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--set network.width.x=1: width is a value, not a section"):
        loaded(tmp_path, "network.width.x=1")


def test_faults_of_several_overrides_are_listed_at_once(tmp_path: Path) -> None:
    text = (
        SOUND
        + """
    [stages]
    2 = 5
    [stages.01.train]
    [stages.last.train]
    [stages.0.network]
    width = 4
    [stages.1]
    store = "uint8"
    [stages.1.train]
    lr = nan
    [stages.1.head]
    k = 0
    """
    )
    assert faults(tmp_path, text=text) == [
        "stages.2 = 5: write [stages.2.train] and the like",
        "stages.01: expected the index of a stage, as in [stages.3.train]",
        "stages.last: expected the index of a stage, as in [stages.3.train]",
        "stages.0.network: only sections head, train, store and compress can differ by stage",
        "stages.1.store = 'uint8': a section is expected here",
        "stages.1.train.lr = nan: Expected float > 0.0",
        "stages.1.head.k = 0: Expected int >= 1",
    ]


def test_override_holds_for_its_stage_alone_and_leaves_the_other_keys(tmp_path: Path) -> None:
    config = loaded(tmp_path, "stages.1.train.lr=0.05", "stages.1.head.width=32", "stages.1.store.encoding=uint8")
    assert [config.for_stage(j).train.lr for j in range(3)] == [0.1, 0.05, 0.1]
    assert [config.for_stage(j).head.width for j in range(3)] == [256, 32, 256]
    assert [config.for_stage(j).store.encoding for j in range(3)] == ["float16", "uint8", "float16"]
    assert config.for_stage(1).train.momentum == 0.9
    assert config.for_stage(1).head.k == 2


def test_override_that_says_what_holds_anyway_changes_nothing(tmp_path: Path) -> None:
    config = loaded(tmp_path, "train.lr=1", "stages.1.train.lr=1")
    assert repr(config.for_stage(1).train) == repr(config.for_stage(0).train)


@pytest.mark.parametrize(
    ("settings", "text", "first"),
    [
        (("train.lr=abc", "seed=1"), SOUND, " with --set train.lr=abc has 1 fault:"),
        (("train.lr=-1", "head.k=0"), SOUND, " with --set train.lr=-1 --set head.k=0 has 2 faults:"),
        (("order.run=96",), SOUND, " with --set order.run=96 has 1 fault:"),
        (("seed=1",), SOUND.replace("k = 2", "k = 0"), " has 1 fault:"),
    ],
)
def test_a_fault_of_a_setting_is_not_blamed_on_the_file(
    tmp_path: Path, settings: tuple[str, ...], text: str, first: str
) -> None:
    with pytest.raises(ConfigError) as error:
        loaded(tmp_path, *settings, text=text)
    assert str(error.value).splitlines()[0] == f"{tmp_path / CONFIG_NAME}{first}"


def test_a_path_that_goes_up_is_where_the_system_finds_it_and_without_dots(tmp_path: Path) -> None:
    (tmp_path / "deep" / "run").mkdir(parents=True)
    (tmp_path / "run").symlink_to(tmp_path / "deep" / "run")
    (tmp_path / "deep" / "data").symlink_to(tmp_path)
    assert absolute_source("npz:../images.npz", tmp_path / "run") == f"npz:{tmp_path}/deep/images.npz"
    assert absolute_source("folder:../data", tmp_path / "deep" / "run") == f"folder:{tmp_path}/deep/data"
    assert absolute_source("folder:..", tmp_path / "deep" / "run") == f"folder:{tmp_path}/deep"
    assert absolute_source("folder:data", tmp_path / "run") == f"folder:{tmp_path}/run/data"
