from collections.abc import Generator

import numpy as np
import pytest
import torch

from cache import Batch
from pipeline.transfer import Upload, _say_not_pinned, batches_held, download, host_buffer, to_device

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"))]


@pytest.mark.parametrize("name", DEVICES)
def test_samples_arrive_in_order_though_their_buffers_are_written_to_again(name: str) -> None:
    device = torch.device(name)
    upload = Upload(device)
    slots = batches_held(device)
    ring = host_buffer(slots * 1000, device).reshape(slots, 1000)

    def batches() -> Generator[Batch, None, None]:
        for number in range(50):
            ring[number % slots] = number  # allowed once as many more were asked for as are held
            yield Batch(ring[number % slots], np.full(1, number), np.zeros(1, np.int64))

    arrived = [(int(stored.x.max()), int(stored.x.min()), int(stored.rows[0])) for stored in upload.batches(batches())]
    assert arrived == [(number, number, number) for number in range(50)]


@pytest.mark.parametrize("name", DEVICES)
def test_results_come_back_in_order_in_memory_of_their_own(name: str) -> None:
    results = list(download(torch.full((3, 2), number, device=name) for number in range(20)))
    assert [result.tolist() for result in results] == [[[number] * 2] * 3 for number in range(20)]


@pytest.mark.parametrize("name", DEVICES)
def test_small_arrays_are_taken_to_the_device(name: str) -> None:
    tensor = to_device(np.arange(5), torch.device(name))
    assert tensor.device.type == name
    assert tensor.tolist() == [0, 1, 2, 3, 4]


def test_memory_that_cuda_does_not_pin_is_used_and_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        def cudaHostRegister(self, *_: int) -> int:
            return 2

    monkeypatch.setattr(torch.cuda, "cudart", Refusing)
    _say_not_pinned.cache_clear()
    with pytest.warns(UserWarning, match="cudaHostRegister gives error 2") as said:
        buffers = [host_buffer(1000, torch.device("cuda")) for _ in range(2)]
    assert len(said) == 1
    assert [len(buffer) for buffer in buffers] == [1000, 1000]
