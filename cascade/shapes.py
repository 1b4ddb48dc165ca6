"""Shapes of every stage of a network, as arithmetic: nothing is allocated (Tables 3 and 4)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from cascade.downsample import Downsample
from cascade.heads import QUADRANTS


@dataclass(frozen=True, kw_only=True)
class StageShape:
    """What stage j reads and makes."""

    j: int
    """Index of the stage, from 0."""
    in_channels: int
    """Channels of x_j."""
    in_side: int
    """Height and width of x_j, in pixels."""
    out_channels: int
    """Channels of x_{j+1}."""
    out_side: int
    """Height and width of x_{j+1}, in pixels."""
    downsample: Downsample | None
    """P_j; None is the identity."""
    head_width: int
    """Channels of the hidden layers of gamma_j."""
    cut_from: int | None = None
    """Channels that the block is trained with before compression leaves `out_channels`; None where it cuts none."""
    residual: bool = False
    """Whether x_j is added to the block's output before its ReLU."""

    @property
    def output(self) -> tuple[int, int, int]:
        """(C, H, W) of x_{j+1}."""
        return (self.out_channels, self.out_side, self.out_side)

    @property
    def before_cut(self) -> "StageShape":
        """The stage as it is trained, before compression."""
        return self if self.cut_from is None else replace(self, out_channels=self.cut_from, cut_from=None)


def stage_shapes(
    *,
    stages: int,
    in_channels: int,
    in_side: int,
    width: int,
    head_width: int,
    downsample_at: Collection[int],
    downsample: Downsample = "invertible",
    head_pool: int = 1,
    residual: bool = False,
) -> list[StageShape]:
    """The shapes of all stages of a network on images of (in_channels, in_side, in_side).

    `width` is M, the width of block 0, and `head_width` the width of its head; both double at each
    down-sampling after block 0 (Sec. 4). A down-sampling at 0 is the one that the paper applies to ImageNet's
    images. `residual` adds x_j to the output of every block that keeps its shape, which the paper leaves open (Sec. 5).

    Raises ValueError where a down-sampling lies outside the network, meets an odd side, or leaves less than the
    2 x 2 that a head averages to.
    """
    downsample_at = frozenset(downsample_at)
    outside = sorted(j for j in downsample_at if not 0 <= j < stages)
    if outside:
        raise ValueError(f"down-sampling at {outside}: a network of {stages} stages has j from 0 to {stages - 1}")
    shapes: list[StageShape] = []
    channels, side = in_channels, in_side
    for j in range(stages):
        samples_down = j in downsample_at
        if samples_down and side % 2:
            raise ValueError(
                f"stage {j} samples down images of {side}x{side} pixels, an odd side; give images whose side is "
                f"a multiple of {2 ** sum(i <= j for i in downsample_at)}, or sample down less often"
            )
        out_side = side // 2 if samples_down else side
        if out_side // head_pool < QUADRANTS:
            raise ValueError(
                f"x_{j + 1} would have {out_side}x{out_side} pixels: too few for a head that pools by {head_pool} and "
                f"averages to {QUADRANTS}x{QUADRANTS}; give larger images (now {in_side}x{in_side}), "
                f"sample down less often, or pool less"
            )
        doublings = sum(1 <= i <= j for i in downsample_at)
        keeps_shape = not samples_down and channels == width * 2**doublings
        shapes.append(
            StageShape(
                j=j,
                in_channels=channels,
                in_side=side,
                out_channels=width * 2**doublings,
                out_side=out_side,
                downsample=downsample if samples_down else None,
                head_width=head_width * 2**doublings,
                residual=residual and keeps_shape,
            )
        )
        channels, side = shapes[-1].out_channels, out_side
    return shapes


def thinned(shapes: Sequence[StageShape], kept: Sequence[int]) -> list[StageShape]:
    """The shapes with `kept[j]` channels of each x_{j+1}, which compression leaves of those that are trained."""
    thin: list[StageShape] = []
    for shape, count in zip(shapes, kept, strict=True):
        before = thin[-1].out_channels if thin else shape.in_channels
        cut_from = shape.out_channels if count < shape.out_channels else None
        thin.append(replace(shape, in_channels=before, out_channels=count, cut_from=cut_from))
    return thin
