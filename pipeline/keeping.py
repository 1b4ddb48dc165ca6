"""Before a run begins whose stores the config names: whether they fit on the disk with all else, and what would."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import torch

from cascade.quantiser import ENCODINGS
from pipeline.beside import beside_bytes, bytes_to_come
from pipeline.config import Cache, Config, budget_bytes
from pipeline.data_info import read_data_info
from pipeline.device import autocast_type, machine_record
from pipeline.disk import of_all_seeds
from pipeline.errors import DiskError
from pipeline.footprint import known_store
from pipeline.gc import freeable
from pipeline.outline import Outline, read_outline
from pipeline.planning import budgets_of, counted_stores, stores_kept
from pipeline.progress import size
from pipeline.runfolder import RunFolder
from pipeline.shortage import Shortage, shortage

KEEPS = {"auto": Cache(keep="auto"), "needed": Cache(keep="needed"), "none": Cache(keep="none")}
"""Values of cache.keep that may take less."""


def check_kept(
    folder: Path,
    config: Config,
    device: torch.device,
    *,
    run: RunFolder | None = None,
    last: int | None = None,
    asked_for: int | None = None,
) -> None:
    """Raise DiskError where what a run keeps of stages up to `last`, by default all, surely does not fit on the disk:
    x_0, its stores as far as they are there together, and all else in the folder; with what would fit.

    `run` is the folder as it is seen where that is not by the config alone. `asked_for` is the index of an x_j that is
    written though nothing will read it.
    """
    if run is None and read_data_info(folder):
        run = RunFolder(folder, config)
    outline = read_outline(folder, config)
    if last is not None:
        outline.check_stage(last)
    kept = Kept(folder, config, device, run, outline, last, asked_for)
    if (short := kept.shortage()) is not None and short.is_sure:
        raise _refused(kept, short)


@dataclass(frozen=True)
class Kept:
    """A run and what it keeps."""

    folder: Path
    config: Config
    device: torch.device
    run: RunFolder | None
    """None where nothing is ingested yet."""
    outline: Outline
    last: int | None
    asked_for: int | None

    @property
    def frees(self) -> bool:
        return self.config.cache.keep == "needed"

    @property
    def stages(self) -> int:
        """That it is of."""
        return len(self.outline.shapes) if self.last is None else self.last + 1

    def stores(self) -> list[int]:
        """Indices of the x_j, j >= 1, that count; none under "auto", whose plan does without where it has to."""
        stores = counted_stores(self.outline, stores_kept(self.outline, self.run), self.stages)
        return sorted({*stores, *([] if self.asked_for is None else [self.asked_for])})

    def shortage(self) -> Shortage | None:
        """Of the disk; None where all fits."""
        dtype = autocast_type(self.device, self.config.network.precision)
        machine, stores = machine_record(self.device, dtype), self.stores()
        known = {i: known_store(self.outline, i, machine, run=self.run) for i in (0, *stores)}
        if self.run is None:
            beside = bytes_to_come(self.outline, list(range(self.stages)))
        else:
            beside = beside_bytes(self.run, self.stages, stores=stores)
        budgets = replace(budgets_of(self.folder, self.config, host_bytes=0), beside=beside)  # of the disk alone
        return shortage(self.outline, budgets, known, frees=self.frees)

    def keeping(self, keep: str) -> "Kept":
        """The same under another cache.keep."""
        config = msgspec.structs.replace(self.config, cache=KEEPS[keep])
        run = None if self.run is None else self.run.keeping(KEEPS[keep])
        return replace(self, config=config, run=run, outline=self.outline.under(config))

    def storing(self, **store: str) -> "Kept":
        """The same with other settings of [store], for every stage: another encoding is another method."""
        config = _storing(self.config, store)
        run = None if self.run is None else RunFolder(self.folder, config, self.run.settings)
        return replace(self, config=config, run=run, outline=self.outline.under(config))


def _refused(kept: Kept, short: Shortage) -> DiskError:
    names = ", ".join(f"x_{i}" for i in (0, *kept.stores()))
    together = " (of those past the images two at a time)" if kept.frees else ""
    at_most = "at most " if short.is_bound else ""
    stated = budget_bytes(kept.config.budget.disk)
    there = "this disk has for it" if stated != short.disk_bytes else "there is of budget.disk"
    return DiskError(
        f"{names}{together}, and what is kept beside, take {at_most}{size(short.needs_bytes)}, more than {there}, "
        f"{size(short.disk_bytes)}{of_all_seeds(kept.folder)}\nnext: {'; or '.join(_options(kept, short))}"
    )


def _options(kept: Kept, short: Shortage) -> Iterator[str]:
    """What fits, by its price: nothing, time, another method."""
    if kept.run is not None and (gc := freeable(kept.run)):
        yield gc
    if budget_bytes(kept.config.budget.disk) == short.disk_bytes:
        yield f"--disk {shlex.quote(size(_rounded_up(short.needs_bytes)))}"
    else:
        yield f"make {size(_rounded_up(short.needs_bytes - short.disk_bytes))} free on that disk"
    keeps = [value for value in KEEPS if value != kept.config.cache.keep]
    if fitting := _fitting(keeps, kept.keeping):
        yield f"cache.keep = {fitting}"
    if kept.config.store.codec != "zstd" and not _is_sure(kept.storing(codec="zstd")):
        yield "store.codec = zstd, which may suffice"
    encodings = ENCODINGS[ENCODINGS.index(kept.config.store.encoding) + 1 :]
    if fitting := _fitting(encodings, lambda value: kept.storing(encoding=value)):
        yield f"train anew with store.encoding = {fitting}, another method"


def _fitting(values: Sequence[str], under: Callable[[str], Kept]) -> str:
    """Those under which all fits, as in "needed or none"; "" where there is none."""
    return " or ".join(value for value in values if under(value).shortage() is None)


def _is_sure(kept: Kept) -> bool:
    """Whether it surely does not fit."""
    short = kept.shortage()
    return short is not None and short.is_sure


def _storing(config: Config, store: dict[str, str]) -> Config:
    """The config with settings of [store], and no stage with others of its own."""
    stages = {
        j: msgspec.structs.replace(own, store={name: one for name, one in own.store.items() if name not in store})
        for j, own in config.stages.items()
    }
    return msgspec.structs.replace(config, store=msgspec.structs.replace(config.store, **store), stages=stages)


def _rounded_up(nbytes: int) -> int:
    """To two digits, so that what is said of it is no less."""
    unit: int = 10 ** max(len(str(nbytes)) - 2, 0)
    return -(-nbytes // unit) * unit
