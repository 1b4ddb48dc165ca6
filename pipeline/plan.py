"""The plan of a run: which x_j to store and when each goes, what every stage then takes, and what else there was."""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch

from pipeline.anchors import Choices, Route, route_of, shortest_route
from pipeline.config import Budget, Config, Evaluate
from pipeline.disk import of_all_seeds
from pipeline.errors import ConfigError, DeviceMemoryError, DiskError
from pipeline.footprint import Basis, Sampled, weakest
from pipeline.measured import Measured, measured_stages
from pipeline.ondevice import OnDevice, choose_on_device
from pipeline.otherways import other_ways
from pipeline.outline import Outline
from pipeline.progress import size
from pipeline.rates import Rates
from pipeline.runfolder import RunFolder
from pipeline.sealed import read_sealed, write_sealed
from pipeline.workload import Budgets, Workload, workload

PLAN = "plan.json"
FORMAT = 3
"""Raised when what plan.json holds changes: a plan of another one is made again."""


class StagePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is predicted of a stage."""

    j: int
    anchor: int
    """The index of the x_i that it starts from."""
    writes: int | None
    """The index of the store that is written at its end."""
    written_bytes: int
    """Of that store."""
    written_basis: Basis | None
    """What they are known from: stored, raw, sample or bound; None where nothing is written."""
    deletes: int | None
    """The index of the store that goes then."""
    alive_bytes: int
    """Of all stores of the plan on disk, x_0 included, when it ends, before any goes."""
    alive_basis: Basis
    """What these are known from, the least sure of them."""
    training_seconds: float
    """Of its epochs with their validation."""
    ending_seconds: float
    """Of its test, the scale of its output, and of what is kept of it on disk on the way."""
    writing_seconds: float
    """Of the store at its end, and of reading it back before another goes."""
    replaying_seconds: float
    """Of all these, what the device spends on the prefix."""
    reading_seconds: float
    """What the disk is read for, beside the rest."""
    images_per_second: float | None
    """Trained; None where no epoch is left."""
    limited_by: str
    """What the training waits for: device, disk or threads."""
    micro_batch: int
    recompute: bool
    """Whether a step keeps only the inputs of the stage's parts for the backward pass."""
    device_peak_bytes: int | None
    """Predicted; None where nothing limits it, and nothing was predicted."""
    settings: str
    """Digest of what of the config it was predicted under."""

    @property
    def seconds(self) -> float:
        return self.training_seconds + self.ending_seconds + self.writing_seconds


class Alternative(msgspec.Struct, frozen=True, kw_only=True):
    """Another way, in a line."""

    name: str
    anchors: list[int]
    seconds: float
    peak_bytes: int
    """Of the stores on disk at a time, x_0 included."""
    peak_basis: Basis
    """What they are known from."""
    fits: bool
    """Whether the disk has room for it."""
    changes_results: bool
    """Whether it is another method: its time is that of all that it trains anew."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """plan.json."""

    anchors: list[int]
    """Indices of the x_i that stages start from; the first is 0, the images."""
    keep: str | list[int]
    """The cache.keep that it is of: a plan's choice is the stores of "auto" alone."""
    stages: list[StagePlan]
    """What is still to do of each."""
    predicted: list[StagePlan]
    """What earlier plans said of stages that are trained now."""
    measured: list[Measured]
    """What came of stages that are trained."""
    images: dict[str, int]
    """Split -> number of images that it is made for."""
    seconds: float
    """Of all that is still to do."""
    peak_bytes: int
    """Of the stores on disk at a time, x_0 included."""
    beside_bytes: int
    """Of all else in the folder, now and to come: weights, test outputs, checkpoints, records, other branches."""
    disk_bytes: int
    """The budget, for both."""
    drops: list[int]
    """Indices of x_i that are there, for which there is no room beside the plan, and which go before it begins."""
    peak_basis: Basis
    """What the bytes on disk are known from."""
    alternatives: list[Alternative]
    samples: list[Sampled]
    """What compression leaves of x_i that are not written."""
    machine: dict[str, Any]
    """What the rates were measured on."""
    format: int = FORMAT
    """Of this file."""

    @property
    def frees(self) -> bool:
        """Whether stores are deleted on the way."""
        return any(stage.deletes is not None for stage in self.stages)

    def followed(self, run: RunFolder) -> RunFolder:
        """The run folder with its stores."""
        shares = {one.store: one.shares for one in self.samples}
        return run.following(self.stores, frees=self.frees, drops=self.drops, shares=shares)

    @property
    def stores(self) -> list[int]:
        """Indices of the x_j to store, j >= 1."""
        return self.anchors[1:]

    def prediction(self, config: Config, j: int) -> StagePlan | None:
        """What was predicted of all of stage j under the same settings and stores; None where nothing was."""
        if config.cache.keep != self.keep:
            return None
        rows, settings = (*self.predicted, *self.stages), settings_digest(config, j)
        return next((one for one in rows if (one.j, one.settings) == (j, settings) and one.images_per_second), None)


