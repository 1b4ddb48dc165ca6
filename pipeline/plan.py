"""The plan of a run: which x_j to store and when each goes, what every stage then takes, and what else there was."""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import torch

from pipeline.alternatives import Alternative, alternatives, at_a_time, least
from pipeline.anchors import Route, route_of, shortest_route
from pipeline.config import BaselineSection, Budget, Config, Evaluate, ProbeSection
from pipeline.costs import Parts
from pipeline.disk import of_all_seeds
from pipeline.errors import DeviceMemoryError, DiskError
from pipeline.footprint import Basis, Known, Sampled, weakest
from pipeline.gc import freeable
from pipeline.measured import Measured, measured_stages
from pipeline.metrics import read_metrics
from pipeline.ondevice import OnDevice, choose_on_device
from pipeline.outline import Outline
from pipeline.paths import matching
from pipeline.progress import size
from pipeline.rates import Rates
from pipeline.record import stage_path
from pipeline.runfolder import RunFolder
from pipeline.sealed import read_sealed, write_sealed
from pipeline.shortage import Shortage, shortage
from pipeline.workload import Budgets, Workload, workload

PLAN = "plan.json"
FORMAT = 3
"""Raised when what plan.json holds changes but by fields that may be left out: a plan of another one is made again."""


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
    micro_batch: int | None
    """None where it is trained."""
    recompute: bool
    """Whether a step keeps only the inputs of the stage's parts for the backward pass."""
    device_peak_bytes: int | None
    """Predicted; None where nothing limits it, or it is trained, and nothing was predicted."""
    device_beside_bytes: int | None = None
    """What a real step took beside what its code allocates, which is in the peak; None where none was run."""
    settings: str
    """Digest of what of the config it was predicted under."""
    is_rest: bool = False
    """Whether it began before: what is predicted is then of the epochs that are left."""
    key: str | None = None
    """Of the stage; None where it is of images that were not ingested yet."""

    @property
    def seconds(self) -> float:
        return self.training_seconds + self.ending_seconds + self.writing_seconds


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """plan.json."""

    anchors: list[int]
    """Indices of the x_i that stages start from; the first is 0, the images."""
    keep: str | list[int]
    """The cache.keep that it is of: a plan's choice is the stores of "auto" alone."""
    stages: list[StagePlan]
    """What is still to do of each."""
    predicted: list[StagePlan]
    """What earlier plans said of stages that are trained now, under whichever settings that was."""
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
    needs_bytes: int | None = None
    """Of disk, for both, where the stores are a what-if's, or those of cache.keep, and do not fit in the budget."""
    is_refused: bool = False
    """Whether a run refuses it, since that is sure."""
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
        rows, settings = (*self.predicted, *self.stages), settings_digest(config, j)
        whole = (one for one in rows if one.images_per_second and not one.is_rest)
        return next((one for one in whole if (one.j, one.settings) == (j, settings)), None)


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
    is_what_if: bool = False,
    others: Sequence[Alternative] | None = None,
) -> Plan:
    """The plan of least predicted time within the disk budget, for what of a run is still to do, up to stage `last` or
    all; or that of given stores, whether or not they fit, with what the least would be among the alternatives. `frees`
    says whether each of these goes once the next is written; by default where there is no room for all. `others` are
    its alternatives where nobody reads them anew.

    `samples` say what compression leaves of some x_i; those of `without` are not to be stored. Raises DiskError where
    not even the images fit, DeviceMemoryError where a stage does not. A what-if is never refused for the disk:
    where nothing fits it is that of all recomputed, and says how much disk that takes.
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
        if route is None and is_what_if:
            route = route_of(choices, (0,), budgets.stores)
    if route is None:
        raise _no_room(load, budgets, run)
    last_store = load.last if planned == len(outline.shapes) else None
    if others is None:
        last_bytes = load.last.nbytes if load.last and load.last.exists else 0  # which none of them counts as a store
        of_others = replace(budgets, beside=budgets.beside + last_bytes)
        others = [
            *(least(load, choices, of_others) if stores is not None else ()),
            *alternatives(outline, rates, of_others, load, choices, device, run, samples, ways),
        ]
    stages = [_stage(load, route, j, outline, rates, device, run) for j in range(planned)]
    peak_bytes, peak_basis = at_a_time(load, route, last_store)
    is_given = is_what_if or (stores is not None and any(stage.seconds for stage in stages))
    short = _shortage(outline, budgets, load, route, last_store) if is_given else None
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
        needs_bytes=short.needs_bytes if short else None,
        is_refused=short is not None and short.is_sure and not is_what_if,
        peak_basis=peak_basis,
        beside_bytes=budgets.beside,
        drops=_drops(route, peak_bytes, budgets) if stores is None else [],
        alternatives=list(others),
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
    gc = freeable(run) if run is not None else ""
    whose = of_all_seeds(run.path) if run is not None else ""
    return DiskError(
        f"x_0 alone takes {size(load.known[0].nbytes)}{beside}, and the disk budget is {size(budgets.disk)}{whose}\n"
        f"next: {f'{gc}; or ' if gc else ''}a larger budget, or a smaller data.canvas"
    )


def _shortage(outline: Outline, budgets: Budgets, load: Workload, route: Route, last: Known | None) -> Shortage | None:
    """Of a route's stores, and x_J."""
    known = {index: load.known[index] for index in route.anchors}
    if last is not None:
        known[len(outline.shapes)] = last
    return shortage(outline, budgets, known, frees=route.frees)


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
    """Put a plan in place of an earlier one, what that predicted of stages that are trained now, or begun, included,
    whichever settings this one is of."""
    earlier = read_plan(folder)
    if earlier is not None and run is not None:
        again = {(one.j, one.settings) for one in plan.stages if one.images_per_second and not one.is_rest}
        begun = {(one.j, one.settings) for one in plan.stages if one.is_rest}
        kept = [
            one
            for one in (*earlier.predicted, *earlier.stages)
            if one.images_per_second
            and not one.is_rest
            and (one.j, one.settings) not in again
            and ((one.j, one.settings) in begun or _is_trained(one, run.path / "stages"))
        ]
        plan = msgspec.structs.replace(plan, predicted=kept)
    write_sealed(folder / PLAN, plan)
    return plan


