"""What the command line says, and exits with, where it cannot go on."""

import errno
import json
import re
import resource
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from cache import CorruptStoreError
from pipeline.failure import failure
from tests.conftest import BadSector, Outcome
from tests.runs import digits_run, tiny_run


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train-stage", "--j", "3"], 2, "j = 3: the network has 3 stages, j from 0 to 2"),
        (["train-stage", "--j", "-1"], 2, "j = -1: the network has 3 stages, j from 0 to 2"),
        (["run", "--from", "2", "--to", "1"], 2, "--from 2 --to 1: nothing lies between"),
        (["run", "--set", "train.epoch=3"], 2, "train.epoch: unknown key; did you mean epochs?"),
        (["run", "--set", "train.lr=-1", "--set", "head.k=0"], 2, "2 faults"),
        (["run", "--set", "data.canvas=16"], 3, "data.canvas = 0 (now 16)"),
        (["run", "--set", "order.run=96", "--set", "order.window=960"], 3, "order.run = 96 is no multiple\nnext: take"),
        (["run", "--set", "network.downsample_at=[0,1,2]"], 2, "too few for a head"),
        (["run", "--device", "abacus"], 2, "device 'abacus' cannot be used here"),
        (["run", "--set", 'budget.host="10 KB"'], 6, "and budget.host is 10 KB"),
        (["evaluate"], 3, "no stage is trained"),
        (["train-stage"], 2, "Missing option"),
        (["dance"], 2, "No such command"),
    ],
)
def test_what_a_user_gets_wrong_is_one_message_and_an_exit_code(
    tmp_path: Path, cascade: Callable[..., Outcome], arguments: Sequence[str], code: int, message: str
) -> None:
    folder = tmp_path / "run"
    digits_run(folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("c.*")}
    actual, out, err = cascade(*arguments, *([] if arguments == ["dance"] else ["--run", folder]))
    assert actual == code, err
    assert message in err
    assert out == ""
    assert "Traceback" not in err
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("c.*")}


def test_a_folder_that_is_no_run_folder(tmp_path: Path, cascade: Callable[..., Outcome]) -> None:
    for command in ("ingest", "run", "status", "evaluate"):
        code, _, err = cascade(command, "--run", tmp_path)
        assert code == 2
        assert "is not a run folder: it has no cascade.toml\nnext: cascade init PRESET" in err


