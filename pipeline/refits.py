"""The last auxiliary problem solved again with a head of another width: block and head, from fresh weights on x_{J-1}.

Such a refit is the last stage with one setting overridden. It lies beside it under its own key, is trained, resumed and
verified as a stage, and is known by differing in nothing but the width.
"""

from dataclasses import dataclass

import msgspec

from pipeline.branches import read_records
from pipeline.checkpoint import read_position
from pipeline.config import StageOverrides
from pipeline.errors import ConfigError
from pipeline.paths import matching
from pipeline.runfolder import RunFolder
from pipeline.stage_folder import StageFolder
from pipeline.weights import read_shapes

HEAD_WIDTH = "head.width"
"""The field by which a refit differs from the last stage."""
WIDE = "head.hidden.0.weight"
"""The tensor of a checkpoint whose first dimension the width is."""


@dataclass(frozen=True)
class Refit:
    """A refit that is trained, or has begun."""

    head_width: int
    """Channels of its head's hidden layers, M_final."""
    run: RunFolder
    """The run with it as the last stage."""

    @property
    def folder(self) -> StageFolder:
        """Where it is."""
        return self.run.stages[-1]


def with_last_head(run: RunFolder, width: int) -> RunFolder:
    """The run whose last stage has a head of `width` channels. Raises ConfigError where it can have none."""
    last = len(run.stages) - 1
    head, shape = run.config.for_stage(last).head, run.shapes[last]
    if head.k == 1:
        raise ConfigError(
            "head.k = 1: the head of the last stage is an average and a linear layer, which have no width\n"
            "next: a network whose head.k is 2 or more"
        )
    if run.config.for_stage(last).train.start == "identity":
        raise ConfigError(
            f'stages.{last}.train.start = "identity": the last stage begins with the head before it, which has another '
            f"width\nnext: --set stages.{last}.train.start=random"
        )
    factor = shape.head_width // head.width
    if width < 1 or width % factor:
        raise ConfigError(
            f"a last head of {width} channels: expected a multiple of {factor}, by which down-samplings multiply "
            f"head.width\nnext: {max(width // factor, 1) * factor} or {(width // factor + 1) * factor}"
        )
    own = run.config.stages.get(str(last), StageOverrides())
    own = msgspec.structs.replace(own, head={**own.head, "width": width // factor})
    config = msgspec.structs.replace(run.config, stages={**run.config.stages, str(last): own})
    return run.under(config, (*run.settings, f"stages.{last}.head.width={width // factor}"))


def find_refits(run: RunFolder) -> list[Refit]:
    """The refits of the last stage on the blocks of this run, by their width, and those that have only begun."""
    found = []
    for width in sorted(_widths(run)):
        try:
            seen = with_last_head(run, width)
        except ConfigError:  # of a width that the config, as it is now, cannot say
            continue
        folder = seen.stages[-1]
        if folder.key != run.stages[-1].key and (folder.record is not None or read_position(folder)):
            found.append(Refit(width, seen))
    return found


def _widths(run: RunFolder) -> set[int]:
    """Widths of last heads that there may be refits with."""
    last, own = len(run.stages) - 1, run.fields[-1]
    records = [record for record in read_records(run.path / "stages").values() if record.j == last]
    alike = (one.fields for one in records if one.fields | {HEAD_WIDTH: own[HEAD_WIDTH]} == own)
    trained = {fields[HEAD_WIDTH] for fields in alike if isinstance(fields.get(HEAD_WIDTH), int)}
    checkpoints = matching(run.path, f"stages/{last}-*/checkpoint*.safetensors")
    shapes = (read_shapes(path).get(WIDE, []) for path in checkpoints)
    return trained | {shape[0] for shape in shapes if shape}
