"""A config in words."""

from collections.abc import Sequence

import msgspec

from pipeline.config import Augment, Config, Train
from pipeline.runfolder import RunFolder
from pipeline.tables import count


def described(runs: Sequence[RunFolder]) -> list[tuple[str, str]]:
    """What was trained on what, and how: of runs that differ in their seeds alone."""
    run = runs[0]
    config = run.config
    return [
        ("Images", _images(run)),
        ("Blocks", _blocks(run)),
        ("Heads", _heads(run)),
        ("Training", _training(config.train, config.order.window) + _start_and_end(config.train)),
        *([("Compression", _compression(config, run))] if any(one.cut_from for one in run.shapes) else []),
        ("Augmentation", _augmentation(config.augment)),
        ("Rounding", f"x_j is stored, or replayed, as {config.store.encoding}."),
        *([("By stage", _overrides(config))] if config.stages else []),
        ("Seeds", _seeds(runs)),
    ]


def of_training(runs: Sequence[RunFolder]) -> str:
    """What the training accuracy of a stage is over, in words: of the last epoch's images, or of the best point's."""
    keeps = {run.config.for_stage(shape.j).train.keep for run in runs for shape in run.shapes}
    last, best = f"the {training_images(runs)} of its last epoch", "all training images at the point that is kept"
    if len(keeps) > 1:
        return f"{last}, or {best}"
    return best if "best" in keeps else last


def training_images(runs: Sequence[RunFolder]) -> str:
    """What epochs are trained on, in words."""
    augments = [run.config.augment for run in runs]
    is_any = any(one.is_random for one in augments)
    return f"{'augmented ' if is_any else ''}training images"


def source_name(run: RunFolder) -> str:
    """The address of the images, as it is read in a sentence."""
    return run.info.data.source.removesuffix(":")


def _images(run: RunFolder) -> str:
    info = run.info
    counts = ", ".join(f"{count:,} {split}" for split, count in info.samples.items())
    held_out = f"; {info.data.validation:.0%} of each training class held out" if info.data.validation else ""
    colours = "grey" if info.channels == 1 else "RGB"
    what = f"{colours}, {info.side} × {info.side} pixels, {len(info.classes)} classes"
    return f"From {source_name(run)}: {counts}{held_out}; {what}."


def _blocks(run: RunFolder) -> str:
    network, shapes = run.config.network, run.shapes
    channels = [shapes[0].out_channels, shapes[-1].out_channels]
    width = f"{channels[0]} channels" if channels[0] == channels[1] else f"{channels[0]} to {channels[1]} channels"
    at = [shape.j for shape in shapes if shape.downsample]
    down = f"{network.downsample} down-sampling at j = {', '.join(map(str, at))}" if at else "no down-sampling"
    norm = "batch norm" if network.batch_norm else "no batch norm"
    residual = ", the input added where a block keeps its shape" if network.residual else ""
    number = f"{count(len(shapes), 'block')} of one 3 × 3 convolution"
    return f"{number}, {width}, {down}, {norm}{residual}; precision {network.precision}."


def _heads(run: RunFolder) -> str:
    head, widths = run.config.head, sorted({shape.head_width for shape in run.shapes})
    if head.k == 1:
        return "k = 1: the 2 × 2 average and a linear layer alone."
    width = f"{widths[0]} channels" if len(widths) == 1 else f"{widths[0]} to {widths[-1]} channels"
    pool = f", averaged over {head.pool} × {head.pool} pixels before" if head.pool > 1 else ""
    return f"k = {head.k}: {count(head.k - 1, 'convolution')} of {width}{pool}, the 2 × 2 average and a linear layer."


def _training(train: Train, window: int) -> str:
    epochs = count(train.epochs, "epoch")
    drops = (
        f", times {train.lr_drop_factor:g} every {train.lr_drop_every} epochs"
        if train.lr_drop_every < train.epochs
        else ""
    )
    if train.schedule == "cosine":
        drops = ", falling to 0 by half a cosine"
    reset = ", forgotten at each drop" if train.reset_momentum and drops and train.schedule == "step" else ""
    smoothing = f", label smoothing {train.label_smoothing:g}" if train.label_smoothing else ""
    rate = f"learning rate {train.lr:g}{drops}, momentum {train.momentum:g}{reset}"
    return (
        f"Each stage for {epochs} by SGD in batches of {train.batch_size}, {rate}, "
        f"weight decay {train.weight_decay:g}{smoothing}; {window:,} samples mixed at a time."
    )


def _start_and_end(train: Train) -> str:
    """Where a stage starts and what is kept of it, where that is not as in the paper's code."""
    start = " Stages past the first start from the identity and the head before." if train.start == "identity" else ""
    return start + (" The point of least training risk is kept." if train.keep == "best" else "")


def _compression(config: Config, run: RunFolder) -> str:
    cut = [shape for shape in run.shapes if shape.cut_from is not None]
    kept = ", ".join(f"{shape.cut_from} → {shape.out_channels}" for shape in cut)
    compress = config.for_stage(cut[0].j).compress
    epochs = count(compress.epochs, "epoch")
    which = f"Filters of each block, by their Taylor criterion, from stage {cut[0].j} on: {kept}"
    return f"{which}; the head is then tuned for {epochs} at a learning rate of {compress.lr:g}."


def _augmentation(augment: Augment) -> str:
    steps = [
        *([f"{count(augment.padding, 'pixel')} of padding and a random crop"] if augment.padding else []),
        *([f"crops of {augment.crop} × {augment.crop}"] if augment.crop and not augment.scale else []),
        *([_resizing(augment)] if augment.scale else []),
        *(["flips"] if augment.flip else []),
        *([f"a square of {augment.cutout} × {augment.cutout} pixels cut out"] if augment.cutout else []),
    ]
    past = {
        "recompute": "stages past the first draw anew, through the prefix",
        "views": f"stages past the first see {augment.views} stored draws of each image",
        "canvas": "stages past the first cut windows from stored features of the padded image"
        + (" and its mirror image" if augment.flip else ""),
        "none": "stages past the first see one rendering of each image",
    }
    said = f"{', '.join(steps) or 'none of the images'}; {past[augment.policy]}."
    return said[0].upper() + said[1:]


def _resizing(augment: Augment) -> str:
    """As in "crops of 8% to 100% of the image, resized to 224 × 224"."""
    least, most = augment.scale
    to = f" to {augment.crop} × {augment.crop}" if augment.crop else ""
    return f"crops of {least:.0%} to {most:.0%} of the image, resized{to}"


def _overrides(config: Config) -> str:
    found = [
        f"stage {j}: {section}.{name} = {value}"
        for j, own in sorted(config.stages.items(), key=lambda item: int(item[0]))
        for section, values in msgspec.to_builtins(own).items()
        for name, value in values.items()
    ]
    return "; ".join(found) + "."


def _seeds(runs: Sequence[RunFolder]) -> str:
    """As in "0, 1 of weights, order and augmentation; 0 of the order of the data."."""
    of_training, of_data = (
        ", ".join(map(str, dict.fromkeys(seeds)))
        for seeds in ([run.config.seed for run in runs], [run.config.data.seed for run in runs])
    )
    return f"{of_training} of weights, order and augmentation; {of_data} of the order of the data."