def _is_trained(stage: StagePlan, stages: Path) -> bool:
    """Whether a stage that something was predicted of is there; where its key was not known, one of its index."""
    name = f"{stage.j}-*" if stage.key is None else stage_path(stages, stage.j, stage.key).name
    return bool(matching(stages, f"{name}/stage.json"))


def settings_digest(config: Config, j: int) -> str:
    """Of what of a config stage j is predicted under: all but the budgets, which are the plan's own, and what is of
    evaluation and of what is trained beside the stages."""
    others: dict[str, Any] = {"budget": Budget(), "evaluate": Evaluate(), "baseline": BaselineSection()}
    own = msgspec.structs.replace(config.for_stage(j), **others, probe=ProbeSection(), stages={})
    return hashlib.sha256(msgspec.json.encode(own)).hexdigest()[:16]


def _stage(
    load: Workload,
    route: Route,
    j: int,
    outline: Outline,
    rates: Rates,
    device: torch.device,
    run: RunFolder | None,
) -> StagePlan:
    anchor = route.anchor(j)
    is_trained = run is not None and run.stages[j].record is not None
    chosen = None if is_trained else choose_on_device(outline, j, anchor=anchor, device=device)
    written, writing_at = _written(load, route, j)
    last = load.last if j + 1 == len(outline.shapes) else None
    alive = [*(load.known[i] for i in route.alive(j)), *([last] if last else [])]
    at = [(part, j) for part in (load.training, load.validation, load.ending)]
    at += [writing_at] if writing_at else []
    training, validation, ending, *writing = (float(part.total[anchor, where]) for part, where in at)
    return StagePlan(
        j=j,
        anchor=anchor,
        writes=j + 1 if written else None,
        written_bytes=written.nbytes if written else 0,
        written_basis=written.basis if written else None,
        deletes=anchor if _goes(route, j, len(outline.shapes)) else None,
        alive_bytes=sum(one.nbytes for one in alive),
        alive_basis=weakest(alive),
        training_seconds=training + validation,
        ending_seconds=ending,
        writing_seconds=sum(writing) + _reading_back(load, route, j, rates),
        replaying_seconds=sum(float(part.replay[anchor, where]) for part, where in at),
        reading_seconds=sum(float(part.read[anchor, where]) for part, where in at),
        images_per_second=int(load.epochs[j]) * outline.samples["train"] / training if training else None,
        limited_by=_limit(load, anchor, j, is_trained=bool(training), writing=writing_at),
        micro_batch=chosen.micro_batch if chosen else None,
        recompute=chosen is not None and chosen.recompute,
        device_peak_bytes=chosen.peak_bytes if chosen else None,
        device_beside_bytes=chosen.beside_bytes if chosen else None,
        settings=settings_digest(outline.config, j),
        is_rest=run is not None and run.stages[j].record is None and bool(read_metrics(run.stages[j])),
        key=None if run is None else run.stages[j].key,
    )


def _written(load: Workload, route: Route, j: int) -> tuple[Known | None, tuple[Parts, int] | None]:
    """What stage j writes, and where its seconds are; x_J too, where that is asked for."""
    if j + 1 in route.anchors:
        return load.known[j + 1], (load.writing, j + 1)
    if j + 1 == len(load.known) and load.last and not load.last.exists and load.writing_last is not None:
        return load.last, (load.writing_last, 0)
    return None, None


def _goes(route: Route, j: int, stages: int) -> bool:
    """Whether what stage j starts from goes when it ends: the next is written, or it was the last stage of all."""
    anchor = route.anchor(j)
    return route.last_reader(anchor) == j or (route.frees and anchor > 0 and j == stages - 1)


def _limit(load: Workload, anchor: int, j: int, *, is_trained: bool, writing: tuple[Parts, int] | None) -> str:
    """What the training waits for; where none is left, the write-back."""
    if is_trained:
        return load.training.limit(anchor, j)
    return writing[0].limit(anchor, writing[1]) if writing else "-"


def _reading_back(load: Workload, route: Route, j: int, rates: Rates) -> float:
    """Seconds of verifying what stage j wrote, where another store is deleted for it."""
    if route.last_reader(route.anchor(j)) != j:
        return 0.0
    return load.known[j + 1].nbytes / rates.read_bytes_per_second
