"""Work on many chunks in threads, a few of them at a time: a future for each of 500,000 takes a gigabyte."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

AT_A_TIME = 256
"""Handed to the threads together."""

T = TypeVar("T")
R = TypeVar("R")


def in_threads(pool: ThreadPoolExecutor, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """What `work` gives for each of the items, in their order; the first error of it comes out in its turn."""
    left = iter(items)
    while some := list(islice(left, AT_A_TIME)):
        yield from pool.map(work, some)
