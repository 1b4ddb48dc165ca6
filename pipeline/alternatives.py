"""What else a plan names: other stores, other budgets, other settings, each with its price."""

from collections.abc import Iterator, Sequence

import msgspec
import torch

from pipeline.anchors import Choices, Route, route_of, shortest_route
from pipeline.errors import ConfigError
from pipeline.footprint import Basis, Known, Sampled, weakest
from pipeline.ondevice import OnDevice
from pipeline.otherways import other_ways
from pipeline.outline import Outline
from pipeline.progress import size
from pipeline.rates import Rates
from pipeline.runfolder import RunFolder
from pipeline.workload import Budgets, Workload, workload


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


def at_a_time(load: Workload, route: Route, last: Known | None = None) -> tuple[int, Basis]:
    """Bytes of the stores on disk at a time, where they are most, and what they are known from; `last` is x_J, where
    that is written."""
    images, *kept = (load.known[i] for i in route.anchors)
    kept += [last] if last is not None else []
    beside = [kept[m : m + 2] for m in range(max(len(kept), 1))] if route.frees else [kept]
    most = max(([images, *some] for some in beside), key=lambda some: sum(one.nbytes for one in some))
    return sum(one.nbytes for one in most if not one.stays), weakest(most)


def _priced(name: str, load: Workload, route: Route, budgets: Budgets, *, changes_results: bool) -> Alternative:
    peak_bytes, peak_basis = at_a_time(load, route)
    return Alternative(
        name=name,
        anchors=list(route.anchors),
        seconds=route.seconds,
        peak_bytes=peak_bytes,
        peak_basis=peak_basis,
        fits=route.peak_bytes <= budgets.stores,
        changes_results=changes_results,
    )


def least(load: Workload, choices: Choices, budgets: Budgets) -> Iterator[Alternative]:
    """What "auto" would do, where other stores are asked for."""
    if (route := shortest_route(choices, budgets.stores)) is not None:
        yield _priced("cache.keep = auto", load, route, budgets, changes_results=False)


def alternatives(
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
            yield _priced(name, of, found, budgets, changes_results=changes_results)

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
