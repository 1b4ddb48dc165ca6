"""Contenders timed against each other in interleaved rounds.

A shared machine drifts by tens of percent within a minute. So each round runs every contender once, one after the
other, and contenders are compared by the median over the rounds of their ratio within a round; the best rate of all
rounds is printed beside it.
"""

import gc
import math
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Generic, TypeVar

Case = TypeVar("Case")
Progress = Generator[int, None, None]
"""Yields 0 when it is set up, which starts the clock, then how many more samples it is through with."""
Rates = dict[str, list[float]]
"""Contender -> samples a second in each round."""


@dataclass(frozen=True)
class Contender(Generic[Case]):
    """One way to do the work that is measured."""

    name: str
    run: Callable[[Case], Progress]
    limit_seconds: float = math.inf
    """After which a slow one is stopped: its rate is that of what it did until then."""


def rate(contender: Contender[Case], case: Case) -> float:
    """Samples a second of one run."""
    progress = contender.run(case)
    try:
        next(progress)
        start, samples, seconds = time.perf_counter(), 0, 0.0
        for count in progress:
            samples += count
            seconds = time.perf_counter() - start
            if seconds > contender.limit_seconds:
                return samples / seconds
        return samples / (time.perf_counter() - start)
    finally:
        progress.close()


def interleaved(
    contenders: Sequence[Contender[Case]], case: Case, repeat: int, before: Callable[[Case], None]
) -> Rates:
    """Rates of `repeat` rounds; the first contender follows the last.

    `before` puts files and caches in the state that each run is to find, untimed.
    """
    rates: Rates = {contender.name: [] for contender in contenders}
    for _ in range(repeat):
        for contender in contenders:
            gc.collect()  # worker processes and mappings that the one before left
            before(case)
            rates[contender.name].append(rate(contender, case))
    return rates


def ratio(rates: Rates, name: str, others: Sequence[str]) -> float:
    """How many times as fast `name` is as the best of `others`: the median over the rounds."""
    best = [max(rest) for rest in zip(*(rates[other] for other in others), strict=True)]
    return float(median(own / rest for own, rest in zip(rates[name], best, strict=True)))


def rate_rows(rates: Rates, sample_bytes: int, reference: str) -> list[list[str]]:
    """Rows under `rate_header`: the best rate, and the median ratio to `reference`."""
    return [
        [name, f"{max(all_):,.0f}", f"{max(all_) * sample_bytes / 1e9:.2f}", f"{ratio(rates, name, [reference]):.2f}"]
        for name, all_ in rates.items()
    ]


def rate_header(reference: str) -> list[str]:
    """Header of `rate_rows`."""
    return ["", "samples/s", "GB/s", f"x {reference}"]
