"""What a store says of itself to whoever reads it alone: its attributes, beside those that every store has."""

from collections.abc import Sequence
from typing import Any

CONFIGURED = "as configured"
"""Why a store has its codec, where the config names it."""


def image_attributes(split: str) -> dict[str, Any]:
    """Of x_0."""
    return {"split": split, "index": 0}


def output_attributes(
    *,
    split: str,
    index: int,
    rendering: str,
    key: str,
    codec_reason: str,
    signal_to_noise_db: float | None,
    saturated_share: float,
    machines: Sequence[Any],
) -> dict[str, Any]:
    """Of x_index, index >= 1, made by the stage of this key; `machines` are those that the numbers come from."""
    return {
        "split": split,
        "index": index,
        "rendering": rendering,
        "key": key,
        "codec_reason": codec_reason,
        "signal_to_noise_db": signal_to_noise_db,
        "saturated_share": saturated_share,
        "machines": list(machines),
    }
