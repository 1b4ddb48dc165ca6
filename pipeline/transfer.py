"""Between host and device: copies that go on beside the computation.

On CUDA, batches are copied from pinned memory on a stream of their own, some ahead of the step that takes them, and
results come back the same way. On a CPU there is nothing to copy.
"""

import time
import warnings
import weakref
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cache import Batch, Indices, aligned_buffer

AHEAD = 1
"""Copies under way beyond the batch that is computed on."""


class Stored(NamedTuple):
    """Samples on the device as they are stored, with where they came from."""

    x: Tensor
    """(N, *stored shape); on a CPU valid until the next one is asked for."""
    rows: Indices
    views: Indices


def to_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """A small array on the device, without making the host wait for it."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def host_buffer(nbytes: int, device: torch.device) -> NDArray[np.uint8]:
    """Bytes on the host that the device copies from at full speed; where CUDA does not pin them, slowly, with a
    warning."""
    buffer = aligned_buffer(nbytes)
    if device.type == "cuda":  # torch's own pinned memory comes in powers of two, and is not given back
        cudart: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
        address = buffer.ctypes.data
        if fault := int(cudart.cudaHostRegister(address, nbytes, 0)):
            _say_not_pinned(fault)
        else:
            weakref.finalize(buffer, cudart.cudaHostUnregister, address)
    return buffer


@cache  # once is enough
def _say_not_pinned(fault: int) -> None:
    warnings.warn(
        f"CUDA does not pin host memory (cudaHostRegister gives error {fault}): copies to the device are slower, and "
        f"the host waits for them; next: raise the limit on locked memory, `ulimit -l`",
        stacklevel=3,
    )


def batches_held(device: torch.device) -> int:
    """Batches that a reader leaves alone while they are copied to the device."""
    return AHEAD + 2 if device.type == "cuda" else 1


class Upload:
    """Takes a reader's batches to the device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.hold = batches_held(device)
        self.waited = 0.0
        """Seconds that the host waited for copies."""
        self._stream = _stream(device) if device.type == "cuda" else None

    def batches(self, batches: Generator[Batch, None, None]) -> Iterator[Stored]:
        """The same samples on the device, in the same order."""
        if self._stream is None:
            for batch in batches:
                yield Stored(torch.from_numpy(batch.x).to(self.device), batch.rows, batch.views)
            return
        under_way: deque[tuple[Stored, torch.cuda.Event]] = deque()
        copied: deque[torch.cuda.Event] = deque()
        try:
            for batch in batches:
                under_way.append(self._copy(batch, self._stream))
                copied.append(under_way[-1][1])
                if len(copied) == self.hold:  # the reader writes over the oldest when it is asked again
                    self._wait(copied.popleft())
                if len(under_way) > AHEAD:
                    yield self._arrived(*under_way.popleft())
            while under_way:
                yield self._arrived(*under_way.popleft())
        finally:  # whoever reads into the ring next finds no copy still reading from it
            for done in copied:
                self._wait(done)
            batches.close()

    def _wait(self, done: torch.cuda.Event) -> None:
        began = time.perf_counter()
        done.synchronize()
        self.waited += time.perf_counter() - began

    def _copy(self, batch: Batch, stream: torch.cuda.Stream) -> tuple[Stored, torch.cuda.Event]:
        with torch.cuda.stream(stream):
            x = torch.from_numpy(batch.x).to(self.device, non_blocking=True)
            done = _event(stream)
        return Stored(x, batch.rows, batch.views), done

    def _arrived(self, stored: Stored, done: torch.cuda.Event) -> Stored:
        """Make the device's computation, not the host, wait for the copy."""
        stream = torch.cuda.current_stream(self.device)
        stream.wait_event(done)
        stored.x.record_stream(stream)
        return stored


def download(results: Iterable[Tensor]) -> Iterator[NDArray[Any]]:
    """Results as arrays on the host, in the same order, each of its own memory.

    On CUDA some are computed ahead, while the copies of earlier ones go on beside.
    """
    under_way: deque[tuple[Tensor, torch.cuda.Event]] = deque()
    stream: torch.cuda.Stream | None = None
    for result in results:
        if result.device.type != "cuda":
            yield result.cpu().numpy()
            continue
        stream = stream or _stream(result.device)
        stream.wait_stream(torch.cuda.current_stream(result.device))
        with torch.cuda.stream(stream):
            host = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
            host.copy_(result, non_blocking=True)
            result.record_stream(stream)
            under_way.append((host, _event(stream)))
        if len(under_way) > AHEAD:
            yield _landed(*under_way.popleft())
    while under_way:
        yield _landed(*under_way.popleft())


def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _event(stream: torch.cuda.Stream) -> torch.cuda.Event:
    """Happens when the stream is done with what it was given so far."""
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record(stream)
    return event


def _landed(host: Tensor, done: torch.cuda.Event) -> NDArray[Any]:
    done.synchronize()
    array: NDArray[Any] = host.numpy()
    return array
