"""Whether a store follows from its parent, by a few of its chunks."""

from collections.abc import Callable
from dataclasses import replace

import torch

from cache import StoreError, gives_chunk
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
    remedy = f"delete it and {run.command(f'train-stage --j {index - 1}' if index else 'ingest')}"
    damage = [Damage(f"{checked.what}/{name}", "it does not follow from its parent", remedy) for name in differing]
    return replace(checked, recomputed=len(sample), damage=damage, note=note)
