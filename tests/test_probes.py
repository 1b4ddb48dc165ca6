"""Probes: what they depend on, and that a record is the one of its place."""

from pathlib import Path

import pytest
from torch import nn

from cascade.heads import FloorAverage
from pipeline.errors import ConfigError
from pipeline.experiments.probes import KINDS, Kind, cnn_problem, probe_folder
from pipeline.runfolder import RunFolder
from tests.runs import digits_run, reopened, tiny_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return tiny_run(tmp_path_factory.mktemp("probed") / "run")


def changed(run: RunFolder, setting: str) -> list[tuple[int, Kind]]:
    """The probes whose key is another under a setting."""
    other = reopened(run.path, setting)
    return [
        (j, kind)
        for j in range(len(run.stages) + 1)
        for kind in KINDS
        if probe_folder(run, j, kind).key != probe_folder(other, j, kind).key
    ]


LINEAR = [(j, "linear") for j in range(3)]
CNNS = [(j, kind) for j in range(3) for kind in ("cnn-1", "cnn-2")]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("probe.samples=8", LINEAR),
        ("probe.train.epochs=9", CNNS),
        ("seed=1", sorted([*LINEAR, *CNNS])),
        ("stages.1.train.lr=0.3", [(2, kind) for kind in KINDS]),
        ("stages.0.store.encoding=uint8", [(j, kind) for j in (1, 2) for kind in KINDS]),
        ("stages.1.store.encoding=uint8", [(2, kind) for kind in KINDS]),
        ("augment.views=3", [(j, kind) for j in (1, 2) for kind in KINDS]),
        ("stages.0.head.width=16", [(j, kind) for j in range(3) for kind in KINDS if j or kind != "linear"]),
        ("stages.1.head.width=16", [(2, kind) for kind in KINDS]),
        ("head.average=floor", []),
        ("head.pooled_norm=false", [(j, kind) for j in range(3) for kind in KINDS if j or kind != "linear"]),
        ("baseline.head_width=3", []),
        ("cache.keep=none", []),
        ("machine.threads=1", []),
    ],
)
def test_a_probe_is_another_where_what_it_is_of_or_how_it_is_made_changes(
    run: RunFolder, setting: str, expected: list[tuple[int, Kind]]
) -> None:
    assert sorted(changed(run, setting)) == sorted(expected)


def test_a_probe_has_as_many_hidden_layers_as_its_name_says_and_grows_with_the_blocks(tmp_path: Path) -> None:
    run = digits_run(tmp_path / "run")
    heads = {(j, kind): cnn_problem(run, j, kind) for j in range(4) for kind in KINDS if kind != "linear"}
    for (_, kind), problem in heads.items():
        _, head = problem.modules(run)
        assert sum(parameter.ndim == 4 for parameter in head.parameters()) == int(kind[-1])
    widths = [heads[j, "cnn-1"].shape.head_width for j in range(4)]
    assert widths == [8, *(8 * shape.out_channels // 8 for shape in run.shapes)]
    assert not list(heads[1, "cnn-2"].modules(run)[0].parameters()), "x_j is not trained"


def test_its_head_is_the_first_stage_s_but_for_the_layers(tmp_path: Path) -> None:
    run = digits_run(
        tmp_path / "run", "augment.crop=5", "network.downsample_at=[]", "head.average=floor", "head.pooled_norm=false"
    )
    _, head = cnn_problem(run, 0, "cnn-1").modules(run)
    assert (type(head.average), type(head.norm)) == (FloorAverage, nn.Identity)
    plain = reopened(run.path, "head.average=adaptive")
    keys = [cnn_problem(one, 0, "cnn-1").key for one in (run, plain)]
    assert keys[0] != keys[1], "on an odd side the average counts"
    wider = cnn_problem(reopened(run.path, "stages.0.head.width=16"), 2, "cnn-2")
    assert wider.shape.head_width == 16


def test_a_cnn_is_trained_as_the_probes_section_says_and_not_as_stages_are(run: RunFolder) -> None:
    own = reopened(run.path, "probe.train.epochs=9", "probe.train.lr=0.3", "stages.1.train.lr=0.5")
    for j in range(3):
        problem = cnn_problem(own, j, "cnn-1")
        assert (problem.epochs, problem.train.lr) == (9, 0.3)
        assert problem.train == own.config.probe_train != own.config.train


def test_a_head_that_pools_too_much_is_refused(run: RunFolder) -> None:
    with pytest.raises(ConfigError, match=r"head.pool = 4: x_2 has 4x4 pixels, too few for a probe that pools so"):
        cnn_problem(reopened(run.path, "head.pool=4", "stages.1.head.pool=1"), 2, "cnn-1")
