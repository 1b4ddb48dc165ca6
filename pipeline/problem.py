"""What is trained by SGD, said in full: a stage, the network end to end, or a probe."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from cascade import Head, StageShape
from pipeline.config import Compress, HeadSection, Train
from pipeline.initial import draw_weights, make_identity
from pipeline.keys import Fields, key_of
from pipeline.microbatch import parts_of
from pipeline.networks import load_head, new_block, new_head_like
from pipeline.runfolder import RunFolder
from pipeline.stage_folder import StageFolder


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Blocks in sequence and a head, trained together on x_j. A stage's are theta_j and gamma_j."""

    what: str
    """In messages, as in "stage 3"."""
    j: int
    """Of the x_j that is read, in the order and with the augmentation of stage j."""
    blocks: range
    """The blocks that are trained: of a stage one, of a probe none."""
    shape: StageShape
    """Of what the head is on, in the words of the last block: its output, and the head's width; after a compression."""
    head: HeadSection
    """Its hidden layers and pooling; the width is the shape's."""
    head_of: int
    """The stage whose draws the head's initial weights are."""
    train: Train
    fields: Fields
    """Everything that determines the result."""
    folder: StageFolder
    """Where that is kept."""
    section: str
    """Of the config, where its own learning rate is set, as in "stages.3"."""
    compress: Compress | None = None
    """Where filters of its one block are cut off after the training, and the head is tuned to the rest."""
    from_identity: bool = False
    """Whether its one block begins as the identity, and the head as that of the stage before (Prop. 3.1)."""
    writes: bool = False
    """Whether the device also encodes and writes what the last block makes."""

    @property
    def key(self) -> str:
        """Hash of `fields`."""
        return key_of(self.fields)

    @property
    def epochs(self) -> int:
        """Of the training, and of the tuning after a compression."""
        return self.train.epochs + (self.compress.epochs if self.compress else 0)

    def modules(self, run: RunFolder) -> tuple[nn.Module, Head]:
        """Blocks, as one module, and head with their initial weights."""
        blocks, head = self.new_modules(run)
        seed, none = run.config.seed, nn.Identity()
        for i, block in zip(self.blocks, blocks, strict=True):
            draw_weights(seed, i, block, none)
        draw_weights(seed, self.head_of, none, head)
        if self.from_identity:
            make_identity(blocks[0])
            head.load_state_dict(load_head(run, self.j - 1).state_dict())
        return joined(blocks), head

    def new_modules(self, run: RunFolder) -> tuple[list[nn.Module], Head]:
        """Each block, and the head, not trained, and the filters there that compression will cut off."""
        cuts = self.compress is not None
        blocks: list[nn.Module] = [new_block(run, i, before_cut=cuts) for i in self.blocks]
        return blocks, new_head_like(run, self.shape.before_cut, self.head)

    def micro_batches(self, run: RunFolder) -> list[int]:
        """Sizes that a batch may be taken in, the largest first."""
        return parts_of(self.train.batch_size, run.config.network, self.head)


def stage_problem(run: RunFolder, j: int) -> Problem:
    """theta_j and gamma_j on x_j."""
    config = run.config.for_stage(j)
    return Problem(
        what=f"stage {j}",
        j=j,
        blocks=range(j, j + 1),
        shape=run.shapes[j],
        head=config.head,
        head_of=j,
        train=config.train,
        fields=run.fields[j],
        folder=run.stages[j],
        section=f"stages.{j}",
        from_identity=j > 0 and config.train.start == "identity",
        compress=config.compress if run.shapes[j].cut_from is not None else None,
        writes=True,
    )


def joined(blocks: Sequence[nn.Module]) -> nn.Module:
    """Blocks as one module: one alone as it is."""
    return blocks[0] if len(blocks) == 1 else nn.Sequential(*blocks)


def parts_of_blocks(block: nn.Module) -> list[nn.Module]:
    """The blocks of what `joined` gave."""
    return list(block) if isinstance(block, nn.Sequential) else [block]
