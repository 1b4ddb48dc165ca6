"""What is trained, said in full: of a stage, of the network end to end, of a probe."""

from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.experiments.end_to_end import end_to_end
from pipeline.experiments.probes import cnn_problem
from pipeline.initial import draw_weights
from pipeline.networks import new_block, new_head
from pipeline.problem import joined, parts_of_blocks, stage_problem
from tests.runs import reopened, tiny_run


def test_one_block_is_itself_and_several_are_a_sequence() -> None:
    blocks: list[nn.Module] = [nn.ReLU(), nn.Tanh()]
    assert joined(blocks[:1]) is blocks[0]
    assert parts_of_blocks(joined(blocks[:1])) == blocks[:1]
    assert parts_of_blocks(joined(blocks)) == blocks
    x = torch.randn(3, 2)
    assert torch.equal(joined([])(x), x), "under a probe there is none"
    assert parts_of_blocks(joined([])) == []


def test_initial_weights_are_the_draws_of_the_seed_and_the_stage(tmp_path: Path) -> None:
    run = reopened(tiny_run(tmp_path / "run").path, "seed=5")
    for j in range(2):
        block, head = new_block(run, j), new_head(run, j)
        draw_weights(5, j, block, head)
        for drawn, made in zip((block, head), stage_problem(run, j).modules(run), strict=True):
            assert all(torch.equal(*pair) for pair in zip(drawn.parameters(), made.parameters(), strict=True))


def test_end_to_end_begins_with_the_weights_that_the_stages_begin_with(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run")
    blocks, head = end_to_end(run).modules(run)
    stages = [stage_problem(run, j).modules(run) for j in range(2)]
    for whole, (own, _) in zip(parts_of_blocks(blocks), stages, strict=True):
        for one, other in zip(whole.parameters(), own.parameters(), strict=True):
            assert torch.equal(one, other)
    for one, other in zip(head.parameters(), stages[-1][1].parameters(), strict=True):
        assert torch.equal(one, other)


def test_every_problem_of_a_run_has_a_key_and_a_folder_of_its_own(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run")
    stages = [stage_problem(run, j) for j in range(2)]
    probes = [cnn_problem(run, j, kind) for j in range(3) for kind in ("cnn-1", "cnn-2")]
    problems = [*stages, end_to_end(run), *probes]
    assert len({one.key for one in problems}) == len({one.folder.path for one in problems}) == len(problems)


@pytest.mark.parametrize(("batch_norm", "sizes"), [("true", [16]), ("false", [16, 8])])
def test_batches_come_in_parts_as_those_of_a_stage(tmp_path: Path, batch_norm: str, sizes: list[int]) -> None:
    run = tiny_run(tmp_path / "run", f"network.batch_norm={batch_norm}", "baseline.train.batch_size=16")
    assert end_to_end(run).micro_batches(run) == sizes
