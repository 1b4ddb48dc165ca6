"""What tensors take of a device's memory, counted as they come and go; on fake tensors, which take none.

A program, as a training step, is run on fake tensors at two sizes of its batch. All that it allocates is a constant
and a multiple of the batch, in the same order at both; so the two say what any other size takes, at every moment. Where
the order changes with the size, a run at one says what that one takes.
"""

import weakref
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ROUNDING = 512
"""Bytes that torch's CUDA allocator rounds every allocation up to."""
SIZES = (32, 64)
"""Batches that programs are run at."""
UNNAMED = "activations"
"""What lives and was given no name: activations, and what kernels make on the way."""

Name = Callable[[str, Iterable[Tensor]], None]
"""Says what tensors are."""
Program = Callable[[torch.device, int, Name], None]
"""Runs on a device on a batch of so many samples, and names tensors."""


@dataclass(frozen=True)
class Memory:
    """What a program takes, as a function of its batch."""

    storage: NDArray[np.int64]
    """The storage of each moment, by number, (moments,)."""
    sign: NDArray[np.int64]
    """1 where it comes, -1 where it goes, (moments,)."""
    constant: NDArray[np.float64]
    """Bytes of each storage that do not depend on the batch, (storages,)."""
    per_sample: NDArray[np.float64]
    """Bytes of each storage for each sample, (storages,)."""
    names: tuple[str, ...]
    """What each storage is."""

    def peak(self, samples: int, *, without: Collection[str] = ()) -> int:
        """Bytes at the worst moment, not counting what is named in `without`."""
        return int(self._alive(samples, without).max(initial=0))

    def parts(self, samples: int) -> dict[str, int]:
        """Bytes at the worst moment, by name."""
        alive, sizes = self._alive(samples), self._sizes(samples)
        worst = int(alive.argmax()) + 1 if len(alive) else 0
        held: dict[str, int] = {}
        for storage, sign in zip(self.storage[:worst].tolist(), self.sign[:worst].tolist(), strict=True):
            name = self.names[storage]
            held[name] = held.get(name, 0) + sign * int(sizes[storage])
        return held

    def total(self, name: str) -> int:
        """Bytes of all storages of a name, which do not depend on the batch."""
        return sum(int(size) for size, own in zip(self._sizes(0), self.names, strict=True) if own == name)

    def _sizes(self, samples: int) -> NDArray[np.float64]:
        return np.ceil(np.round(self.constant + samples * self.per_sample) / ROUNDING) * ROUNDING

    def _alive(self, samples: int, without: Collection[str] = ()) -> NDArray[np.float64]:
        counted = np.array([name not in without for name in self.names], bool)
        alive: NDArray[np.float64] = np.cumsum(self.sign * (self._sizes(samples) * counted)[self.storage])
        return alive


class Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps record of storages: when each comes and goes, its bytes, and what it was named."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.moments: list[tuple[int, int]] = []
        """Number of a storage, and 1 or -1."""
        self.nbytes: list[int] = []
        """Of each storage."""
        self.names: list[str] = []
        """Of each storage."""
        self._alive: dict[int, int] = {}

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._alive.clear()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._count(value.untyped_storage())
        return result

    def name(self, name: str, tensors: Iterable[Tensor]) -> None:
        """Say what tensors are; those that came before the ledger are not in it."""
        for tensor in tensors:
            number = self._alive.get(tensor.untyped_storage()._cdata)
            if number is not None:
                self.names[number] = name

    def _count(self, storage: torch.UntypedStorage) -> None:
        address = storage._cdata
        if address in self._alive:
            return
        number = self._alive[address] = len(self.nbytes)
        self.nbytes.append(storage.nbytes())
        self.names.append(UNNAMED)
        self.moments.append((number, 1))
        weakref.finalize(storage, self._gone, address).atexit = False

    def _gone(self, address: int) -> None:
        number = self._alive.pop(address, None)
        if number is not None:  # else the record was closed
            self.moments.append((number, -1))


def memory_of(make: Callable[[], Program]) -> Memory:
    """What a program takes, from two runs of it on fake tensors; each is made before, with modules on "meta".

    Raises ValueError where what it does depends on the size of its batch.
    """
    small, large = (_run(make(), samples) for samples in SIZES)
    order = _sorted(small.moments)
    if order != _sorted(large.moments):
        raise ValueError("the program allocates in another order when its batch is larger")
    sizes = [np.array(ledger.nbytes, np.float64) for ledger in (small, large)]
    per_sample = (sizes[1] - sizes[0]) / (SIZES[1] - SIZES[0])
    moments = np.array(order, np.int64).reshape(-1, 2)
    return Memory(moments[:, 0], moments[:, 1], sizes[0] - SIZES[0] * per_sample, per_sample, tuple(small.names))


def memory_at(program: Program, samples: int) -> Memory:
    """What a program takes at one size of its batch, and no other: what it does may depend on that."""
    ledger = _run(program, samples)
    moments, sizes = np.array(ledger.moments, np.int64).reshape(-1, 2), np.array(ledger.nbytes, np.float64)
    return Memory(moments[:, 0], moments[:, 1], sizes, np.zeros_like(sizes), tuple(ledger.names))


def _sorted(moments: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same, of storages that go together the first first: autocast drops its weights in an order of its own."""
    return [
        moment
        for sign, together in groupby(moments, key=itemgetter(1))
        for moment in (sorted(together) if sign < 0 else together)
    ]


def _run(program: Program, samples: int) -> Ledger:
    """One run. Fake tensors are the CPU's: torch has no backward pass for a fake CUDA tensor where there is no GPU.

    Of what the project's modules call, autocast gives the same types on both.
    """
    ledger = Ledger()
    with FakeTensorMode(allow_non_fake_inputs=True), ledger:
        program(torch.device("cpu"), samples, ledger.name)
    return ledger
