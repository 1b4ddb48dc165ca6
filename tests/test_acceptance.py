"""--accept-stale: which stages stand in for those that are not trained, and what it leaves apart."""

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.acceptance import accept_stale, chain
from pipeline.device import choose_device
from pipeline.errors import RefusedError, Stopped
from pipeline.progress import Reporter
from pipeline.record import StageRecord
from pipeline.runfolder import RunFolder
from pipeline.sealed import write_sealed
from pipeline.status import status
from pipeline.training import train_stage
from pipeline.weights import load_tensors
from tests.conftest import Outcome
from tests.runs import digits_run, reopened

CPU = choose_device("cpu")
OTHER_LR = ("--set", "train.lr=0.05")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stages 0 and 1, trained with lr = 0.1; x_1 and x_2 are stored."""
    run = digits_run(tmp_path_factory.mktemp("acceptance") / "run", "train.epochs=1")
    for j in range(2):
        train_stage(run, j, CPU, Reporter())
    return run.path


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def keys(run: RunFolder) -> list[str]:
    return [stage.key for stage in run.stages]


def record(run: RunFolder, j: int) -> Any:
    found = run.stages[j].record
    assert found is not None
    return found


def test_stages_of_another_branch_stand_in_and_are_recorded(folder: Path) -> None:
    then, now = reopened(folder), reopened(folder, "train.lr=0.05")
    accepted = accept_stale(now, 2)
    assert keys(accepted)[:2] == keys(then)[:2]
    assert accepted.fields[2]["input"] == then.stages[1].key
    assert keys(accepted)[2] not in (keys(then)[2], keys(now)[2])
    assert accepted.anchor(2) == 2, "and so do their stores"
    train_stage(accepted, 2, CPU, Reporter())
    lines = [(one.stage, one.key, one.differences) for one in record(accepted, 2).accepted]
    assert lines == [(j, then.stages[j].key, ["train.lr 0.1 -> 0.05"]) for j in range(2)]
    assert now.stages[2].record is None


def test_a_stage_trained_on_a_stand_in_is_what_it_is_without_its_store(folder: Path) -> None:
    results = []
    for kept in (True, False):
        copy = Path(shutil.copytree(folder, folder.with_name(f"kept {kept}")))
        accepted = accept_stale(reopened(copy, "train.lr=0.05"), 2)
        if not kept:
            for j in range(2):
                shutil.rmtree(accepted.stages[j].path / f"x_{j + 1}")
        assert accepted.anchor(2) == (2 if kept else 0)
        train_stage(accepted, 2, CPU, Reporter())
        results.append(load_tensors(accepted.stages[2].block)[0])
    assert results[0].keys() == results[1].keys()
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


@pytest.mark.parametrize("setting", ["augment.padding=0", "seed=1"])
def test_stores_of_a_stand_in_with_other_views_are_not_read(folder: Path, setting: str) -> None:
    accepted = accept_stale(reopened(folder, setting, "augment.flip=true"), 2)
    assert accepted.is_stand_in(1)
    assert accepted.anchor(2) == 0


def test_stages_trained_with_the_present_settings_need_no_stand_in(folder: Path) -> None:
    then = reopened(folder)
    assert keys(accept_stale(then, 2)) == keys(then)
    assert not accept_stale(then, 2).accepted


def test_a_stage_with_the_present_settings_is_not_passed_over_for_what_was_trained_on_another(folder: Path) -> None:
    now = reopened(folder, "stages.0.train.lr=0.05")
    assert [one.stage for one in accept_stale(now).accepted] == [0], "stage 1 has no settings of its own that differ"
    train_stage(now, 0, CPU, Reporter())
    accepted = accept_stale(reopened(folder, "stages.0.train.lr=0.05"))
    assert (keys(accepted), accepted.accepted) == (keys(now), [])
    with pytest.raises(RefusedError, match="block 1 is needed first, and it is not trained;\nwhat other branches have"):
        train_stage(accepted, 2, CPU, Reporter())


def test_of_stale_stages_that_lead_equally_far_the_one_of_fewest_differences_stands_in_then_the_least_key_at_any_time(
    folder: Path,
) -> None:
    shutil.rmtree(reopened(folder).stages[1].path)
    for lr, epochs in ((0.03, 2), (0.02, 1), (0.01, 1)):
        train_stage(reopened(folder, f"train.lr={lr}", f"train.epochs={epochs}"), 0, CPU, Reporter())
    equal = [reopened(folder, f"train.lr={lr}").stages[0] for lr in (0.1, 0.02, 0.01)]
    for newest in equal:
        for stage in equal:
            os.utime(stage.record_path, (0, 0) if stage is newest else (9, 9))
        accepted = accept_stale(reopened(folder, "train.lr=0.5", "train.epochs=2"), 1)
        assert accepted.fields[0]["train.lr"] == 0.03
        accepted = accept_stale(reopened(folder, "train.lr=0.5"), 1)
        assert accepted.stages[0].key == min(stage.key for stage in equal)


def test_numbers_between_stand_ins_are_encoded_as_they_were_trained_on(folder: Path) -> None:
    packed = reopened(folder, "stages.0.store.encoding=uint4")
    for j in range(2):
        train_stage(packed, j, CPU, Reporter())
    shutil.rmtree(reopened(folder).stages[1].path)
    accepted = accept_stale(reopened(folder, "train.lr=0.05"), 2)
    assert [accepted.config.for_stage(j).store.encoding for j in range(2)] == ["uint4", "float16"]
    assert keys(accepted)[:2] == keys(packed)[:2]


def test_a_stand_in_without_the_scale_that_is_asked_for_is_refused_with_the_one_it_has(folder: Path) -> None:
    run = accept_stale(reopened(folder, "train.lr=0.05", "store.encoding=uint8"), 1)
    assert [one.stage for one in run.accepted] == [0]
    with pytest.raises(
        RefusedError,
        match=r"scale of x_1 as float16, and none as uint8\nnext: --set stages\.0\.store\.encoding=float16",
    ):
        train_stage(run, 1, CPU, Reporter())


@pytest.mark.parametrize("settings", [("network.width=4",), ("head.width=4",), ("network.batch_norm=false",)])
def test_without_a_branch_that_fits_it_is_refused_as_before(folder: Path, settings: tuple[str, ...]) -> None:
    run = reopened(folder, *settings, "train.lr=0.05")
    with pytest.raises(RefusedError, match="block 0 is needed first, and it is not trained with these settings"):
        train_stage(accept_stale(run, 1), 1, CPU, Reporter())


def test_a_branch_whose_earlier_stages_are_gone_does_not_stand_in(folder: Path) -> None:
    shutil.rmtree(reopened(folder).stages[0].path)
    accepted = accept_stale(reopened(folder, "train.lr=0.05"), 2)
    assert not accepted.accepted
    with pytest.raises(RefusedError, match=r"block 0 is needed first"):
        train_stage(accepted, 2, CPU, Reporter())


def test_what_is_missing_after_the_stand_ins_is_named_with_the_command(folder: Path) -> None:
    shutil.rmtree(reopened(folder).stages[1].path)
    with pytest.raises(
        RefusedError, match=r"block 1 is needed first(.|\n)*next: cascade train-stage --j 1 .*--accept-stale"
    ):
        train_stage(accept_stale(reopened(folder, "train.lr=0.05"), 2), 2, CPU, Reporter())


def test_branches_of_other_images_never_stand_in(folder: Path) -> None:
    other = digits_run(folder.with_name("other"), "data.seed=1", "train.epochs=1")
    shutil.copytree(folder / "stages", other.path / "stages")
    accepted = accept_stale(reopened(other.path), 2)
    assert not accepted.accepted
    assert accepted.changes(0) == "the images changed"
    assert accepted.changes(1) == "the images changed"


def made_up(run: RunFolder, j: int, accuracy: float) -> None:
    """Put the record and the scales of stage j of a run folder in place, without training it."""
    folder = run.stages[j]
    folder.path.mkdir(parents=True)
    for encoding in ("float16", "uint4"):
        (folder.path / f"scale.{encoding}.json").touch()
    record = StageRecord(
        j=j,
        key=folder.key,
        fields=run.fields[j],
        parameters={},
        train_accuracy=0,
        validation_accuracy=None,
        test_accuracy=accuracy,
        balanced_test_accuracy=0,
        seconds=0,
        peak_memory_bytes=0,
        device="none",
        machine={},
        sessions=[],
        content={},
        metrics="",
    )
    write_sealed(folder.record_path, record)


def made_up_branches(folder: Path, rng: random.Random) -> None:
    """Stages of some branches, each with settings of its own, on those of the same or of another; some then lost."""
    choices = [f"stages.{j}.{setting}" for j in range(3) for setting in ("train.lr=0.05", "store.encoding=uint4")]
    for _ in range(rng.randint(1, 6)):
        run = reopened(folder, *rng.sample(choices, rng.randint(0, 3)))
        if rng.random() < 0.5:
            run = accept_stale(run, rng.randint(0, 3))
        for j in range(rng.randint(1, 3)):
            if run.stages[j].record is None:
                made_up(run, j, accuracy=rng.uniform(0, 100))
    for path in list((folder / "stages").iterdir()):
        if rng.random() < 0.1:
            shutil.rmtree(path)


@pytest.mark.parametrize("seed", range(25))
def test_status_evaluate_and_training_go_by_one_chain_whatever_stages_of_whatever_branches_there_are(
    seed: int, trained: Path, tmp_path: Path
) -> None:
    rng = random.Random(seed)
    folder = Path(shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("stages")))
    made_up_branches(folder, rng)
    run = reopened(folder, *rng.sample(["stages.0.train.lr=0.02", "stages.1.train.lr=0.05", "train.lr=0.01"], 1))
    line, seen = chain(run), accept_stale(run)

    before = [run.info.digest, *(stage.key for stage in line)]
    assert [stage.fields["input"] for stage in line] == before[:-1], "each was trained on the one before"
    assert keys(seen)[: len(line)] == before[1:]
    fresh = next((j for j, stage in enumerate(run.stages) if stage.record is None), 3)
    assert keys(run)[:fresh] == before[1:][:fresh], "none with the present settings is passed over"

    shown = [row.test_accuracy for row in status(run, accepting=True)]
    assert shown == [stage.test_accuracy for stage in line] + [None] * (3 - len(line))
    scored = takewhile(lambda stage: stage.record is not None, seen.stages)
    assert [stage.key for stage in scored] == before[1:]

    for j in range(3):
        going_on = accept_stale(run, j)
        assert keys(going_on)[:j] == keys(seen)[:j]
        assert [one.key for one in going_on.accepted] == [one.key for one in seen.accepted if one.stage < j]
    j = rng.randint(0, min(len(line), 2))
    going_on = accept_stale(run, j)
    if going_on.stages[j].record is None:
        made_up(going_on, j, accuracy=0)
    assert [stage.key for stage in chain(run)][: j + 1] == keys(going_on)[: j + 1], "what was trained so is the chain's"


@pytest.mark.parametrize(
    ("then", "now"), [('"train.lr": 0.1', '"train.lr": 0.2'), ('"float16"', '"../../elsewhere"'), ('"float16"', "7")]
)
def test_a_record_that_is_not_what_its_key_says_does_not_stand_in(folder: Path, then: str, now: str) -> None:
    record = reopened(folder).stages[1].path / "stage.json"
    body, seal = record.read_text().replace(then, now).split('"sha256": "')
    assert then in record.read_text()
    body += '"sha256": "'
    record.write_text(body + hashlib.sha256(body.encode()).hexdigest() + seal[64:])
    assert [one.stage for one in accept_stale(reopened(folder, "train.lr=0.05"), 2).accepted] == [0]


def test_from_refusal_to_status_and_evaluate_by_command(folder: Path, cascade: Callable[..., Outcome]) -> None:
    code, _, err = cascade("train-stage", "--j", 2, "--run", folder, *OTHER_LR)
    assert code == 3
    assert "block 0 is needed first, and it is not trained with these settings (train.lr 0.1 -> 0.05)" in err
    assert "to go on from the stage as it is: --accept-stale" in err

    code, _, err = cascade("train-stage", "--j", 2, "--run", folder, *OTHER_LR, "--accept-stale")
    assert code == 0, err
    assert "accepted though stale: stage 0 (train.lr 0.1 -> 0.05), stage 1 (train.lr 0.1 -> 0.05)" in err

    stages = json.loads(cascade("status", "--run", folder, "--json", *OTHER_LR)[1])["stages"]
    assert [(stage["state"], stage["reason"]) for stage in stages] == [
        ("stale", "train.lr 0.1 -> 0.05"),
        ("stale", "train.lr 0.1 -> 0.05"),
        ("stale", "input: stage 1 train.lr 0.1 -> 0.05"),
    ]
    out = cascade("status", "--run", folder, *OTHER_LR)[1]
    assert "stage 2 also in" in out
    assert out.endswith("--set train.lr=0.05 --accept-stale shows what can be gone on from as it is\n")
    assert "input: stage 1 train.lr 0.1 -> 0.05" in out

    stages = json.loads(cascade("status", "--run", folder, "--json", "--accept-stale", *OTHER_LR)[1])["stages"]
    assert [stage["state"] for stage in stages] == ["stale", "stale", "done"]
    assert stages[2]["reason"].endswith("; on stale stage 0 (train.lr 0.1 -> 0.05), stage 1 (train.lr 0.1 -> 0.05)")

    code, _, err = cascade("evaluate", "--run", folder, *OTHER_LR)
    assert code == 3
    assert "no stage is trained with these settings (train.lr 0.1 -> 0.05)" in err
    assert err.endswith("--set train.lr=0.05 --accept-stale, which takes stages 0..2 of other settings\n")
    code, out, err = cascade("evaluate", "--run", folder, "--json", "--accept-stale", *OTHER_LR)
    assert code == 0
    assert [stage["j"] for stage in json.loads(out)["stages"]] == [0, 1, 2]
    assert [one["stage"] for one in json.loads(out)["accepted"]] == [0, 1]
    assert "accepted though stale: stage 0" in err


def test_accept_stale_is_advised_only_where_a_stage_before_is_accepted(
    folder: Path, cascade: Callable[..., Outcome]
) -> None:
    def advised(*settings: str) -> tuple[str, str]:
        options = ("--run", folder, *settings, "--accept-stale")
        stages = json.loads(cascade("status", "--json", *options)[1])["stages"]
        return stages[2]["reason"], cascade("evaluate", *options)[2].partition("next: ")[2]

    train, run = f"cascade train-stage --j 2 --run {folder}", f"cascade run --run {folder}"
    assert advised() == (train, f"{run}, which trains what is missing\n")
    own = ("--set", "stages.1.train.lr=0.05")
    train, run = (
        f"{command} {' '.join(own)} --accept-stale" for command in (train, run.replace("run ", "run --from 2 ", 1))
    )
    reason, action = advised(*own)
    assert reason.startswith(f"{train}; on stale stage 1")
    assert action == f"{run}, which trains what is missing\n"


def test_a_refusal_does_not_advise_a_setting_of_one_stage_where_there_is_one(
    folder: Path, cascade: Callable[..., Outcome]
) -> None:
    def refusal(setting: str) -> str:
        return cascade("train-stage", "--j", 2, "--run", folder, "--set", setting)[2]

    assert "--set stages.J.train.lr=0.05" in refusal("train.lr=0.05")
    err = refusal("stages.0.train.lr=0.05")
    assert "stages.J" not in err
    assert "(train.lr 0.1 -> 0.05)\nto go on from the stage as it is: --accept-stale\nnext: " in err


def test_stages_that_are_asked_for_are_never_stood_in_for(folder: Path, cascade: Callable[..., Outcome]) -> None:
    code, _, err = cascade("run", "--from", 1, "--to", 1, "--run", folder, *OTHER_LR, "--accept-stale")
    assert code == 0
    assert "accepted though stale: stage 0 (train.lr 0.1 -> 0.05)\n" in err
    assert "stage 1  done: test" in err
    code, _, err = cascade("run", "--to", 0, "--run", folder, *OTHER_LR, "--accept-stale")
    assert code == 0
    assert "accepted" not in err
    assert "stage 0  done: test" in err


def test_status_goes_on_where_a_manifest_is_damaged(folder: Path, cascade: Callable[..., Outcome]) -> None:
    store = reopened(folder).store(1, "test")
    (store / "manifest.json").write_bytes(b"no manifest")
    for settings in ((), OTHER_LR):
        code, out, _ = cascade("status", "--run", folder, *settings)
        assert code == 0
        assert f"not counted: {store / 'manifest.json'} is damaged" in out
        assert "next: cascade verify --run" in out
    found = json.loads(cascade("status", "--run", folder, "--json", *OTHER_LR)[1])
    assert [branch["j"] for branch in found["branches"]] == [0, 1]
    assert (found["policy"], len(found["unreadable"])) == ("views-2", 1)


def test_a_stage_is_compared_only_with_branches_that_go_on_from_what_is_there(folder: Path) -> None:
    other = reopened(folder, "train.lr=0.05")
    for j in range(2):
        train_stage(other, j, CPU, Reporter())
    run = reopened(folder)
    shutil.rmtree(run.stages[1].path)
    assert [row.state for row in status(run)] == ["done", "todo", "todo"], "the other stage 1 is of another stage 0"
    assert run.changes(1) == ""
    shutil.rmtree(other.stages[0].path)
    assert [row.state for row in status(other)] == ["todo", "done", "todo"], "it was deleted"
    third = reopened(folder, "train.lr=0.03")
    assert third.changes(1) == "train.lr 0.05 -> 0.03"
    assert [row.state for row in status(reopened(folder, "stages.1.train.lr=0.03"))] == ["done", "todo", "todo"]


def test_a_training_begun_anew_is_shown_beside_the_stage_that_stands_in(folder: Path) -> None:
    now = ("train.lr=0.05", "train.epochs=2")
    accepted, calls = accept_stale(reopened(folder, *now), 1), iter(range(10**6))
    with pytest.raises(Stopped):
        train_stage(accepted, 1, CPU, Reporter(), should_stop=lambda: next(calls) > 5)
    row = status(reopened(folder, *now), accepting=True)[1]
    assert row.state == "stale"
    assert "; anew 0 of 2 epochs and " in row.reason
