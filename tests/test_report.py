"""cascade report: a page of one run, finished or not, or of several seeds."""

import errno
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from pipeline.device import choose_device
from pipeline.experiments.baseline import train_baseline
from pipeline.experiments.report.compared import compared_figures
from pipeline.experiments.report.facts import RunFacts, run_facts
from pipeline.experiments.report.methods import sorted_out
from pipeline.experiments.report.whole import report_html
from pipeline.lock import lock_folder
from pipeline.opening import open_to_look
from pipeline.progress import Reporter
from pipeline.record import Kept, StageRecord
from tests.conftest import Outcome
from tests.reports import reported_run
from tests.runs import reopened, tiny_run

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
VOID = {"meta", "path", "rect"}


class Balance(HTMLParser):
    """Whether every element that is opened is closed, in turn; and all ids."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[RunFacts]:
    """Two runs that differ in their seed, of one data set."""
    folder, runs = tmp_path_factory.mktemp("report"), []
    for seed in (0, 1):
        run = reported_run(folder / f"seed{seed}", f"seed={seed}")
        runs.append(run_facts(run))
    return runs


def sound(page: str) -> Balance:
    """A page that a browser has nothing to mend of."""
    found = Balance(page)
    assert found.open == []
    assert len(found.ids) == len(set(found.ids))
    assert not any(word in page for word in ("nan", "inf,", "None", "<script", "http:", "https:"))
    return found


def test_a_page_holds_all_of_a_finished_run(seeds: list[RunFacts]) -> None:
    page = report_html([replace(seeds[0], warnings=[])], now=NOW)
    sound(page)
    assert page.count("<svg") == page.count("<figure>") == page.count("The numbers") == 8
    record = seeds[0].stages[1].record
    assert record is not None
    assert f"<dd>{record.test_accuracy:.2f}\N{NARROW NO-BREAK SPACE}%</dd>" in page
    assert "cascade run --run" in page
    assert "Made 02 January 2026, 03:04 UTC" in page
    assert 'class="alarm"' not in page


def test_a_page_of_an_unfinished_run_says_what_is_left(tmp_path: Path) -> None:
    page = report_html([run_facts(tiny_run(tmp_path / "run"))], now=NOW)
    sound(page)
    assert "<li>Stages 0..1 are not trained yet: cascade run --run" in page
    assert "0 of 2" in page


def test_names_that_a_config_or_folder_gives_are_escaped(seeds: list[RunFacts], tmp_path: Path) -> None:
    folder = tmp_path / "<b>&run"
    shutil.copytree(seeds[0].run.path, folder)
    with (folder / "cascade.toml").open("a") as config:
        config.write("# </code><script>alert(1)</script>\n")
    page = report_html([run_facts(open_to_look(folder, (), False))], now=NOW)
    sound(page)
    assert "<h1>&lt;b&gt;&amp;run</h1>" in page


def test_several_seeds_give_deviations_and_a_row_each(seeds: list[RunFacts]) -> None:
    page = report_html(seeds, now=NOW)
    sound(page)
    assert "Means of 2 runs, with standard deviations." in page
    assert "(2)</td>" in page
    assert 'class="band test"' in page
    assert "The stages of seed 0" in page
    assert "<h1>seed0, seed1</h1>" in page


def test_the_command_writes_the_page_and_leaves_no_litter(
    seeds: list[RunFacts], tmp_path: Path, cascade: Callable[..., Outcome]
) -> None:
    folder = Path(shutil.copytree(seeds[0].run.path, tmp_path / "run"))
    with lock_folder(folder, "training"):
        assert cascade("report", "--run", folder)[:2] == (0, f"{folder / 'report.html'} written\n")
    sound((folder / "report.html").read_text())
    assert "report" not in cascade("gc", "--run", folder)[1]
    assert cascade("verify", "--run", folder)[0] == 0


def test_the_command_puts_several_runs_on_one_page_where_it_is_told_to(
    seeds: list[RunFacts], tmp_path: Path, cascade: Callable[..., Outcome]
) -> None:
    out, (first, second) = tmp_path / "both.html", (facts.run.path for facts in seeds)
    assert cascade("report", "--run", first, "--run", second, "--run", first, "--out", out)[0] == 0
    assert "Means of 2 runs" in out.read_text()
    assert not (first / "report.html").exists()


def test_json_has_the_numbers_of_the_figures_and_writes_nothing(
    seeds: list[RunFacts], cascade: Callable[..., Outcome]
) -> None:
    folder = seeds[0].run.path
    code, out, _ = cascade("report", "--run", folder, "--json")
    found = json.loads(out)
    assert code == 0
    assert [stage["state"] for stage in found["runs"][0]["stages"]] == ["done", "done"]
    (figure,) = [one for one in found["figures"] if one["name"] == "accuracy-by-depth"]
    (test,) = [one for one in figure["series"] if one["name"] == "test"]
    assert [point["y"] for point in test["segments"][0]] == [stage.test_accuracy for stage in seeds[0].stages]
    assert not (folder / "report.html").exists()


def test_methods_are_told_apart_and_their_seeds_are_means(
    seeds: list[RunFacts], tmp_path: Path, cascade: Callable[..., Outcome]
) -> None:
    other = reported_run(tmp_path / "other", "head.k=1")
    out = tmp_path / "page.html"
    folders = [*(facts.run.path for facts in seeds), other.path]
    command = ["report", *(part for folder in folders for part in ("--run", folder))]
    assert cascade(*command, "--out", out)[0] == 0
    page = out.read_text()
    sound(page)
    assert "<h1>k = 2 · k = 1</h1>" in page
    assert "2 methods on npz:images.npz that differ in head.k. Of several seeds: means" in page
    assert "<td>head.k</td><td>2</td><td>1</td>" in page
    assert "The stages of k = 2, seed 1" in page
    assert 'class="band first"' in page
    found = json.loads(cascade(*command, "--json")[1])
    assert [one["name"] for one in found["methods"]] == ["k = 2", "k = 1"]
    (figure,) = [one for one in found["figures"] if one["name"] == "where-each-ends"]
    (last,) = [one for one in figure["series"] if one["name"] == "last stage"]
    assert [point["n"] for point in last["segments"][0]] == [2, 1]
    assert last["segments"][0][1]["y"] == run_facts(other).stages[1].test_accuracy


def test_the_risk_of_methods_is_of_those_that_keep_their_best_point(seeds: list[RunFacts]) -> None:
    best = Kept(epochs=1, risk=0.25, accuracy=50.0, start_risk=1.0)
    kept = replace(
        seeds[0],
        stages=[
            replace(one, record=one.record and msgspec.structs.replace(one.record, best=best))
            for one in seeds[0].stages
        ],
        run=reopened(seeds[0].run.path, "train.keep=best"),
    )
    (figure,) = [one for one in compared_figures(sorted_out([*seeds, kept])) if one.name == "training-risk"]
    assert [[point.y for point in series.points] for series in figure.series] == [[], [0.25, 0.25]]
    assert "Training risk by depth" not in report_html(seeds, now=NOW)


def test_methods_of_which_nothing_is_trained_have_a_page_too(tmp_path: Path) -> None:
    runs = [run_facts(tiny_run(tmp_path / name, f"network.width={width}")) for name, width in (("a", 4), ("b", 6))]
    page = report_html(runs, now=NOW)
    sound(page)
    assert "<h1>M = 4 · M = 6</h1>" in page
    assert page.count("Stages 0..1 are not trained yet") == 2
    assert "<svg" not in page
    assert "0 of 2" in page
    assert "<td>end to end</td>" not in page, "a row of nothing"
    assert "# M = 6" in page


def test_methods_are_compared_seed_by_seed(seeds: list[RunFacts]) -> None:
    other = [
        replace(
            facts,
            stages=[replace(one, record=one.record and _better(one.record)) for one in facts.stages],
            run=reopened(facts.run.path, "train.lr=0.05", f"seed={facts.seed}"),
        )
        for facts in seeds
    ]
    page = report_html([*seeds, *other], now=NOW)
    sound(page)
    row = "<td>lr 0.05</td><td>lr 0.1</td><td>stage 1</td><td class=number>+5.00</td>"
    assert f"{row}<td class=number>+5.00 .. +5.00</td><td class=number>2</td><td>lr 0.05 better</td>" in page


def _better(record: StageRecord) -> StageRecord:
    return msgspec.structs.replace(record, test_accuracy=record.test_accuracy + 5)


def test_a_damaged_record_among_several_runs_is_named(
    seeds: list[RunFacts], tmp_path: Path, cascade: Callable[..., Outcome]
) -> None:
    damaged, out = Path(shutil.copytree(seeds[1].run.path, tmp_path / "damaged")), tmp_path / "page.html"
    (path,) = damaged.glob("stages/0-*/stage.json")
    path.write_text("{}")
    code, _, err = cascade("report", "--run", seeds[0].run.path, "--run", damaged, "--out", out)
    assert (code, f"{path} is damaged" in err) == (4, True)
    assert not out.exists()


def test_one_training_is_not_counted_as_two(
    seeds: list[RunFacts], tmp_path: Path, cascade: Callable[..., Outcome]
) -> None:
    first, out, link = seeds[0].run.path, tmp_path / "page.html", tmp_path / "link"
    copy = Path(shutil.copytree(first, tmp_path / "copy"))
    code, _, err = cascade("report", "--run", first, "--run", copy, "--out", out)
    assert (code, out.exists()) == (2, False)
    assert f"{first} and {copy} hold the same training, of seed 0: it would count twice\nnext: " in err
    link.symlink_to(first)
    assert cascade("report", "--run", first, "--run", link, "--out", out)[0] == 0
    assert "Means of" not in out.read_text(), "it is the same folder"


def test_a_training_of_the_same_seed_that_came_out_otherwise_is_another(seeds: list[RunFacts]) -> None:
    first, last = seeds[0].stages
    assert last.record is not None
    content = {**last.record.content, "block": "of another machine"}
    other = replace(
        seeds[0], stages=[first, replace(last, record=msgspec.structs.replace(last.record, content=content))]
    )
    assert "Means of 2 runs" in report_html([seeds[0], other], now=NOW)


def test_of_a_sweep_its_seeds_are_reported(
    seeds: list[RunFacts], tmp_path: Path, cascade: Callable[..., Outcome]
) -> None:
    folder = Path(shutil.copytree(seeds[0].run.path, tmp_path / "run", ignore=shutil.ignore_patterns("stages")))
    for facts in seeds:
        shutil.copytree(facts.run.path, folder / "seeds" / str(facts.seed))
    record = train_baseline(reopened(folder), choose_device("cpu"), Reporter())
    assert cascade("report", "--run", folder)[:2] == (0, f"{folder / 'report.html'} written\n")
    page = (folder / "report.html").read_text()
    assert "Means of 2 runs" in page
    tile = f"<dt>trained end to end</dt><dd>{record.test_accuracy:.2f}\N{NARROW NO-BREAK SPACE}%</dd>"
    assert tile in page, "though it lies beside the seeds"


def test_a_place_that_no_page_belongs_in_is_refused(
    seeds: list[RunFacts], tmp_path: Path, cascade: Callable[..., Outcome]
) -> None:
    folder = seeds[0].run.path
    before = (folder / "cascade.toml").read_bytes()
    code, _, err = cascade("report", "--run", folder, "--out", folder / "cascade.toml")
    assert (code, "does not end in .html\nnext: " in err) == (2, True)
    assert (folder / "cascade.toml").read_bytes() == before
    code, _, err = cascade("report", "--run", folder, "--out", tmp_path / "no" / "page.html")
    assert (code, "there is no folder" in err) == (2, True)


def test_a_page_that_is_written_meanwhile_is_not_touched(
    seeds: list[RunFacts], tmp_path: Path, cascade: Callable[..., Outcome]
) -> None:
    other = tmp_path / ".page.html.new"
    other.write_text("of another process")
    assert cascade("report", "--run", seeds[0].run.path, "--out", tmp_path / "page.html")[0] == 0
    assert other.read_text() == "of another process"
    assert sorted(path.name for path in tmp_path.iterdir()) == [other.name, "page.html"]


def test_a_folder_that_cannot_be_written_is_told_of_with_another_place(
    seeds: list[RunFacts], tmp_path: Path, cascade: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *parts: bytes) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr("cache.files.write_synced", refuse)
    out = tmp_path / "page.html"
    code, _, err = cascade("report", "--run", seeds[0].run.path, "--out", out)
    assert (code, f"{out} cannot be written: Read-only file system\nnext: --out FILE.html" in err) == (1, True)


def test_a_folder_without_images_says_what_makes_them(tmp_path: Path, cascade: Callable[..., Outcome]) -> None:
    cascade("init", "digits", tmp_path / "run")
    code, _, err = cascade("report", "--run", tmp_path / "run")
    assert (code, "next: cascade ingest" in err) == (3, True)


def test_warnings_come_before_the_results(seeds: list[RunFacts]) -> None:
    page = report_html([replace(seeds[0], warnings=["stage 0 <waited>"])], now=NOW)
    assert 0 < page.index("<li>stage 0 &lt;waited&gt;</li>") < page.index("<h2>Results</h2>")