def make_plan(
    outline: Outline,
    rates: Rates,
    budgets: Budgets,
    *,
    device: torch.device,
    run: RunFolder | None = None,
    samples: Sequence[Sampled] = (),
    stores: Sequence[int] | None = None,
    frees: bool | None = None,
    without: Collection[int] = (),
    last: int | None = None,
) -> Plan:
    """The plan of least predicted time within the disk budget, for what of a run is still to do, up to stage `last` or
    all; or that of given stores, whether or not they fit, with what the least would be among the alternatives. `frees`
    says whether each of these goes once the next is written; by default where there is no room for all.

    `samples` say what compression leaves of some x_i; those of `without` are not to be stored. Raises DiskError where
    not even the images fit, DeviceMemoryError where a stage does not.
    """
    planned = len(outline.shapes) if last is None else last + 1
    ways = list(_ways(outline, planned, device))
    load = workload(outline, rates, budgets, run=run, samples=samples, without=without, device=device, ways=ways)
    choices = load.choices.until(planned)
    if stores is not None:
        written = load.choices.until(min(planned + 1, len(outline.shapes)))  # by the last stage too
        there = [i for i in sorted(stores) if i < written.stages]
        route: Route | None = route_of(written, (0, *there), budgets.stores, frees=frees)
    else:
        route = shortest_route(choices, budgets.stores)
    if route is None:
        raise _no_room(load, budgets, run)
    stages = [_stage(load, route, j, outline, rates, device) for j in range(planned)]
    peak_bytes, peak_basis = _at_a_time(load, route)
    return Plan(
        anchors=list(route.anchors),
        keep=outline.config.cache.keep,
        stages=stages,
        predicted=[],
        measured=measured_stages(run) if run is not None else [],
        images=outline.samples,
        seconds=sum(stage.seconds for stage in stages),
        peak_bytes=peak_bytes,
        disk_bytes=budgets.disk,
        peak_basis=peak_basis,
        beside_bytes=budgets.beside,
        drops=_drops(route, peak_bytes, budgets) if stores is None else [],
        alternatives=[
            *(_least(load, choices, budgets) if stores is not None else ()),
            *_alternatives(outline, rates, budgets, load, choices, device, run, samples, ways),
        ],
        samples=list(samples),
        machine=rates.machine,
    )


def _ways(outline: Outline, planned: int, device: torch.device) -> Iterator[OnDevice | None]:
    """How each stage goes through the device from the nearest x_i that it may start from; None where it does not fit,
    which is for the plan to say of those that it has to train."""
    for j in range(planned):
        try:
            yield choose_on_device(outline, j, anchor=outline.config.augment.last_anchor(j), device=device)
        except DeviceMemoryError:
            yield None


