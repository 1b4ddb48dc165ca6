"""The command line: what it prints, its exit codes, what it imports."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.progress import size
from tests.conftest import Outcome
from tests.runs import SMALL, digits_run


def settings(*more: str) -> list[str]:
    return [part for setting in (*SMALL, *more) for part in ("--set", setting)]


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; sys.argv = ['cascade', '--help']\n"
        "import cli\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'torchvision', 'zarr', 'numpy', 'sklearn', 'rich', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "train-stage" in done.stdout


def test_from_init_to_evaluate(tmp_path: Path, cascade: Callable[..., Outcome]) -> None:
    folder = tmp_path / "run"
    assert cascade("init", "digits", folder, *settings())[0] == 0
    code, _, err = cascade("run", "--run", folder)
    assert code == 0, err
    assert "stage 2  done: test" in err

    code, out, _ = cascade("status", "--run", folder, "--json")
    stages = json.loads(out)["stages"]
    assert [stage["state"] for stage in stages] == ["done"] * 3
    assert [list(stage) for stage in stages] == [["j", "state", "test_accuracy", "input", "store_bytes", "reason"]] * 3
    assert stages[1]["input"] == "x_1 stored"
    assert stages[1]["store_bytes"] == sum(
        file.stat().st_size for file in folder.glob("stages/1-*/x_2/**/*") if file.is_file()
    )

    code, out, err = cascade("evaluate", "--run", folder, "--json")
    evaluation = json.loads(out)
    assert err == ""
    assert [list(stage) for stage in evaluation["stages"]] == [["j", "top1", "top5"]] * 3
    assert list(evaluation["ensemble"]) == ["top1", "top5"]
    assert [stage["top1"] for stage in evaluation["stages"]] == [stage["test_accuracy"] for stage in stages]

    code, out, _ = cascade("status", "--run", folder)
    assert code == 0
    assert "views-2" in out

    code, _, err = cascade("run", "--run", folder)
    assert err.count("done already") == 3


def test_stages_one_by_one_by_command(tmp_path: Path, cascade: Callable[..., Outcome]) -> None:
    folder = tmp_path / "run"
    cascade("init", "digits", folder, *settings())
    code, _, err = cascade("train-stage", "--j", 1, "--run", folder)
    assert (code, "next: cascade ingest --run" in err) == (3, True)
    assert cascade("ingest", "--run", folder)[0] == 0
    code, _, err = cascade("train-stage", "--j", 1, "--run", folder)
    assert (code, "next: cascade train-stage --j 0 --run" in err) == (3, True)
    assert cascade("train-stage", "--j", 0, "--run", folder)[0] == 0
    assert cascade("train-stage", "--j", 1, "--run", folder)[0] == 0
    stages = json.loads(cascade("status", "--run", folder, "--json")[1])["stages"]
    assert [stage["state"] for stage in stages] == ["done", "done", "todo"]


def test_status_names_the_setting_that_made_a_stage_stale(tmp_path: Path, cascade: Callable[..., Outcome]) -> None:
    folder = tmp_path / "run"
    digits_run(folder)
    cascade("run", "--run", folder, "--to", 1)
    stages = json.loads(cascade("status", "--run", folder, "--json", "--set", "stages.0.train.lr=0.03")[1])["stages"]
    assert [stage["state"] for stage in stages] == ["stale", "stale", "todo"]
    assert stages[0]["reason"] == "train.lr 0.1 -> 0.03"
    assert stages[1]["reason"] == "input: stage 0 train.lr 0.1 -> 0.03"
    stages = json.loads(cascade("status", "--run", folder, "--json", "--set", "stages.1.train.lr=0.03")[1])["stages"]
    assert [stage["state"] for stage in stages] == ["done", "stale", "todo"]


def test_settings_of_one_stage_change_that_stage_alone(tmp_path: Path, cascade: Callable[..., Outcome]) -> None:
    folder = tmp_path / "run"
    digits_run(folder)
    code, _, err = cascade("run", "--run", folder, "--to", 1, "--set", "stages.1.train.epochs=3")
    assert code == 0
    assert err.count("epoch  2/2") == 1
    assert err.count("epoch  3/3") == 1


def test_another_encoding_is_taken_and_written_by_the_stage_before_without_training_it_anew(
    tmp_path: Path, cascade: Callable[..., Outcome]
) -> None:
    folder, packed = tmp_path / "run", ("--set", "stages.0.store.encoding=uint4")
    digits_run(folder)
    cascade("run", "--run", folder, "--to", 1)
    stages = json.loads(cascade("status", "--run", folder, "--json", *packed)[1])["stages"]
    assert [stage["state"] for stage in stages] == ["trained", "stale", "todo"]
    hint = f"cascade train-stage --j 0 --run {folder} --set stages.0.store.encoding=uint4"
    assert stages[0]["reason"] == f"x_1 not written as uint4: {hint}"
    assert stages[1]["reason"] == "store.encoding of x_1 float16 -> uint4"

    code, _, err = cascade("train-stage", "--j", 1, "--run", folder, *packed)
    assert code == 3
    assert f"the scale of x_1 as uint4 is not known yet\nnext: cascade train-stage --j 0 --run {folder}" in err
    code, _, err = cascade("train-stage", "--j", 0, "--run", folder, *packed)
    assert code == 0
    assert "epoch" not in err
    assert "x_1 as uint4: " in err
    assert "dB signal to noise" in err
    assert "x_1 written: " in err
    names = {path.name for path in folder.glob("stages/0-*/x_1/*")}
    assert names == {f"{e}.{split}" for e in ("float16", "uint4") for split in ("train.views-2", "validation", "test")}
    assert cascade("train-stage", "--j", 1, "--run", folder, *packed)[0] == 0
    stages = json.loads(cascade("status", "--run", folder, "--json")[1])["stages"]
    assert [stage["state"] for stage in stages] == ["done", "done", "todo"], "the earlier ones are there still"


def test_frozen_canvases_are_not_silent_in_status(tmp_path: Path, cascade: Callable[..., Outcome]) -> None:
    folder, canvas = tmp_path / "run", ("--set", "augment.policy=canvas", "--set", "augment.views=4")
    digits_run(folder)
    assert cascade("run", "--run", folder, "--to", 1, *canvas)[0] == 0
    stages = json.loads(cascade("status", "--run", folder, "--json", *canvas)[1])["stages"]
    assert [stage["reason"] for stage in stages[:2]] == ["fresh augmentation", "trained on windows of frozen canvases"]


def test_the_demo_learns_the_digits(tmp_path: Path, cascade: Callable[..., Outcome]) -> None:
    code, _, err = cascade("demo", "--run", tmp_path / "demo")
    assert code == 0, err
    evaluation = json.loads(cascade("evaluate", "--run", tmp_path / "demo", "--json")[1])
    accuracy = [stage["top1"] for stage in evaluation["stages"]]
    assert accuracy[-1] >= 98
    assert max(accuracy[1:]) >= accuracy[0]  # of 355 images: which stage is best is the seed's and the CPU's


def test_grey_images_of_two_classes_have_no_top_five(tmp_path: Path, cascade: Callable[..., Outcome]) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (300, 12, 12), dtype=np.uint8)
    labels = np.arange(300) % 2
    pixels[labels == 1, :6] //= 3
    np.savez(
        tmp_path / "data.npz",
        train_images=pixels[:200], train_labels=labels[:200], test_images=pixels[200:], test_labels=labels[200:],
    )  # fmt: skip
    folder = tmp_path / "run"
    source = f"data.source=npz:{tmp_path / 'data.npz'}"
    assert cascade("init", "digits", folder, *settings(source, "augment.crop=12"))[0] == 0
    code, _, err = cascade("run", "--run", folder)
    assert code == 0, err
    evaluation = json.loads(cascade("evaluate", "--run", folder, "--json")[1])
    assert evaluation["ensemble"]["top5"] is None
    assert evaluation["ensemble"]["top1"] > 90


def test_a_relative_source_is_taken_from_the_config_and_a_setting_from_where_one_types(
    tmp_path: Path, cascade: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 8, 8), dtype=np.uint8)
    folder, labels = tmp_path / "run", np.arange(40) % 2
    assert cascade("init", "digits", folder)[0] == 0
    arrays: Any = {"train_images": pixels, "train_labels": labels, "test_images": pixels, "test_labels": labels}
    np.savez(folder / "beside.npz", **arrays)
    np.savez(tmp_path / "here.npz", **arrays)
    text = (folder / "cascade.toml").read_text()
    (folder / "cascade.toml").write_text(text.replace('"digits:"', '"npz:beside.npz"'))
    monkeypatch.chdir(tmp_path)
    assert cascade("ingest", "--run", "run")[0] == 0
    assert cascade("init", "digits", "other", "--set", "data.source=npz:here.npz")[0] == 0
    monkeypatch.chdir(folder)
    assert cascade("ingest", "--run", tmp_path / "other")[0] == 0
    monkeypatch.chdir(tmp_path)
    folder.rename(tmp_path / "moved")
    assert cascade("status", "--run", "moved")[0] == 0, "a moved folder keeps its images"


def test_evaluate_says_which_stages_it_leaves_out(tmp_path: Path, cascade: Callable[..., Outcome]) -> None:
    digits_run(tmp_path / "run")
    cascade("run", "--run", tmp_path / "run", "--to", 0)
    code, out, err = cascade("evaluate", "--run", tmp_path / "run", "--json")
    assert code == 0
    assert len(json.loads(out)["stages"]) == 1
    assert "left out: stages 1..2; stage 1 is not trained yet\nnext: cascade run --run " in err
    assert "--accept-stale" not in err
    cascade("run", "--run", tmp_path / "run", "--to", 1)
    other = ("--set", "stages.1.train.lr=0.05")
    err = cascade("evaluate", "--run", tmp_path / "run", *other)[2]
    assert "left out: stages 1..2; stage 1 is not trained with these settings (train.lr 0.1 -> 0.05)" in err
    assert "--accept-stale, which takes stage 1 of other settings" in err


def test_bytes_to_come_are_said_before_the_first_stage(tmp_path: Path, cascade: Callable[..., Outcome]) -> None:
    digits_run(tmp_path / "run", 'store.codec="none"', "order.run=8")
    _, _, err = cascade("run", "--run", tmp_path / "run")
    rows = 2 * 1299 + 143 + 355
    expected = rows * (8 * 8 * 8 + 16 * 4 * 4) * 2
    assert f"at most {size(expected)} before compression" in err
    chunks = sum(file.stat().st_size for file in (tmp_path / "run/stages").glob("*/x_*/*/x/c.*"))
    assert expected <= chunks < 1.1 * expected, "chunks have checksums, and a last one is filled up"
