"""The campaigns, as commands.

    python -m tests.faults all                        everything, hours
    python -m tests.faults sweep --kinds kill         a fault at every call that changes the folder, of a run's commands
    python -m tests.faults sweep --parts gc repair    the same of gc and repair
    python -m tests.faults random --trials 1000       signals at random moments
    python -m tests.faults trace                      faults in the system calls of a write-back and a checkpoint
    python -m tests.faults again                      a second SIGINT or SIGTERM while a run stops
    python -m tests.faults power                      power cuts, from the record of a command's calls
    python -m tests.faults protocol                   the order of calls, of a run, gc and repair
    python -m tests.faults race                       several processes at one run folder
    python -m tests.faults corrupt --trials 2000      damaged bytes, 2,000 cases for each store
    python -m tests.faults repair --trials 100        damage, `cascade verify` and `cascade repair`
    python -m tests.faults plant                      planted bugs

Prints a table in Markdown and, for each failure, the command that makes it again. Exits with 1 where there is one.
"""

import argparse
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from tests.faults import again, moments, power, races, sweep, tracing
from tests.faults.bugs import BUGS
from tests.faults.campaign import Report, table
from tests.faults.corruption import corruption
from tests.faults.lab import Lab
from tests.faults.parts import OF_A_RUN, PARTS, Part, part
from tests.faults.planted import planted
from tests.faults.repairs import repairs
from tests.faults.syscalls import Fault, Kind
from tests.faults.tiny import write_config

RANDOM_TRIALS, REPAIRS = 100, 100
"""Where no number is asked for."""


def main(argv: list[str] | None = None) -> int:
    """Run campaigns; returns the exit code."""
    arguments = _parser().parse_args(argv)
    names = list(CAMPAIGNS) if arguments.campaign == "all" else [arguments.campaign]
    reports = []
    with Lab(arguments.jobs, arguments.folder) as lab:
        for name in names:
            for report in CAMPAIGNS[name](lab, arguments):
                print(f"{report.name}: {report.trials} trials, {len(report.failures)} failures", file=sys.stderr)
                reports.append(report)
    print(table(reports))
    return int(any(report.failures for report in reports))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("campaign", choices=[*CAMPAIGNS, "all"])
    parser.add_argument("--trials", type=int, help="of each campaign; by default all there are, or a hundred")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="what is broken, of sweep, trace, power, protocol")
    parser.add_argument("--once", action="store_true", help="no second fault in recovery, of sweep")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--folder", type=Path, help="for the run folders, instead of the temporary one")
    one = parser.add_argument_group("one trial again")
    one.add_argument("--kinds", nargs="+", help="of fault: kill, torn, full, io, interrupt, terminate")
    one.add_argument("--at", type=int, help="number of the call, or of the trial")
    one.add_argument("--second", type=float, help="where the recovery is killed, a share of its calls")
    one.add_argument("--losses", nargs="+", choices=power.LOSSES, default=power.LOSSES, help="of a power cut")
    one.add_argument("--processes", type=int, nargs="+", default=[2, 8], help="in a race")
    one.add_argument("--only", help="store that is damaged, or bug that is planted")
    return parser


def _kinds(arguments: argparse.Namespace, known: tuple[Kind, ...]) -> list[Kind]:
    return [kind for kind in known if kind in (arguments.kinds or known)]


def _parts(lab: Lab, arguments: argparse.Namespace, usual: tuple[str, ...]) -> list[Part]:
    return [part(lab, name) for name in arguments.parts or usual]


def _sweep(lab: Lab, arguments: argparse.Namespace) -> Iterator[Report]:
    parts = _parts(lab, arguments, OF_A_RUN)
    for kind, broken in product(_kinds(arguments, tuple(sweep.EXIT_CODES)), parts):
        if arguments.at is not None:
            trial = sweep.Broken(Fault(kind, arguments.at), arguments.second)
            yield sweep.campaign(broken, kind, [trial]).run(lab)
            continue
        for twice in (False,) if arguments.once else (False, True):
            yield sweep.sweep(broken, kind, count=arguments.trials, seed=arguments.seed, twice=twice).run(lab)


def _random(lab: Lab, arguments: argparse.Namespace) -> Iterator[Report]:
    for kind in _kinds(arguments, moments.KINDS):
        count = arguments.trials or RANDOM_TRIALS
        yield moments.random_signals(lab, kind, count=count, seed=arguments.seed).run(lab)


def _trace(lab: Lab, arguments: argparse.Namespace) -> Iterator[Report]:
    if not tracing.has_strace():
        yield Report("faults in system calls", 0, [], "left out: there is no strace")
        return
    parts = _parts(lab, arguments, ("write-back", "checkpoint"))
    for kind, broken in product(_kinds(arguments, tuple(tracing.INJECTED)), parts):
        if arguments.at is not None:
            yield tracing.campaign(broken, kind, [tracing.Injected(kind, arguments.at)]).run(lab)
        else:
            yield tracing.injections(broken, kind, count=arguments.trials, seed=arguments.seed).run(lab)


def _again(lab: Lab, arguments: argparse.Namespace) -> Iterator[Report]:
    for kind in _kinds(arguments, again.KINDS):
        numbers = None if arguments.at is None else [arguments.at]
        count = arguments.trials or RANDOM_TRIALS
        yield again.second_signals(lab, kind, count=count, seed=arguments.seed, only=numbers).run(lab)


def _power(lab: Lab, arguments: argparse.Namespace) -> Iterator[Report]:
    for broken in _parts(lab, arguments, OF_A_RUN):
        if arguments.at is not None:
            cuts = [power.Cut(arguments.at, loss, arguments.seed) for loss in arguments.losses]
            yield power.campaign(broken, cuts).run(lab)
        else:
            losses = tuple(arguments.losses)
            yield power.power_cuts(broken, losses, count=arguments.trials, seed=arguments.seed).run(lab)


def _protocol(lab: Lab, arguments: argparse.Namespace) -> Iterator[Report]:
    for broken in _parts(lab, arguments, ("run", "gc", "repair")):
        yield power.protocol(broken)


def _race(lab: Lab, arguments: argparse.Namespace) -> Iterator[Report]:
    yield races.races(lab, processes=tuple(arguments.processes), at=arguments.at).run(lab)


def _other(lab: Lab) -> Path:
    """A run of another seed."""
    other = lab.bench.place()
    write_config(other, lab.source, "seed=1")
    lab.bench.run(other)
    return other


def _corrupt(lab: Lab, arguments: argparse.Namespace) -> Iterator[Report]:
    yield from corruption(
        lab.whole, _other(lab), count=arguments.trials, seed=arguments.seed, only=arguments.only or ""
    )


def _repair(lab: Lab, arguments: argparse.Namespace) -> Iterator[Report]:
    count = arguments.trials or REPAIRS
    yield repairs(lab, _other(lab), count=count, seed=arguments.seed, only=arguments.at).run(lab)


def _plant(lab: Lab, arguments: argparse.Namespace) -> Iterator[Report]:
    yield planted([bug for bug in BUGS if arguments.only in (None, bug.name)])


CAMPAIGNS = {
    "sweep": _sweep,
    "random": _random,
    "trace": _trace,
    "again": _again,
    "power": _power,
    "protocol": _protocol,
    "race": _race,
    "corrupt": _corrupt,
    "repair": _repair,
    "plant": _plant,
}

if __name__ == "__main__":
    sys.exit(main())
