"""Which stores are to be written, which will be read again, and under cache.keep = "needed" the end of the others."""

from pathlib import Path

from cache import read_back, remove_folder, sweep_removed, sync
from pipeline.disk import folder_bytes
from pipeline.progress import Reporter, size
from pipeline.runfolder import RunFolder


def output_is_due(run: RunFolder, j: int, *, asked_for: bool = False) -> bool:
    """Whether x_{j+1} is to be kept, is not there, and something may still read it, or it is asked for.

    Nothing reads it once stage j+1, or under augment.cut_at = j+1 the last stage, is trained: a store that was deleted
    then is made again only when asked for.
    """
    if not run.config.keeps(j + 1) or run.is_stored(j + 1):
        return False
    readers = [i for i in range(j + 1, len(run.stages)) if run.config.augment.last_anchor(i) == j + 1]
    return asked_for or not readers or any(run.stages[i].record is None for i in readers)


def is_needed(run: RunFolder, index: int) -> bool:
    """Whether something will still read x_index, index >= 1: a stage to train, or an x_j to write.

    Each reads the nearest store that is there or will be. x_J is stored on request alone, for whoever asked.
    """
    if index == len(run.stages):
        return True
    if index in run.drops:
        return False

    def there(i: int) -> bool:
        return (run.is_stored(i) and i not in run.drops) or output_is_due(run, i - 1)

    unfinished = (j for j in range(index, len(run.stages)) if run.stages[j].record is None or output_is_due(run, j))
    return any(run.nearest(j, there) == index for j in unfinished)


def own_stores(run: RunFolder, index: int) -> list[Path]:
    """The stores of x_index, whole or not, that this config alone reads.

    Stores of validation and test samples say nothing of views: other policies read them too, while their training
    samples lie beside them.
    """
    if run.config.augment.last_anchor(index) < index:
        return []
    own, others = run.store(index, "train"), run.stages[index - 1].outputs_of_other_policies()
    stores = [run.store(index, split) for split in run.splits]
    return [store for store in stores if store.is_dir() and (store == own or not others)]


def free_stores(run: RunFolder, report: Reporter) -> None:
    """Delete every x_i, i >= 1, that nothing will read again, one after the other; of a plan that keeps all its stores
    only those that it has no room for.

    Where x_{i+1} is there to be read instead, every chunk of it is read back from the disk and verified first. An
    interruption leaves a store whole or gone, and the next call deletes what is left of it.

    Raises CorruptStoreError where x_{i+1} is damaged, CorruptDataError where x_i lies behind a link; x_i is then still
    there.
    """
    for index in range(1, len(run.stages)):
        run.check_stores_unlinked(index)
        sweep_removed(run.store(index, "train").parent)
        stores = own_stores(run, index)
        if not stores or run.is_stand_in(index - 1) or not (run.frees or index in run.drops) or is_needed(run, index):
            continue
        read_back_successor(run, index)
        nbytes = sum(map(folder_bytes, stores))
        for store in stores:
            remove_folder(store)
        why = "the plan has no room for it" if index in run.drops else "nothing will read it again"
        report.say(f"x_{index} deleted, {size(nbytes)} freed: {why}")


def read_back_successor(run: RunFolder, index: int) -> None:
    """Read x_{index+1} of every split back, if it is stored. Raises CorruptStoreError."""
    if run.is_stored(index + 1):
        for split in run.splits:
            store = run.store(index + 1, split)
            sync(store)  # who committed it may have been killed before the name of its manifest was durable
            read_back(store, threads=run.config.machine.threads)
