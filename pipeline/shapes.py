"""The shapes of a config's network on images of a given size."""

from cascade import StageShape, stage_shapes
from pipeline.config import Config
from pipeline.errors import ConfigError


def network_shapes(config: Config, *, channels: int, side: int) -> list[StageShape]:
    """Shapes of all stages, the head of each as its overrides have it. Raises ConfigError where they do not fit."""
    shapes = []
    for j in range(config.network.stages):
        head = config.for_stage(j).head
        try:
            up_to_j = stage_shapes(  # no further: later stages have heads of their own
                stages=j + 1,
                in_channels=channels,
                in_side=side,
                width=config.network.width,
                head_width=head.width,
                downsample_at=[i for i in config.network.downsample_at if i <= j],
                downsample=config.network.downsample,
                head_pool=head.pool,
            )
        except ValueError as error:
            raise ConfigError(f"the network does not fit the images: {error}") from error
        shapes.append(up_to_j[j])
    return shapes
