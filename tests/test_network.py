from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cascade import (
    Block,
    CentreWindow,
    Head,
    Network,
    Prefix,
    Quantiser,
    StageShape,
    count_network,
    make_block,
    make_head,
    parameter_count,
    stage_shapes,
)

BLOCKS = (
    9 * (12 * 128 + 128 * 128 + 512 * 256 + 256 * 256 + 1024 * 512 + 512 * 512 + 2048 * 1024 + 1024 * 1024)
    + 2 * 2 * (128 + 256 + 512 + 1024)  # weight and bias of a batch norm in each of two blocks of each width
)
"""Parameters of the blocks of Table 3, by hand."""


def imagenet(last_head_width: int) -> list[StageShape]:
    shapes = stage_shapes(stages=8, in_channels=3, in_side=224, width=128, head_width=256, downsample_at=[0, 2, 4, 6])
    return [*shapes[:-1], replace(shapes[-1], head_width=last_head_width)]


def head_parameters(k: int, width: int) -> int:
    """By hand: k - 1 convolutions with their batch norms, the batch norm after the average, the linear layer."""
    convolutions = 9 * 1024 * width + (k - 2) * 9 * width * width
    return convolutions + (k - 1) * 2 * width + 2 * width + 4 * width * 1000 + 1000


@pytest.mark.parametrize(
    ("k", "width", "count", "millions"),
    [
        (2, 2048, 64_403_432, 64.4),
        (3, 2048, 102_156_264, 102.2),
        (3, 1024, 60_305_384, 60.3),
        (3, 512, 46_457_832, 46.5),
    ],
)
def test_imagenet_networks_have_the_parameters_of_the_paper(k: int, width: int, count: int, millions: float) -> None:
    assert count_network(imagenet(width), k=k, classes=1000, batch_norm=True) == count
    assert BLOCKS + head_parameters(k, width) == count
    assert round(count / 1e6, 1) == millions


def test_last_head_of_the_imagenet_network_is_2048_wide_unless_shrunk() -> None:
    shapes = stage_shapes(stages=8, in_channels=3, in_side=224, width=128, head_width=256, downsample_at=[0, 2, 4, 6])
    assert shapes == imagenet(2048)


def small_shapes() -> list[StageShape]:
    return stage_shapes(stages=3, in_channels=3, in_side=8, width=4, head_width=6, downsample_at=[1])


def small_network(encoding: str = "float16") -> Network:
    """Stage 2 of three, on two blocks that have seen some data."""
    torch.manual_seed(0)
    *frozen, last = small_shapes()
    blocks = [make_block(shape, batch_norm=True) for shape in frozen]
    x = torch.randn(16, 3, 8, 8)
    for block in blocks:
        x = block(x)
    prefix = Prefix(blocks, [Quantiser(encoding, shape.out_channels) for shape in frozen])
    head = make_head(last, k=2, classes=5, batch_norm=True)
    return Network(prefix, make_block(last, batch_norm=True), head)


def train(network: Network, steps: int) -> None:
    """SGD over every parameter, with the momentum and weight decay that would move whatever is not frozen."""
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    for _ in range(steps):
        loss = F.cross_entropy(network(torch.randn(16, 3, 8, 8)), torch.randint(5, (16,)))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("batch_norm", [True, False])
def test_counting_on_the_meta_device_counts_the_real_modules(batch_norm: bool) -> None:
    shapes = small_shapes()
    blocks = [make_block(shape, batch_norm=batch_norm) for shape in shapes]
    head = make_head(shapes[-1], k=3, classes=5, batch_norm=batch_norm)
    expected = parameter_count([*blocks, head])
    assert count_network(shapes, k=3, classes=5, batch_norm=batch_norm) == expected


def test_gradient_reaches_one_block_and_its_head_and_nothing_else() -> None:
    network = small_network().train()
    network(torch.randn(16, 3, 8, 8)).square().sum().backward()
    assert [name for name, parameter in network.prefix.named_parameters() if parameter.grad is not None] == []
    for part in (network.block, network.head):
        for name, parameter in part.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.any(), name


def test_frozen_blocks_never_move_a_bit_while_a_later_stage_trains() -> None:
    network = small_network().train()
    before, block, head = state(network.prefix), state(network.block), state(network.head)
    assert int(before["blocks.0.norm.num_batches_tracked"]) == 1
    train(network, steps=5)
    after = state(network.prefix)
    assert before.keys() == after.keys()
    for name in before:
        assert torch.equal(before[name], after[name]), name
    for old, part in ((block, network.block), (head, network.head)):
        for name, value in part.state_dict().items():
            assert not torch.equal(old[name], value), name


@pytest.mark.parametrize(("window", "rows"), [(2, slice(1, 3)), (3, slice(0, 3)), (4, slice(0, 4))])
def test_a_network_of_windows_sees_the_centre_of_its_features(window: int, rows: slice) -> None:
    network = small_network().eval()
    x = torch.randn(4, 3, 8, 8)
    cut = Network(nn.Sequential(network.prefix, CentreWindow(window)), network.block, network.head).eval()
    features = network.prefix(x)
    assert features.shape[-2:] == (4, 4)
    assert torch.equal(cut(x), network.head(network.block(features[..., rows, rows])))


def test_prefix_stays_in_evaluation_mode_inside_a_module_that_trains() -> None:
    network = small_network()
    x = torch.randn(4, 3, 8, 8)
    expected = network.eval().prefix(x)
    assert torch.equal(network.train().prefix(x), expected)
    assert network.block.training
    assert not any(module.training for module in network.prefix.modules())


@pytest.mark.parametrize("encoding", ["float32", "float16", "uint8"])
def test_prefix_quantises_after_each_of_its_blocks(encoding: str) -> None:
    prefix = small_network(encoding).prefix
    assert isinstance(prefix, Prefix)
    x = torch.randn(4, 3, 8, 8)
    y = prefix(x)
    for block, quantise in zip(prefix.blocks, prefix.quantisers, strict=True):
        x = quantise(block(x))
    assert torch.equal(y, x)
    assert y.dtype == torch.float32


def test_prefix_has_nothing_to_train_and_keeps_no_graph() -> None:
    prefix = small_network().prefix
    assert not any(parameter.requires_grad for parameter in prefix.parameters())
    assert not prefix(torch.randn(4, 3, 8, 8, requires_grad=True)).requires_grad


def test_prefix_without_blocks_is_the_identity() -> None:
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(Prefix([], [])(x), x)


def test_prefix_with_a_quantiser_missing_is_refused() -> None:
    prefix = Prefix([Block(3, 4), Block(4, 4)], [Quantiser("float16", 4)])
    with pytest.raises(ValueError, match="shorter"):
        prefix(torch.randn(2, 3, 8, 8))


def test_network_is_head_after_block_after_prefix() -> None:
    network = small_network().eval()
    x = torch.randn(4, 3, 8, 8)
    assert isinstance(network.head, Head)
    assert torch.equal(network(x), network.head(network.block(network.prefix(x))))


@pytest.mark.parametrize("batch_norm", [True, False])
def test_a_residual_block_adds_its_input_before_the_relu(batch_norm: bool) -> None:
    torch.manual_seed(0)
    plain, skip = (Block(4, 4, batch_norm=batch_norm, residual=residual).eval() for residual in (False, True))
    skip.load_state_dict(plain.state_dict())
    x = torch.randn(2, 4, 6, 6)
    before = plain.norm(plain.conv(x))
    torch.testing.assert_close(skip(x), (before + x).relu())
    assert (skip(x) != plain(x)).any()