def test_a_store_cut_short_is_corrupt_and_made_again(tmp_path: Path, cascade: Callable[..., Outcome]) -> None:
    folder = tmp_path / "run"
    digits_run(folder)
    cascade("run", "--run", folder, "--to", 0)
    store = next(folder.glob("stages/0-*/x_1/*.train.*"))
    chunk = store / "x" / "c.1.3.0.0.0"
    chunk.write_bytes(chunk.read_bytes()[:-7])
    code, _, err = cascade("train-stage", "--j", 1, "--run", folder)
    assert code == 4
    assert f"chunk x/c.1.3.0.0.0 of {store} has" in err
    assert "next: cascade repair" in err
    for file in sorted(store.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    store.rmdir()
    assert cascade("train-stage", "--j", 1, "--run", folder)[0] == 0


@pytest.mark.parametrize("record", ["x_0/ingest.json", "plan.json", "stages/*/stage.json"])
def test_a_run_folder_whose_record_lies_on_a_bad_sector_is_corrupt_data(
    tmp_path: Path, cascade: Callable[..., Outcome], bad_sector: BadSector, record: str
) -> None:
    run = tiny_run(tmp_path / "run", "cache.keep=auto")
    assert cascade("run", "--run", run.path)[0] == 0
    (path, *_) = run.path.glob(record)
    bad_sector(path)
    code, _, err = cascade("evaluate", "--run", run.path)
    assert code == 4
    assert f"{path} cannot be read: Input/output error\nnext: " in err


def test_a_damaged_weight_file_is_named(tmp_path: Path, cascade: Callable[..., Outcome]) -> None:
    folder = tmp_path / "run"
    digits_run(folder)
    cascade("run", "--run", folder, "--to", 0, "--set", 'cache.keep="none"')
    weights = next(folder.glob("stages/0-*/block.safetensors"))
    weights.write_bytes(weights.read_bytes()[:50])
    code, _, err = cascade("train-stage", "--j", 1, "--run", folder, "--set", 'cache.keep="none"')
    assert code == 4
    assert "block.safetensors cannot be read" in err


def test_a_file_of_another_stage_is_refused(tmp_path: Path, cascade: Callable[..., Outcome]) -> None:
    one, other = tiny_run(tmp_path / "one", "cache.keep=none"), tiny_run(tmp_path / "two", "cache.keep=none", "seed=1")
    for run in (one, other):
        cascade("run", "--run", run.path, "--to", 0)
    for name, command in (
        ("block", "train-stage --j 1"),
        ("test_logits", "evaluate"),
        ("head", "evaluate --recompute"),
    ):
        path = getattr(one.stages[0], name)
        own = path.read_bytes()
        path.write_bytes(getattr(other.stages[0], name).read_bytes())
        code, _, err = cascade(*command.split(), "--run", one.path)
        assert code == 4
        assert f"{path} is whole, but not the file that the stage's record names\nnext: " in err
        path.write_bytes(own)
        assert cascade(*command.split(), "--run", one.path)[0] == 0


def test_a_flipped_digit_of_an_accuracy_is_noticed(tmp_path: Path, cascade: Callable[..., Outcome]) -> None:
    run = tiny_run(tmp_path / "run")
    cascade("run", "--run", run.path, "--to", 0)
    path = run.stages[0].record_path
    whole = path.read_bytes()
    path.write_bytes(re.sub(rb'("test_accuracy": )(\d)', lambda found: found[1] + b"%d" % (int(found[2]) ^ 1), whole))
    assert path.read_bytes() != whole
    for command in ("status", "evaluate", "run"):
        code, _, err = cascade(command, "--run", run.path)
        assert code == 4
        assert f"{path} is damaged: its content does not have its checksum\nnext: move {run.stages[0].path} away" in err


def test_a_damaged_scale_is_corrupt_data_and_a_deleted_one_shows_in_status(
    tmp_path: Path, cascade: Callable[..., Outcome]
) -> None:
    folder, replayed = tmp_path / "run", ("--set", "cache.keep=none")
    digits_run(folder)
    cascade("run", "--run", folder, "--to", 0, *replayed)
    scale = next(folder.glob("stages/0-*/scale.float16.json"))
    scale.write_bytes(scale.read_bytes()[:-30])
    code, _, err = cascade("train-stage", "--j", 1, "--run", folder, *replayed)
    assert code == 4
    assert f"{scale} is damaged" in err
    assert f"next: delete it and cascade train-stage --j 0 --run {folder}" in err
    scale.unlink()
    stages = json.loads(cascade("status", "--run", folder, "--json", *replayed)[1])["stages"]
    assert stages[0]["state"] == "trained"
    assert cascade("train-stage", "--j", 0, "--run", folder, *replayed)[0] == 0
    assert cascade("train-stage", "--j", 1, "--run", folder, *replayed)[0] == 0


def test_a_full_disk_is_exit_code_6_with_what_was_committed_intact(
    tmp_path: Path, cascade: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    digits_run(folder)

    def full(path: Path, *parts: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("cache.writer.write_synced", full)
        code, _, err = cascade("run", "--run", folder)
    assert code == 6
    assert "the disk is full" in err
    assert cascade("run", "--run", folder)[0] == 0


def test_a_full_disk_of_any_command_says_where_and_how_much_is_free(tmp_path: Path) -> None:
    known = failure(OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "none" / "file")))
    assert known is not None
    assert re.fullmatch(
        rf"the disk is full at {tmp_path}/none/file, where [\d.]+ .B are free; what was committed is intact\n"
        r"next: make room \(cascade gc, .*\); then the same command",
        known[0],
    )


def test_a_file_that_is_too_large_is_exit_code_6_and_no_full_disk(
    tmp_path: Path, cascade: Callable[..., Outcome]
) -> None:
    folder = tmp_path / "run"
    digits_run(folder)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        code, _, err = cascade("run", "--run", folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert code == 6
    assert f"error: file too large at {folder}/stages/" in err
    assert ": a limit of the process or of the file system; what was committed is intact\nnext: raise the limit" in err
    assert "ulimit -f" in err
    assert "the disk is full" not in err
    assert cascade("run", "--run", folder)[0] == 0


def test_an_unknown_error_is_a_bug_and_shows_its_traceback() -> None:
    assert failure(RuntimeError("a bug")) is None
    assert failure(CorruptStoreError("a store")) is not None


def test_kept_outputs_that_are_not_the_stages_are_refused_and_can_be_recomputed(
    tmp_path: Path, cascade: Callable[..., Outcome]
) -> None:
    folder = tmp_path / "run"
    digits_run(folder)
    cascade("run", "--run", folder, "--to", 1)
    outputs, other = sorted(folder.glob("stages/*/test_logits.safetensors"))
    head = next(folder.glob("stages/0-*/head.safetensors"))
    whole, before = outputs.read_bytes(), cascade("evaluate", "--run", folder, "--json")[1]
    for damaged in (other.read_bytes(), head.read_bytes(), whole[:-100], b"", None):
        outputs.unlink()
        if damaged is not None:
            outputs.write_bytes(damaged)
        code, out, err = cascade("evaluate", "--run", folder, "--json")
        assert (code, out) == (4, ""), damaged
        assert f"next: cascade evaluate --run {folder} --recompute" in err
        assert cascade("evaluate", "--run", folder, "--json", "--recompute")[1] == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("network.downsample_at=[0,1,2]",), "the network does not fit the images"),
        (
            ("augment.policy=canvas", "network.downsample_at=[0, 1]"),
            "the padded images have 10x10 pixels, no multiple of 4, by which the network samples down",
        ),
    ],
)
def test_a_network_that_does_not_fit_is_refused_before_images_are_decoded(
    tmp_path: Path, cascade: Callable[..., Outcome], changes: tuple[str, ...], message: str
) -> None:
    folder = tmp_path / "run"
    assert cascade("init", "digits", folder)[0] == 0
    code, _, err = cascade("ingest", "--run", folder, *(part for change in changes for part in ("--set", change)))
    assert code == 2
    assert message in err
    assert not (folder / "x_0").exists()