def _no_room(load: Workload, budgets: Budgets, run: RunFolder | None) -> DiskError:
    """Of a budget that does not even hold the images, and what there is and will be whatever is stored."""
    beside = f", and what is no store {size(budgets.beside)}: weights, checkpoints, records" if budgets.beside else ""
    gc = f"{run.command('gc')} lists what can be freed; or " if run is not None else ""
    whose = of_all_seeds(run.path) if run is not None else ""
    return DiskError(
        f"x_0 alone takes {size(load.known[0].nbytes)}{beside}, and the disk budget is {size(budgets.disk)}{whose}\n"
        f"next: {gc}a larger budget, or a smaller data.canvas"
    )


def _drops(route: Route, peak_bytes: int, budgets: Budgets) -> list[int]:
    """The x_i there that the plan has no use for, where there is no room for them beside it."""
    others = {i: nbytes for i, nbytes in budgets.there.items() if i not in route.anchors}
    return sorted(others) if peak_bytes + sum(others.values()) > budgets.stores else []


class _Headed(msgspec.Struct, frozen=True):
    """What of a file says which format it has."""

    format: int = 1


def read_plan(folder: Path) -> Plan | None:
    """The plan kept in a run folder, if it is of this format. Raises CorruptDataError."""
    remedy = "delete it; cascade plan makes it again"
    headed = read_sealed(folder / PLAN, _Headed, remedy=remedy)
    return read_sealed(folder / PLAN, Plan, remedy=remedy) if headed and headed.format == FORMAT else None


def as_planned(run: RunFolder) -> RunFolder:
    """The run folder with the stores of the plan that is kept in it, where the config leaves them to one."""
    if run.config.cache.keep != "auto" or (plan := read_plan(run.path)) is None or plan.keep != "auto":
        return run
    return plan.followed(run)


def keep_plan(folder: Path, plan: Plan, run: RunFolder | None) -> Plan:
    """Put a plan in place of an earlier one, what that predicted of stages that are trained now included: not of those
    that others stand in for."""
    earlier = read_plan(folder)
    if earlier is not None and run is not None:
        done = [stage.j for stage in run.stages if stage.record is not None and not run.is_stand_in(stage.j)]
        found = [earlier.prediction(run.asked, j) for j in done]
        plan = msgspec.structs.replace(plan, predicted=[one for one in found if one is not None])
    write_sealed(folder / PLAN, plan)
    return plan


def settings_digest(config: Config, j: int) -> str:
    """Of what of a config stage j is predicted under: all but the budgets, which are the plan's own."""
    own = msgspec.structs.replace(config.for_stage(j), budget=Budget(), evaluate=Evaluate(), stages={})
    return hashlib.sha256(msgspec.json.encode(own)).hexdigest()[:16]


def _stage(load: Workload, route: Route, j: int, outline: Outline, rates: Rates, device: torch.device) -> StagePlan:
    anchor = route.anchor(j)
    chosen = choose_on_device(outline, j, anchor=anchor, device=device)
    writes = j + 1 if j + 1 in route.anchors else None
    alive = [load.known[i] for i in route.alive(j)]
    at = [(part, j) for part in (load.training, load.validation, load.ending)]
    at += [(load.writing, j + 1)] if writes else []
    training, validation, ending, *writing = (float(part.total[anchor, where]) for part, where in at)
    return StagePlan(
        j=j,
        anchor=anchor,
        writes=writes,
        written_bytes=load.known[j + 1].nbytes if writes else 0,
        written_basis=load.known[j + 1].basis if writes else None,
        deletes=anchor if _goes(route, j, len(outline.shapes)) else None,
        alive_bytes=sum(one.nbytes for one in alive),
        alive_basis=weakest(alive),
        training_seconds=training + validation,
        ending_seconds=ending,
        writing_seconds=sum(writing) + _reading_back(load, route, j, rates),
        replaying_seconds=sum(float(part.replay[anchor, where]) for part, where in at),
        reading_seconds=sum(float(part.read[anchor, where]) for part, where in at),
        images_per_second=int(load.epochs[j]) * outline.samples["train"] / training if training else None,
        limited_by=_limit(load, anchor, j, is_trained=bool(training), is_written=bool(writing)),
        micro_batch=chosen.micro_batch,
        recompute=chosen.recompute,
        device_peak_bytes=chosen.peak_bytes,
        settings=settings_digest(outline.config, j),
    )


