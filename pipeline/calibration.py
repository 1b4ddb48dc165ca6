"""The scale of x_{j+1}: taken from the trained block when its stage ends, and kept beside the output."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from cascade import calibrate, fidelity
from pipeline.device import place
from pipeline.feed import Feed
from pipeline.networks import EncodingRecord, load_block, new_quantiser
from pipeline.runfolder import RunFolder
from pipeline.sealed import write_sealed
from pipeline.stopping import never

SAMPLES = 1024
"""Training samples that a scale is taken from; what it costs is measured on as many others."""


def calibrate_output(
    run: RunFolder, j: int, device: torch.device, *, should_stop: Callable[[], bool] = never
) -> EncodingRecord:
    """Take the scale of x_{j+1} in the config's encoding, measure what the encoding costs, and keep both.

    The samples come from x_0 in the test-time window, through the whole prefix: so the scale does not depend on what
    is stored. Under "canvas" what lies outside that window is stored too, and saturates where it is larger. With less
    than two times SAMPLES training samples the cost is measured on those that the scale is from.
    """
    feed = Feed(run, j, device, anchor=0, streamed=True, sequential_only=True, should_stop=should_stop)
    block = load_block(run, j)
    place(block, device)
    quantiser = new_quantiser(run, j).to(device)

    def x_next(first: int, stop: int) -> Iterator[Tensor]:
        """x_{j+1} of training samples first..stop-1, unrounded."""
        seen = 0
        for x, _ in feed.sequential("train", block, limit=stop):
            begin, seen = max(first - seen, 0), seen + len(x)
            if seen > first:
                yield x[begin:]

    calibrate(quantiser, lambda: x_next(0, SAMPLES))
    others = SAMPLES if run.info.samples["train"] >= 2 * SAMPLES else 0
    cost = fidelity(quantiser, x_next(others, others + SAMPLES))
    stage = run.stages[j].record
    assert stage is not None, "its block was loaded"
    record = EncodingRecord(
        encoding=quantiser.encoding,
        scale=quantiser.scale.tolist(),
        signal_to_noise_db=cost.signal_to_noise_db,
        saturated_share=cost.saturated_share,
        block=stage.content["block"],
    )
    write_sealed(run.stages[j].scale, record)
    return record


def scale_is_due(run: RunFolder, j: int) -> bool:
    """Whether the scale of x_{j+1} is not known yet, and something may read x_{j+1}."""
    is_read = j + 1 < len(run.stages) or run.config.keeps(j + 1)
    return is_read and not run.stages[j].scale.exists()


def describe_encoding(record: EncodingRecord) -> str:
    """As in "uint8: 41.3 dB signal to noise, 0.002% saturated"."""
    ratio = record.signal_to_noise_db
    words = (
        "no error"
        if ratio is None
        else f"{ratio:.1f} dB signal to noise, {100 * record.saturated_share:.2g}% saturated"
    )
    return f"{record.encoding}: {words}"
