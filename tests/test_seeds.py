"""Which seeds a sweep is of, and the run folders that it makes for them."""

from pathlib import Path

import msgspec
import pytest

from pipeline.config_file import CONFIG_NAME, load_config
from pipeline.errors import ConfigError, CorruptDataError, RefusedError
from pipeline.experiments.seeds import make_seed_folder, parse_seeds, seed_folder, seeds_there
from tests.configs import SOUND


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    (tmp_path / CONFIG_NAME).write_text(SOUND)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "seeds"), [("0..4", [0, 1, 2, 3, 4]), ("7", [7]), ("3, 0..1,3", [3, 0, 1]), ("5..5", [5])]
)
def test_seeds_are_numbers_and_ranges_each_once(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected numbers and ranges"),
        ("-1", "expected numbers and ranges"),
        ("0..", "expected numbers and ranges"),
        ("4..0", "nothing lies between 4 and 0"),
        ("0..999999", "more than 1000 seeds"),
    ],
)
def test_other_texts_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"{reason}.*\nnext: "):
        parse_seeds(text)


def test_a_seeds_config_is_the_parents_but_for_the_seed(parent: Path) -> None:
    folder = make_seed_folder(parent, 3, ["train.lr=0.05", "cache.keep=none"])
    assert load_config(folder) == msgspec.structs.replace(
        load_config(parent, ["train.lr=0.05", "cache.keep=none"]), seed=3
    )
    assert seeds_there(parent) == [3]


def test_a_seeds_config_follows_the_parents_when_that_is_edited(parent: Path) -> None:
    make_seed_folder(parent, 0, [])
    (parent / CONFIG_NAME).write_text(SOUND.replace("width = 8", "width = 16"))
    assert load_config(make_seed_folder(parent, 0, [])).network.width == 16


def test_the_data_sets_place_is_found_from_the_seeds_folder_too(parent: Path) -> None:
    (parent / CONFIG_NAME).write_text(SOUND.replace("digits:", "npz:images.npz"))
    assert load_config(make_seed_folder(parent, 0, [])).data.source == f"npz:{parent / 'images.npz'}"


def test_a_config_that_no_seed_can_be_put_into_is_refused(parent: Path) -> None:
    (parent / CONFIG_NAME).write_text(SOUND.replace('[data]\nsource = "digits:"', 'data = { source = "digits:" }'))
    assert load_config(parent).data.source == "digits:"
    with pytest.raises(ConfigError, match=r"next: write data\.source, seed on lines of their own"):
        make_seed_folder(parent, 0, [])


def test_a_folder_with_images_of_its_own_is_refused(parent: Path) -> None:
    (seed_folder(parent, 0) / "x_0").mkdir(parents=True)
    with pytest.raises(RefusedError, match="has images of its own\nnext: move it away"):
        make_seed_folder(parent, 0, [])


def test_a_link_in_the_way_is_not_followed(parent: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (parent / "seeds").symlink_to(elsewhere)
    with pytest.raises(CorruptDataError, match="is a link"):
        make_seed_folder(parent, 0, [])
    assert list(elsewhere.iterdir()) == []


def test_images_that_lead_elsewhere_are_refused(parent: Path) -> None:
    make_seed_folder(parent, 0, [])
    (seed_folder(parent, 0) / "x_0").unlink()
    (seed_folder(parent, 0) / "x_0").symlink_to("/")
    with pytest.raises(CorruptDataError, match="next: remove the link"):
        make_seed_folder(parent, 0, [])
