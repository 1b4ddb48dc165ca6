"""x_{j+1}, computed by the trained block and stored for the next stage."""

from cache import StoreWriter
from pipeline.device import place
from pipeline.feed import Feed
from pipeline.networks import load_block
from pipeline.progress import Reporter, size
from pipeline.runfolder import RunFolder, is_committed


def output_is_due(run: RunFolder, j: int, *, asked_for: bool = False) -> bool:
    """Whether x_{j+1} is to be kept, is not there, and something may still read it, or it is asked for.

    Nothing reads it once stage j+1 is trained: a store that was deleted then is made again only when asked for.
    """
    if not run.config.keeps(j + 1) or run.is_stored(j + 1):
        return False
    return asked_for or j + 1 == len(run.stages) or run.stages[j + 1].record is None


def write_output(run: RunFolder, j: int, feed: Feed, report: Reporter) -> None:
    """Write x_{j+1} of every split that is not committed yet: all views of train, one of the others.

    The block runs in evaluation mode over whole runs of samples in stored order, and its output is encoded on the
    device.
    """
    folder, shape, config = run.stages[j], run.shapes[j], run.config.for_stage(j)
    block, quantiser = load_block(run, j)
    scale = quantiser.scale.numpy().copy()
    place(block, feed.device)
    quantiser.to(feed.device)
    for split in run.splits:
        path = folder.output(split)
        if is_committed(path):
            continue
        source = feed.store(split)
        views = config.augment.stored_views if split == "train" else 1
        done, total = 0, views * source.samples
        with (
            StoreWriter(
                path,
                views=views,
                samples=source.samples,
                sample_shape=shape.output,
                encoding=config.store.encoding,
                codec=config.store.codec,
                run=config.order.run,
                scale=scale,
                threads=config.machine.threads,
            ) as writer,
            report.task(f"stage {j} writes x_{j + 1} {split}", total) as task,
        ):
            for view in range(views):
                first = 0
                for stored, _ in feed.sequential(split, lambda x: quantiser.encode(block(x)), view=view):
                    writer.write(view, first, stored.contiguous().cpu().numpy())
                    first += len(stored)
                    done += len(stored)
                    task.update(done)
            writer.commit(
                y=source.y,
                sample_id=source.sample_id,
                attributes={"split": split, "index": j + 1, "rendering": config.augment.rendering, "key": folder.key},
            )
    written = sum(run.stored_bytes(j + 1, split) for split in run.splits)
    report.say(f"stage {j}  x_{j + 1} written: {size(written)} ({config.store.encoding}, {config.store.codec})")
