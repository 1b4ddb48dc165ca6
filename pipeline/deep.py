"""Whether a store follows from its parent, by a few of its chunks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cache import Store, StoreError, gives_chunk
from pipeline.checked import Checked, Damage
from pipeline.draws import Purpose, permutation
from pipeline.errors import CascadeError, first_line
from pipeline.recompute import other_machine, parent_of, recomputed_chunks
from pipeline.runfolder import RunFolder

DEEP_CHUNKS = 4
"""Of each store, computed again by `verify --deep`."""


def compute_again(
    run: RunFolder, index: int, split: str, checked: Checked, device: torch.device, should_stop: Callable[[], bool]
) -> Checked:
    """Compute a few chunks of a sound store again from its parent."""
    try:
        store = run.open_store(index, split)
        anchor = run.nearest(index - 1, run.is_stored)
        parent = parent_of(run, index, device, anchor=anchor, should_stop=should_stop)
        remedy = f"delete it and {run.command(f'train-stage --j {index - 1}' if index else 'ingest')}"
        if foreign := _foreign_small_arrays(store, parent.small_arrays(split)):  # by which the images would be found
            return replace(checked, damage=_not_following(checked.what, foreign, remedy))
        order = permutation(len(store.manifest.arrays["x"]), run.config.seed, Purpose.VERIFY, index)
        sample = sorted(order[:DEEP_CHUNKS].tolist())
        differing = [
            store.manifest.chunk_name("x", number)
            for number, numbers in recomputed_chunks(run, parent, store, split, sample)
            if not gives_chunk(store.manifest, "x", number, numbers, store.codec)
        ]
    except (CascadeError, StoreError, OSError) as error:
        return replace(checked, note=f"not computed again: {first_line(error)}")
    note = other_machine(run, store.attributes.get("machines", []), device)
    if note and differing:
        note = f"{len(differing)} of {len(sample)} chunks computed again differ: {note}"
        differing = []
    damage = _not_following(checked.what, differing, remedy)
    return replace(checked, recomputed=len(sample), damage=damage, note=note)


def _foreign_small_arrays(store: Store, expected: Mapping[str, NDArray[Any]]) -> list[str]:
    """The files of labels, sample ids and scale that are not the parent's; on any machine they would be."""
    found: dict[str, NDArray[Any]] = {"y": store.y, "sample_id": store.sample_id, "scale": store.scale}
    foreign = [name for name, values in expected.items() if not np.array_equal(found[name], values)]
    return [store.manifest.chunk_name(name, 0) for name in foreign]


def _not_following(what: str, names: Sequence[str], remedy: str) -> list[Damage]:
    return [Damage(f"{what}/{name}", "it does not follow from its parent", remedy) for name in names]
