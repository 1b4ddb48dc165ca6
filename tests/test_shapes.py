from itertools import pairwise
from typing import Any

import pytest
import torch

from cascade import Downsample, StageShape, make_block, make_head, stage_shapes

IMAGENET: dict[str, Any] = {"stages": 8, "in_channels": 3, "in_side": 224}


def test_imagenet_network_of_k_2_and_3_has_the_shapes_of_table_3() -> None:
    shapes = stage_shapes(**IMAGENET, width=128, head_width=256, downsample_at=[0, 2, 4, 6])
    assert [shape.out_side for shape in shapes] == [112, 112, 56, 56, 28, 28, 14, 14]
    assert [shape.out_channels for shape in shapes] == [128, 128, 256, 256, 512, 512, 1024, 1024]
    assert [shape.head_width for shape in shapes] == [256, 256, 512, 512, 1024, 1024, 2048, 2048]


def test_imagenet_network_of_k_1_has_the_shapes_of_table_4() -> None:
    shapes = stage_shapes(**IMAGENET, width=256, head_width=256, downsample_at=[0, 2, 3, 4, 6])
    assert [shape.out_side for shape in shapes] == [112, 112, 56, 28, 14, 14, 7, 7]
    assert [shape.out_channels for shape in shapes] == [256, 256, 512, 1024, 2048, 2048, 4096, 4096]


def test_cifar_network_of_k_2_doubles_once() -> None:
    shapes = stage_shapes(stages=4, in_channels=3, in_side=32, width=128, head_width=256, downsample_at=[2])
    assert [shape.output for shape in shapes] == [(128, 32, 32), (128, 32, 32), (256, 16, 16), (256, 16, 16)]


def test_each_stage_reads_what_the_one_before_makes() -> None:
    shapes = stage_shapes(**IMAGENET, width=64, head_width=128, downsample_at=[0, 2, 4, 6])
    assert [shape.j for shape in shapes] == list(range(8))
    assert (shapes[0].in_channels, shapes[0].in_side) == (3, 224)
    for before, after in pairwise(shapes):
        assert before.output == (after.in_channels, after.in_side, after.in_side)


@pytest.mark.parametrize("downsample", ["invertible", "strided", "average", "max"])
def test_shapes_are_those_of_the_modules(downsample: Downsample) -> None:
    shapes = stage_shapes(
        stages=4, in_channels=3, in_side=16, width=4, head_width=6, downsample_at=[0, 2], downsample=downsample
    )
    x = torch.randn(2, 3, 16, 16)
    for shape in shapes:
        assert tuple(x.shape[1:]) == (shape.in_channels, shape.in_side, shape.in_side)
        x = make_block(shape, batch_norm=True)(x)
        assert tuple(x.shape[1:]) == shape.output
        assert make_head(shape, k=2, classes=5, batch_norm=True)(x).shape == (2, 5)


def test_down_sampling_named_twice_doubles_the_width_once() -> None:
    def shapes(downsample_at: list[int]) -> list[StageShape]:
        return stage_shapes(stages=3, in_channels=3, in_side=16, width=4, head_width=6, downsample_at=downsample_at)

    assert shapes([1, 1]) == shapes([1])


@pytest.mark.parametrize("j", [-1, 4])
def test_down_sampling_outside_the_network_is_refused(j: int) -> None:
    with pytest.raises(ValueError, match=rf"down-sampling at \[{j}\]: a network of 4 stages has j from 0 to 3"):
        stage_shapes(stages=4, in_channels=3, in_side=32, width=4, head_width=4, downsample_at=[1, j])


def test_odd_side_is_refused_with_the_multiple_that_fits() -> None:
    with pytest.raises(ValueError, match=r"stage 2 samples down images of 9x9 pixels.*a multiple of 4"):
        stage_shapes(stages=4, in_channels=3, in_side=18, width=4, head_width=4, downsample_at=[1, 2])


def test_fewer_pixels_than_a_head_averages_to_are_refused() -> None:
    with pytest.raises(ValueError, match=r"x_2 would have 1x1 pixels.*now 4x4"):
        stage_shapes(stages=2, in_channels=3, in_side=4, width=4, head_width=4, downsample_at=[0, 1])


def test_fewer_pixels_than_a_pooled_head_needs_are_refused() -> None:
    def shapes(side: int) -> list[StageShape]:
        return stage_shapes(stages=1, in_channels=3, in_side=side, width=4, head_width=4, downsample_at=[], head_pool=4)

    assert shapes(8)[0].out_side == 8
    with pytest.raises(ValueError, match="x_1 would have 7x7 pixels: too few for a head that pools by 4"):
        shapes(7)


def test_a_block_has_a_skip_connection_where_it_keeps_its_shape() -> None:
    shapes = stage_shapes(stages=5, in_channels=3, in_side=16, width=4, head_width=4, downsample_at=[2], residual=True)
    assert [shape.residual for shape in shapes] == [False, True, False, True, True]
