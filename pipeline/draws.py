"""Randomness as a pure function: whoever asks for the same draw gets the same number, in any order, on any machine.

Every draw is a hash of (seed, purpose, indices): SplitMix64 (Steele, Lea, Flood 2014) over the words in turn. So the
state of a training is (stage, epoch), nothing else, and no library's generator can change a result by a new release.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Purpose(IntEnum):
    """What a draw is for: two purposes never share a number."""

    INGEST_ORDER = 1
    HOLD_OUT = 2
    WEIGHTS = 3
    RUN_ORDER = 4
    SAMPLE_ORDER = 5
    RUN_VIEW = 6
    FRESH_AUGMENTATION = 7
    STORED_VIEW = 8
    CANVAS_WINDOW = 9
    VERIFY = 10
    TRANSFER_SPLIT = 11


def draw(seed: int, purpose: Purpose, *indices: ArrayLike) -> NDArray[np.uint64]:
    """Uniform 64-bit numbers, one for each combination of the indices, which broadcast against each other."""
    state = _mix(np.asarray(seed, np.uint64))
    for word in (int(purpose), *indices):
        state = _mix(state ^ np.asarray(word).astype(np.uint64))
    return state


def below(bound: int | NDArray[np.int64], numbers: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Map 64-bit draws to 0..bound-1, evenly to within bound / 2^32; each by a bound of its own, where there are
    several."""
    return ((numbers >> np.uint64(32)) * np.asarray(bound, np.uint64) >> np.uint64(32)).astype(np.int64)


def unit(numbers: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Map 64-bit draws to the multiples of 2^-53 from 0 to 1, which is left out, evenly."""
    return (numbers >> np.uint64(11)).astype(np.float64) * 2.0**-53


def symmetric(numbers: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Map 64-bit draws to the odd multiples of 2^-24 between -1 and 1, evenly; each is exact in float32 too."""
    odd = 2 * (numbers >> np.uint64(40)).astype(np.int64) + (1 - 2**24)
    return odd * np.float64(2.0**-24)


def permutation(n: int, seed: int, purpose: Purpose, *indices: int) -> NDArray[np.int64]:
    """A permutation of 0..n-1."""
    return np.argsort(draw(seed, purpose, *indices, np.arange(n)), kind="stable")


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        x = np.atleast_1d(x) + _GOLDEN
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
