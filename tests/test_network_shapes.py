"""Shapes of a config's network: heads, windows and canvases as it has them."""

import pytest

from cascade import StageShape
from pipeline.errors import ConfigError
from pipeline.shapes import network_shapes
from tests.test_keys import STAGES, config


def test_shapes_take_the_head_of_each_stage_from_its_overrides() -> None:
    shapes = network_shapes(config(stages__2__head__width=5), channels=1, image_side=16)
    assert [shape.head_width for shape in shapes] == [16, 32, 10, 32]
    assert [shape.out_side for shape in shapes] == [8, 4, 4, 4]


def test_shapes_are_those_of_the_windows_and_of_whole_images_without_crop() -> None:
    for crop, side in ((8, 8), (0, 16)):
        shapes = network_shapes(config(augment__crop=crop), channels=1, image_side=16)
        assert [shape.in_side for shape in shapes] == [side, side, side // 2, side // 2]


@pytest.mark.parametrize("policy", ["views", "canvas"])
def test_canvases_that_the_network_does_not_sample_down_evenly_are_refused_and_windows_are_not(policy: str) -> None:
    def shapes(padding: int, image_side: int = 16) -> list[StageShape]:
        settings = {"augment__padding": padding, "augment__policy": policy, "network__downsample_at": [1, 2]}
        return network_shapes(config(**settings), channels=1, image_side=image_side)

    assert shapes(2) == shapes(0) == shapes(1, image_side=18)
    if policy == "views":
        assert shapes(1) == shapes(2)
        return
    with pytest.raises(
        ConfigError, match=r"padded images have 18x18 pixels, no multiple of 4, .*; change augment.padding \(now 1\)"
    ):
        shapes(1)


def test_canvases_have_to_be_sampled_down_evenly_only_up_to_where_windows_are_cut() -> None:
    def shapes(cut_at: int) -> list[StageShape]:
        settings = {"augment__padding": 1, "augment__policy": "canvas", "network__downsample_at": [1, 2]}
        return network_shapes(config(**settings, augment__cut_at=cut_at), channels=1, image_side=16)

    assert shapes(1) == shapes(2)
    with pytest.raises(ConfigError, match="padded images have 18x18 pixels, no multiple of 4"):
        shapes(3)


def test_head_may_pool_as_much_as_its_own_stage_allows() -> None:
    assert len(network_shapes(config(stages__0__head__pool=8, augment__crop=0), channels=1, image_side=16)) == STAGES
    with pytest.raises(
        ConfigError, match=r"the network does not fit the images: x_2 would have 8x8 pixels.*pools by 8"
    ):
        network_shapes(config(stages__1__head__pool=8, augment__crop=0), channels=1, image_side=16)


@pytest.mark.parametrize(
    ("side", "message"),
    [
        (2, "x_2 would have 1x1 pixels: too few.*give larger images"),
        (9, "stage 1 samples down images of 9x9 pixels, an odd side; give images whose side is a multiple of 2"),
    ],
)
def test_images_smaller_than_the_down_samplings_allow_are_refused(side: int, message: str) -> None:
    with pytest.raises(ConfigError, match=f"the network does not fit the images: {message}"):
        network_shapes(config(augment__crop=0), channels=1, image_side=side)
