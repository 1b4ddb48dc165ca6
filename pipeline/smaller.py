"""Which one setting of the method, changed least, takes a stage into the memory of its device."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import torch

from pipeline.config import MIN_BATCH, Config
from pipeline.corrected import corrected_peak
from pipeline.device import autocast_type
from pipeline.errors import ConfigError
from pipeline.microbatch import micro_batches
from pipeline.outline import Outline
from pipeline.peak import stage_work
from pipeline.shapes import network_shapes

HALVINGS = 3
"""Of a setting that are tried: what needs more is for another setting."""


@dataclass(frozen=True)
class Change:
    """Of a setting."""

    setting: str
    value: int
    peak_bytes: int
    """Of the stage then, in its smallest parts."""


def smallest_change(outline: Outline, j: int, *, anchor: int, device: torch.device, room: int) -> Change | None:
    """The first change that fits in `room` bytes: of settings in the order in which they cost the method least, and of
    each the value nearest to the present one. None where no setting alone suffices."""
    for section, name, value in _changes(outline.config, j):
        changed = msgspec.structs.replace(getattr(outline.config, section), **{name: value})
        config: Config = msgspec.structs.replace(outline.config, **{section: changed})
        try:
            shapes = network_shapes(config, channels=outline.channels, image_side=outline.side)
        except ConfigError:
            continue
        least = least_peak(replace(outline, config=config, shapes=shapes), j, anchor=anchor, device=device)
        if least <= room:
            return Change(f"{section}.{name}", value, least)
    return None


def least_peak(outline: Outline, j: int, *, anchor: int, device: torch.device) -> int:
    """Bytes of stage j in its smallest parts, with recomputation where the config allows it."""
    config, dtype = outline.config, autocast_type(device, outline.config.network.precision)
    recompute = config.machine.recompute != "never"
    work = stage_work(outline, j, anchor=anchor, device_type=device.type, dtype=dtype, recompute=recompute)
    return corrected_peak(work, micro_batches(config, j)[-1], outline.steps, device).streamed


def _changes(config: Config, j: int) -> Iterator[tuple[str, str, Any]]:
    """Section, name and value of what would take less."""
    own = config.for_stage(j)
    if own.network.batch_norm:
        yield from (("network", "bn_group", value) for value in _halves(own.network.bn_group or own.train.batch_size))
    yield from (("head", "pool", own.head.pool * 2**n) for n in range(1, HALVINGS + 1))
    yield from (("head", "width", value) for value in _halves(own.head.width))
    yield from (("order", "run", value) for value in _halves(own.order.run))


def _halves(value: int) -> list[int]:
    """Half of it, a quarter, an eighth: as far as they are whole groups of samples, or of channels."""
    return [value >> n for n in range(1, HALVINGS + 1) if value % (MIN_BATCH << n) == 0]