def _goes(route: Route, j: int, stages: int) -> bool:
    """Whether what stage j starts from goes when it ends: the next is written, or it was the last stage of all."""
    anchor = route.anchor(j)
    return route.last_reader(anchor) == j or (route.frees and anchor > 0 and j == stages - 1)


def _limit(load: Workload, anchor: int, j: int, *, is_trained: bool, is_written: bool) -> str:
    """What the training waits for; where none is left, the write-back."""
    if is_trained:
        return load.training.limit(anchor, j)
    return load.writing.limit(anchor, j + 1) if is_written else "-"


def _reading_back(load: Workload, route: Route, j: int, rates: Rates) -> float:
    """Seconds of verifying what stage j wrote, where another store is deleted for it."""
    if route.last_reader(route.anchor(j)) != j:
        return 0.0
    return load.known[j + 1].nbytes / rates.read_bytes_per_second


def _at_a_time(load: Workload, route: Route) -> tuple[int, Basis]:
    """Bytes of the stores on disk at a time, where they are most, and what they are known from."""
    images, *kept = (load.known[i] for i in route.anchors)
    beside = [kept[m : m + 2] for m in range(len(kept))] if route.frees else [kept]
    most = max(([images, *some] for some in beside), key=lambda some: sum(one.nbytes for one in some))
    return sum(one.nbytes for one in most if not one.stays), weakest(most)


def _alternative(name: str, load: Workload, route: Route, budgets: Budgets, *, changes_results: bool) -> Alternative:
    peak_bytes, peak_basis = _at_a_time(load, route)
    return Alternative(
        name=name,
        anchors=list(route.anchors),
        seconds=route.seconds,
        peak_bytes=peak_bytes,
        peak_basis=peak_basis,
        fits=route.peak_bytes <= budgets.stores,
        changes_results=changes_results,
    )


def _least(load: Workload, choices: Choices, budgets: Budgets) -> Iterator[Alternative]:
    """What "auto" would do, where other stores are asked for."""
    if (route := shortest_route(choices, budgets.stores)) is not None:
        yield _alternative("cache.keep = auto", load, route, budgets, changes_results=False)


def _alternatives(
    outline: Outline,
    rates: Rates,
    budgets: Budgets,
    load: Workload,
    choices: Choices,
    device: torch.device,
    run: RunFolder | None,
    samples: Sequence[Sampled],
    ways: Sequence[OnDevice | None],
) -> Iterator[Alternative]:
    """What else could be done, in a line each."""

    def one(name: str, of: Workload, found: Route | None, *, changes_results: bool = False) -> Iterator[Alternative]:
        if found is not None:
            yield _alternative(name, of, found, budgets, changes_results=changes_results)

    stages = choices.stages
    stores = [i for i in range(1, stages) if choices.may_store[i]]
    yield from one("all cached", load, route_of(choices, (0, *stores), budgets.stores))
    yield from one("all recomputed", load, route_of(choices, (0,), budgets.stores))
    yield from one(
        f"half the disk, {size(budgets.disk // 2)}", load, shortest_route(choices, budgets.disk // 2 - budgets.beside)
    )
    for change in other_ways(outline.config):
        try:
            other, seen = outline.under(change.config), change.seen(run)
        except ConfigError:
            continue
        of = workload(other, rates, budgets, run=seen, samples=samples, device=device, ways=ways)
        route = shortest_route(of.choices.until(stages), budgets.stores)
        yield from one(change.name, of, route, changes_results=change.changes_results)
