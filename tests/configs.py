"""A small config file for tests, and what is wrong with its variants."""

from pathlib import Path

import pytest

from pipeline.config import Config
from pipeline.config_file import CONFIG_NAME, load_config
from pipeline.errors import ConfigError

SOUND = """
[data]
source = "digits:"
[network]
stages = 3
width = 8
[head]
k = 2
[augment]
flip = true
"""


def loaded(folder: Path, *settings: str, text: str = SOUND) -> Config:
    """The config of a folder whose file has this text, with `--set` settings."""
    (folder / CONFIG_NAME).write_text(text, encoding="utf-8")
    return load_config(folder, settings)


def faults(folder: Path, *settings: str, text: str = SOUND) -> list[str]:
    """The faults that loading reports, one a line."""
    with pytest.raises(ConfigError) as caught:
        loaded(folder, *settings, text=text)
    first, *lines = str(caught.value).splitlines()
    count = "1 fault" if len(lines) == 1 else f"{len(lines)} faults"
    assert first.startswith(f"{folder / CONFIG_NAME} ")
    assert first.endswith(f" has {count}:")
    return [line.strip() for line in lines]
