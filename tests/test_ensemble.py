import math

import pytest
import torch

from cascade import ensemble


def test_stage_j_weighs_2_to_the_j_over_logits() -> None:
    z = [torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, 4.0]]), torch.tensor([[3.0, 1.0]])]
    by_hand = [[(1 * 1 + 2 * 0 + 4 * 3) / 7, (1 * -2 + 2 * 4 + 4 * 1) / 7]]
    torch.testing.assert_close(ensemble(z), torch.tensor(by_hand))


def test_stage_j_weighs_2_to_the_j_over_softmax() -> None:
    z = [torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([[math.log(4.0), 0.0]])]  # shares 1/4, 3/4 and 4/5, 1/5
    by_hand = [[(1 / 4 + 2 * 4 / 5) / 3, (3 / 4 + 2 * 1 / 5) / 3]]
    torch.testing.assert_close(ensemble(z, over="softmax"), torch.tensor(by_hand))


def test_the_two_averages_can_disagree() -> None:
    z = [torch.tensor([[100.0, 0.0]]), torch.tensor([[0.0, 2.0]])]
    assert ensemble(z).argmax().item() == 0
    assert ensemble(z, over="softmax").argmax().item() == 1


@pytest.mark.parametrize("over", ["logits", "softmax"])
def test_one_stage_alone_keeps_its_predictions(over: str) -> None:
    z = torch.randn(50, 10)
    assert torch.equal(ensemble([z], over=over).argmax(1), z.argmax(1))  # type: ignore[arg-type]


def test_stages_that_agree_give_what_each_gives() -> None:
    z = torch.randn(4, 5)
    torch.testing.assert_close(ensemble([z] * 8), z)


def test_a_very_deep_network_neither_overflows_nor_loses_its_last_stages() -> None:
    z = [torch.full((1, 2), float(j)) for j in range(200)]
    torch.testing.assert_close(ensemble(z), torch.full((1, 2), 198.0))  # J - 1 minus sum_i i 2^-i / 2


def test_half_precision_logits_are_averaged_in_float32() -> None:
    z = [torch.tensor([[60000.0, 0.0]], dtype=torch.float16)] * 3
    assert ensemble(z).dtype == torch.float32
    assert ensemble(z)[0, 0].item() == pytest.approx(60000, rel=1e-3)


def test_no_stage_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one stage"):
        ensemble([])
