"""Runs sorted into methods, and what each is called."""

import msgspec
import pytest

from pipeline.errors import ConfigError
from pipeline.experiments.report.facts import RunFacts, run_facts
from pipeline.experiments.report.methods import MOST, called, sorted_out
from pipeline.runfolder import RunFolder
from tests.runs import reopened, tiny_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return tiny_run(tmp_path_factory.mktemp("methods") / "run")


def seen(run: RunFolder, *settings: tuple[str, ...]) -> list[RunFacts]:
    """The run under each of these settings."""
    return [run_facts(reopened(run.path, *one)) for one in settings]


def names(run: RunFolder, *settings: tuple[str, ...]) -> list[str]:
    return [method.name for method in sorted_out(seen(run, *settings))]


def test_runs_that_differ_in_their_seeds_alone_are_one_method(run: RunFolder) -> None:
    methods = sorted_out(seen(run, ("seed=0",), ("head.k=1",), ("seed=1",), ("machine.threads=1",)))
    assert [(method.name, len(method.runs)) for method in methods] == [("k = 2", 3), ("k = 1", 1)]
    assert methods[0].settings == {"head.k": "2"}, "the width has no say in a head that has none"
    assert methods[0].in_full == "k = 2"
    assert [method.tone for method in methods] == ["first", "second"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([(), ("augment.policy=canvas",), ("augment.policy=recompute",)], ["views-2", "canvas", "recompute"]),
        (
            [(), ("head.k=1",), ("head.k=1", "augment.policy=canvas")],
            ["k = 2", "k = 1, views-2", "k = 1, canvas"],
        ),
        ([(), ("network.residual=true",)], ["no residual", "residual"]),
        ([(), ("train.epochs=1", "train.lr=0.05")], ["2 epochs", "1 epoch"]),
        ([(), ("stages.1.train.lr=0.05",)], ["lr –", "lr 0.05"]),
        ([(), ("network.stages=1", "network.downsample_at=[]")], ["2 blocks", "1 block"]),
    ],
)
def test_a_method_is_called_by_the_least_that_tells_it_apart(
    run: RunFolder, settings: list[tuple[str, ...]], expected: list[str]
) -> None:
    assert names(run, *settings) == expected


def test_names_that_have_no_room_are_letters_and_their_settings_are_told(run: RunFolder) -> None:
    base = ("augment.policy=recompute", "train.lr=0.0625")
    methods = sorted_out(seen(run, base, (*base, "train.weight_decay=0.0625"), ("train.lr=0.0625",)))
    assert [method.name for method in methods] == ["A", "B", "C"]
    assert methods[1].in_full == "B: recompute, weight decay 0.0625"
    assert [list(method.settings.values()) for method in methods] == [
        ["recompute", "0.0005"],
        ["recompute", "0.0625"],
        ["views-2", "0.0005"],
    ]


def test_other_images_are_another_method_though_no_setting_says_so(run: RunFolder) -> None:
    facts, other = seen(run, (), ())
    other.run.info = msgspec.structs.replace(other.run.info, digest="f" * 64)
    methods = sorted_out([facts, other])
    assert [method.name for method in methods] == [f"images {run.info.digest[:8]}", "images ffffffff"]


def test_runs_of_a_method_are_told_apart_by_seed_or_else_by_folder(run: RunFolder) -> None:
    first, second, third = seen(run, ("seed=0",), ("seed=1",), ("seed=1",))
    (method,) = sorted_out([first, second, third])
    assert [method.named(one, alone=True) for one in (first, second)] == ["seed 0", "run"]
    (alone,) = sorted_out([first])
    assert alone.named(first, alone=True) == ""
    assert alone.named(first) == alone.name


def test_more_methods_than_a_figure_has_room_for_are_refused(run: RunFolder) -> None:
    facts = seen(run, *((f"train.epochs={epochs}",) for epochs in range(1, MOST + 2)))
    with pytest.raises(ConfigError, match=rf"{MOST + 1} methods: expected at most {MOST} on one page\nnext: less"):
        sorted_out(facts)
    assert len(sorted_out(facts[:-1])) == MOST


def test_a_value_is_read_with_what_it_is_of() -> None:
    assert called("augment.cutout", "8") == "cutout 8"
    assert called("train.epochs", "1") == "1 epoch"
    assert called("compress.keep", "1") == "uncut"
    assert called("train.epochs", "–") == "epochs –"