def test_of_a_disk_that_fails_is_said_what_finds_and_mends_what_it_took() -> None:
    known = failure(OSError(errno.EIO, "Input/output error", "/somewhere"))
    assert known is not None
    assert known[0].startswith("/somewhere: Input/output error: the disk fails\nnext: look at the disk")
    assert "cascade verify, with its --run and --set, says what can no longer be read" in known[0]
    assert "permissions" not in known[0]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), 6),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to ..."), 6),
        (PermissionError(errno.EACCES, "Permission denied", "/somewhere"), 1),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "/somewhere"), 1),
        (OSError(errno.EIO, "Input/output error"), 1),
    ],
)
def test_what_the_machine_refuses_is_no_traceback(error: Exception, code: int) -> None:
    known = failure(error)
    assert known is not None
    assert known[1] == code
    assert "\nnext: " in known[0]


def test_what_is_to_be_typed_next_is_quoted_where_the_folder_has_a_space(
    tmp_path: Path, cascade: Callable[..., Outcome]
) -> None:
    folder = tmp_path / "my run"
    quoted = f"'{folder}'"
    assert cascade("run", "--run", folder)[2].splitlines()[1].startswith(f"next: cascade init PRESET {quoted}, or")
    assert cascade("init", "digits", folder)[1].endswith(f"next: cascade run --run {quoted}\n")
    assert cascade("status", "--run", folder)[2].endswith(f"next: cascade ingest --run {quoted}\n")
    tiny_run(tmp_path / "your run")
    out = cascade("status", "--run", tmp_path / "your run")[1]
    assert f"--run '{tmp_path / 'your run'}'" in " ".join(out.split())


@pytest.mark.parametrize("command", ["evaluate", "evaluate --recompute", "run --set stages.1.train.lr=0.3"])
def test_images_that_are_not_complete_are_corrupt_data_with_the_command_that_repairs_them(
    tmp_path: Path, cascade: Callable[..., Outcome], command: str
) -> None:
    run = tiny_run(tmp_path / "run")
    assert cascade("run", "--run", run.path)[0] == 0
    (run.store(0, "test") / "manifest.json").unlink()
    code, _, err = cascade(*command.split(), "--run", run.path)
    assert code == 4
    assert f"error: x_0 of {run.path} is not complete\nnext: cascade repair --run {run.path}" in err
