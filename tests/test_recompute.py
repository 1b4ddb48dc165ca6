"""Stored numbers, computed again: those that are stored."""

import numpy as np
import pytest

from cache import Store
from pipeline.recompute import other_machine, parent_of, recomputed_chunks
from pipeline.runfolder import RunFolder
from tests.trained import CPU, whole

__all__ = ["whole"]


@pytest.mark.parametrize(("index", "anchor"), [(0, 0), (1, 0), (2, 1), (2, 0)])
def test_every_chunk_and_small_array_of_every_store_comes_out_as_it_is_stored_from_any_anchor(
    whole: RunFolder, index: int, anchor: int
) -> None:
    parent = parent_of(whole, index, CPU, anchor=anchor)
    for split in whole.splits:
        store = Store(whole.store(index, split))
        chunks = range(store.views * store.chunks_per_view)
        assert [number for number, _ in recomputed_chunks(whole, parent, store, split, chunks)] == list(chunks)
        for number, numbers in recomputed_chunks(whole, parent, store, split, chunks):
            stored = np.empty((store.chunk_samples, *store.stored_shape), store.dtype)
            store.read_chunk(*divmod(number, store.chunks_per_view), stored)
            assert numbers.tobytes() == stored.tobytes()
        for name, values in parent.small_arrays(split).items():
            assert values.tolist() == getattr(store, name).tolist()


def test_what_differs_between_machines_is_named(whole: RunFolder) -> None:
    (here,) = Store(whole.store(1, "train")).attributes["machines"]
    assert other_machine(whole, [here], CPU) == ""
    assert other_machine(whole, [], CPU) == ""
    told = other_machine(whole, [here, {**here, "threads": 99}], CPU)
    assert told == "it was written on another machine or build: threads 99 -> 1"
