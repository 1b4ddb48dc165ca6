"""One writer at a time, whose name is always whole; and folders that cannot be written are refused first."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline import lock
from pipeline.checkpoint import Position, read_position
from pipeline.device import choose_device
from pipeline.errors import CascadeError, CorruptDataError, LockedError, Stopped
from pipeline.lock import HOLDER, LOCK, Holder, check_writable, lock_folder
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.stage_folder import StageFolder
from pipeline.status import status
from pipeline.training import train_stage
from tests.conftest import Outcome
from tests.runs import tiny_run

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

RACER = """
import sys, time
from pathlib import Path
from pipeline.errors import LockedError
from pipeline.lock import lock_folder
print("ready", flush=True)
sys.stdin.readline()
end = time.monotonic() + 2
won, seen = 0, set()
while time.monotonic() < end:
    try:
        with lock_folder(Path(sys.argv[1]), "x" * 3000) as held:
            won += 1
            for number in range(5):
                held.says(f"turn {number} " + "y" * 1000 * number)
    except LockedError as error:
        seen.add(str(error).split(": ")[0] + (" whole" if str(error).count("in use by process") == 1 else " torn"))
print(won, *sorted(seen), sep="\\n", flush=True)
"""


def test_the_second_is_refused_with_process_host_and_what_the_first_does_now(tmp_path: Path) -> None:
    with lock_folder(tmp_path, "beginning") as held:
        held.says("stage 3 of 0..7")
        with pytest.raises(LockedError) as caught, lock_folder(tmp_path, "stage 0"):
            pass
    where = f"process {os.getpid()} on {os.uname().nodename}"
    end = f"next: wait for it, or end it there with kill {os.getpid()}"
    assert str(caught.value) == f"{tmp_path} is in use by {where}: stage 3 of 0..7\n{end}"
    assert not (tmp_path / HOLDER).exists()
    with lock_folder(tmp_path, "again"):
        pass


def test_a_caller_that_holds_the_folder_goes_on_with_its_lock(tmp_path: Path) -> None:
    with lock_folder(tmp_path, "beginning") as held, lock_folder(tmp_path, "stage 1", held=held) as same:
        assert same is held
        with pytest.raises(LockedError, match="stage 1"), lock_folder(tmp_path, "other"):
            pass


@pytest.mark.parametrize(
    "left",
    [
        b"",
        b"{",
        b'{"process":-1,"began":null,"host":"elsewhere","doing":"kill -1 would end everything"}',
        b'{"process":1%030d,"began":5,"host":"elsewhere","doing":"no system has so many"}' % 0,
        msgspec.json.encode(Holder(process=2**22 - 1, began=5, host=os.uname().nodename, doing="long gone")),
        msgspec.json.encode(Holder(process=os.getpid(), began=5, host=os.uname().nodename, doing="id used again")),
    ],
)
def test_a_name_that_a_killed_process_left_is_not_taken_for_the_holders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: bytes
) -> None:
    with lock_folder(tmp_path, "stage 1"):
        named = (tmp_path / HOLDER).read_bytes()
        (tmp_path / HOLDER).write_bytes(left)

        def says_who_it_is(seconds: float) -> None:
            (tmp_path / HOLDER).write_bytes(named)

        monkeypatch.setattr("time.sleep", says_who_it_is)
        with pytest.raises(LockedError, match="stage 1"), lock_folder(tmp_path, "other"):
            pass
        monkeypatch.setattr("time.sleep", lambda seconds: None)
        (tmp_path / HOLDER).write_bytes(left)
        with pytest.raises(LockedError, match="in use by another process"), lock_folder(tmp_path, "other"):
            pass
    with lock_folder(tmp_path, "it died"):
        pass


@pytest.mark.parametrize("kind", ["link", "pipe", "pipe that is read"])
def test_what_is_no_file_is_not_locked_nor_followed_nor_waited_for(tmp_path: Path, kind: str) -> None:
    outside, place = tmp_path / "outside", tmp_path / "run" / LOCK
    place.parent.mkdir()
    if kind == "link":
        place.symlink_to(outside)
    else:
        os.mkfifo(place)
    reader = os.open(place, os.O_RDONLY | os.O_NONBLOCK) if kind == "pipe that is read" else None
    with (
        pytest.raises(CorruptDataError, match=f"{place} is not a file, but a link or a device\nnext: remove it"),
        lock_folder(place.parent, "run"),
    ):
        pass
    if reader is not None:
        os.close(reader)
    assert not outside.exists()


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_holder_is_not_read_through_a_link_or_from_a_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    outside, holder = tmp_path / "outside", tmp_path / HOLDER
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with lock_folder(tmp_path, "stage 1"):
        holder.rename(outside)
        holder.symlink_to(outside) if kind == "link" else os.mkfifo(holder)
        with pytest.raises(LockedError, match="in use by another process"), lock_folder(tmp_path, "other"):
            pass


def test_what_a_stranger_wrote_as_the_holders_name_is_shown_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with lock_folder(tmp_path, "stage 1"):
        name = Holder(process=7, began=None, host="else\nwhere", doing="\x1b[2Jnothing")
        (tmp_path / HOLDER).write_bytes(msgspec.json.encode(name))
        with pytest.raises(LockedError) as caught, lock_folder(tmp_path, "other"):
            pass
    assert str(caught.value).splitlines()[0] == (f"{tmp_path} is in use by process 7 on else\\nwhere: \\x1b[2Jnothing")


def test_a_full_disk_keeps_nobody_from_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(lock, "replace_file", full)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with lock_folder(tmp_path, "gc"), pytest.raises(LockedError, match="in use by"), lock_folder(tmp_path, "other"):
        pass


def test_processes_that_race_see_one_holder_and_a_whole_name(tmp_path: Path) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    command = [sys.executable, "-c", RACER, str(tmp_path)]
    racers = [subprocess.Popen(command, text=True, **pipes) for _ in range(3)]  # type: ignore[call-overload]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    lines = [racer.communicate(timeout=60)[0].splitlines() for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0, 0]
    assert sum(int(won) for won, *_ in lines) > 0
    ids, host = {racer.pid for racer in racers}, os.uname().nodename
    names = {f"{tmp_path} is in use by process {i} on {host} whole" for i in ids}
    assert {name for _, *seen in lines for name in seen} <= names


def test_a_whole_command_holds_the_folder_and_readers_pass(
    tmp_path: Path, cascade: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, doing = tiny_run(tmp_path / "run"), []
    train = train_stage

    def watched(*arguments: Any, **options: Any) -> bool:
        with pytest.raises(LockedError) as caught, lock_folder(run.path, "other"):
            pass
        doing.append(str(caught.value).splitlines()[0].rpartition(": ")[2])
        return train(*arguments, **options)

    monkeypatch.setattr("pipeline.runs.train_stage", watched)
    assert cascade("run", "--run", run.path)[0] == 0
    assert doing == ["stage 0 of 0..1", "stage 1 of 0..1"]
    with lock_folder(run.path, "stage 0"):
        for command in ("run", "ingest", "train-stage --j 0"):
            code, _, err = cascade(*command.split(), "--run", run.path)
            assert code == 5
            assert f"in use by process {os.getpid()} on" in err
        assert cascade("status", "--run", run.path)[0] == 0
        assert cascade("evaluate", "--run", run.path)[0] == 0


def test_status_at_every_moment_of_a_training_works_and_goes_only_forward(
    tmp_path: Path, cascade: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run(tmp_path / "run", "machine.checkpoint_minutes=0")
    seen: list[str] = []

    def look() -> None:
        row = status(RunFolder(run.path, run.config))[0]
        now = f"{row.state}: {row.reason.split(':')[0]}"
        if now not in seen[-1:]:
            seen.append(now)

    def looking(function: Callable[..., Any]) -> Callable[..., Any]:
        def looked(*arguments: Any, **options: Any) -> Any:
            look()
            result = function(*arguments, **options)
            look()
            return result

        return looked

    for name in ("replace", "unlink", "fsync"):
        monkeypatch.setattr(os, name, looking(getattr(os, name)))
    train_stage(run, 0, choose_device("cpu"), Reporter())
    assert seen == [
        "todo: cascade train-stage --j 0 --run " + str(run.path),
        "partial: 0 of 2 epochs and 8 images",
        "partial: 0 of 2 epochs and 16 images",
        "partial: 1 of 2 epochs",
        "partial: 1 of 2 epochs and 8 images",
        "partial: 1 of 2 epochs and 16 images",
        "partial: 2 of 2 epochs",
        "trained: x_1 not written as float16",
        "done: fresh augmentation",
    ]


@pytest.mark.parametrize("first", ["the reader", "the writer"])
def test_a_stage_that_ends_while_status_looks_at_it_is_not_taken_for_one_that_never_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    run = tiny_run(tmp_path / "run")
    asked = iter(range(3))
    with pytest.raises(Stopped):
        train_stage(run, 0, choose_device("cpu"), Reporter(), should_stop=lambda: next(asked) > 0)

    def read_and_end(folder: StageFolder) -> Position | None:
        position = read_position(folder) if first == "the reader" else None
        if folder.j == 0:
            train_stage(run, 0, choose_device("cpu"), Reporter())
        return position or read_position(folder)

    monkeypatch.setattr("pipeline.status.read_position", read_and_end)
    assert status(run)[0].state == "done"


@contextmanager
def nobody() -> Iterator[None]:
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user can reach."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@as_root
@pytest.mark.parametrize("command", ["run", "ingest", "train-stage --j 1"])
def test_a_run_folder_of_another_user_is_refused_before_any_work(
    shared: Path, cascade: Callable[..., Outcome], command: str
) -> None:
    run = tiny_run(shared / "run")
    before = sorted(shared.rglob("*"))
    with nobody():
        code, _, err = cascade(*command.split(), "--run", run.path)
    assert code == 1
    assert f"error: {run.path} cannot be written: it is user 0's, with mode 755, and this is user {NOBODY}\n" in err
    assert "\nnext: give this user the right to write and search it" in err
    assert sorted(shared.rglob("*")) == before


@as_root
@pytest.mark.parametrize("which", ["stages", "stage", "outputs"])
def test_a_stage_whose_folder_cannot_be_written_is_refused_before_the_stages_before_it(
    shared: Path, cascade: Callable[..., Outcome], which: str
) -> None:
    run = tiny_run(shared / "run")
    stage = run.stages[1]
    folder = {"stages": run.path / "stages", "stage": stage.path, "outputs": stage.output("train").parent}[which]
    folder.mkdir(parents=True)
    for path in (run.path, *run.path.rglob("*")):
        if path != folder:
            os.chown(path, NOBODY, NOBODY)
    with nobody():
        code, _, err = cascade("run", "--run", run.path)
    assert code == 1
    assert f"error: {folder} cannot be written: it is user 0's" in err
    assert run.stages[0].record is None


@as_root
def test_a_read_only_file_system_is_named(shared: Path, cascade: Callable[..., Outcome]) -> None:
    run, mounted = tiny_run(shared / "run"), shared / "mounted"
    mounted.mkdir()
    mount = shutil.which("mount")
    made = mount and subprocess.run([mount, "--bind", run.path, mounted], capture_output=True, check=False)
    if not made or made.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", mounted], check=True)
        code, _, err = cascade("run", "--run", mounted)
        assert code == 1
        assert f"error: {mounted} cannot be written: it lies on a read-only file system\nnext: mount it" in err
        assert cascade("status", "--run", mounted)[0] == 0
    finally:
        subprocess.run(["umount", mounted], check=True)


def test_a_folder_that_is_not_there_yet_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_writable(tmp_path)
    check_writable(tmp_path / "later")
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    check_writable(tmp_path / "later")
    with pytest.raises(CascadeError, match="cannot be written"):
        check_writable(tmp_path)
