"""The shapes of a config's network on images of a given size."""

from collections.abc import Sequence

from cascade import StageShape, stage_shapes, thinned
from pipeline.config import Config
from pipeline.errors import ConfigError


def network_shapes(config: Config, *, channels: int, image_side: int) -> list[StageShape]:
    """Shapes of all stages on windows of images of `image_side` pixels, each head and compression as overrides have it.

    Raises ConfigError where they do not fit.
    """
    heads = [(head.width, head.pool) for head in (config.for_stage(j).head for j in range(config.network.stages))]
    last = {head: j for j, head in enumerate(heads)}
    try:
        of_head = {
            (width, pool): stage_shapes(  # no further than it is used: later stages have heads of their own
                stages=j + 1,
                in_channels=channels,
                in_side=config.augment.crop or image_side,
                width=config.network.width,
                head_width=width,
                downsample_at=[i for i in config.network.downsample_at if i <= j],
                downsample=config.network.downsample,
                head_pool=pool,
                residual=config.network.residual,
            )
            for (width, pool), j in last.items()
        }
    except ValueError as error:
        raise ConfigError(f"the network does not fit the images: {error}") from error
    whole = [of_head[head][j] for j, head in enumerate(heads)]
    shapes = thinned(whole, [config.for_stage(shape.j).compress.kept(shape.out_channels) for shape in whole])
    if config.augment.policy == "canvas":
        check_canvas(config, shapes, image_side=image_side)
    return shapes


def stage_epochs(config: Config, shape: StageShape) -> int:
    """Epochs of a stage: of its training, and those that its head is tuned for after a compression."""
    own = config.for_stage(shape.j)
    return own.train.epochs + (own.compress.epochs if shape.cut_from is not None else 0)


def stored_shape(config: Config, shapes: Sequence[StageShape], j: int, *, image_side: int) -> tuple[int, int, int]:
    """(C, H, W) of x_{j+1} as it is stored: of windows, or under "canvas" of canvases."""
    shape = shapes[j]
    if config.augment.policy != "canvas":
        return shape.output
    side = canvas_side(config, image_side) * shape.out_side // shapes[0].in_side
    return (shape.out_channels, side, side)


def canvas_side(config: Config, image_side: int) -> int:
    """Side of the field that training windows are cut from, in pixels: the image with its padding."""
    return image_side + 2 * config.augment.padding


def check_canvas(config: Config, shapes: Sequence[StageShape], *, image_side: int) -> None:
    """Raise ConfigError where canvases of the images cannot be sampled down as often as they would be."""
    last = config.augment.last_anchor(len(shapes))
    factor = shapes[0].in_side // shapes[last - 1].out_side
    side = canvas_side(config, image_side)
    if side % factor:
        raise ConfigError(
            f"augment.policy = canvas: the padded images have {side}x{side} pixels, no multiple of {factor}, by which "
            f"the network samples down; change augment.padding (now {config.augment.padding}) or data.canvas"
        )
