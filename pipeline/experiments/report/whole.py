"""A report: one HTML page on a run, finished or not, on several seeds of it, or on several methods."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version

from pipeline.experiments.report import comparison, sections
from pipeline.experiments.report.compared import compared_figures
from pipeline.experiments.report.experiments import compression_table, refits_table, transfers_table
from pipeline.experiments.report.facts import RunFacts
from pipeline.experiments.report.figure import Figure
from pipeline.experiments.report.figures import figures
from pipeline.experiments.report.methods import Method, sorted_out
from pipeline.experiments.report.openends import open_ends
from pipeline.experiments.report.page import figure_grid, folded, footer, page, paragraph, section, terms
from pipeline.experiments.report.words import described
from pipeline.tables import as_json

RESULTS = ("accuracy-by-depth", "ensemble-by-depth", "training-risk", "separability", "filters")
BESIDE = ("last-heads", "transfer")
COMPARED = (
    "accuracy-by-depth",
    "where-each-ends",
    "ensemble-by-depth",
    "training-by-depth",
    "training-risk",
    "separability",
)
TRAINING = ("accuracy-by-epoch", "loss-by-epoch")
COSTS = ("time", "throughput", "disk", "memory")
ROUNDING = ("signal-to-noise",)


def report_json(runs: Sequence[RunFacts]) -> str:
    """`{"methods": [{"name", "settings": {...}, "runs": [path]}], "runs": [{"path", "seed", "stages": [...],
    "warnings": [...], "refits": [...], "transfers": [...]}], "figures": [{"name", "series": [{"name", "segments":
    [[{"x", "y", "deviation", "n"}]]}], ...}]}`, the stages as `status --json` has them; settings are those in which
    methods differ."""
    methods = sorted_out(runs)
    found = [
        {
            "path": str(facts.run.path),
            "seed": facts.seed,
            "stages": [asdict(stage.status) for stage in facts.stages],
            "warnings": facts.warnings,
            "refits": facts.refits,
            "transfers": facts.transfers,
        }
        for facts in runs
    ]
    called = [
        {"name": one.name, "settings": one.settings, "runs": [str(facts.run.path) for facts in one.runs]}
        for one in methods
    ]
    made = figures(runs) if len(methods) == 1 else compared_figures(methods)
    return as_json({"methods": called, "runs": found, "figures": [_plain(figure) for figure in made]})


def _plain(figure: Figure) -> dict[str, object]:
    """All of a figure but the limits of its axis, which may be infinite."""
    return {name: value for name, value in asdict(figure).items() if name != "y_limits"}


def report_html(runs: Sequence[RunFacts], *, now: datetime) -> str:
    """The page, made `now`. Raises ConfigError of more methods than it tells apart."""
    methods = sorted_out(runs)
    made = footer(f"Made {now.strftime(sections.TIME)} by cascade {_version()}.")
    return _of_several(methods, made) if len(methods) > 1 else _of_one(methods[0], made)


def _of_one(method: Method, made: str) -> str:
    """One method, of one seed or several."""
    runs = method.runs
    named = [(method.named(facts, alone=True), facts) for facts in runs]
    grid = _Grid(figures(runs))
    return page(
        f"{sections.title(runs)}: report",
        sections.head(runs),
        open_ends(named),
        section(
            "Results",
            grid.of(RESULTS),
            sections.runs_table(runs),
            *(sections.stages_table(facts, name) for name, facts in named),
        ),
        section("Beside the stages", grid.of(BESIDE), *_beside(named)),
        section("Training", grid.of(TRAINING)),
        section("What it took", paragraph(sections.totals(runs)), grid.of(COSTS)),
        section("Rounding", grid.of(ROUNDING), sections.encodings_table(runs)),
        section(
            "What was run",
            terms(described([facts.run for facts in runs])),
            *(sections.provenance(facts, name) for name, facts in named),
        ),
        made,
    )


def _of_several(methods: Sequence[Method], made: str) -> str:
    """Methods beside each other."""
    named = [(method.named(facts), facts) for method in methods for facts in method.runs]
    grid = _Grid(compared_figures(methods))
    return page(
        f"{comparison.comparison_title(methods)}: report",
        comparison.comparison_head(methods),
        open_ends(named),
        section(
            "Results",
            comparison.settings_table(methods),
            grid.of(COMPARED),
            comparison.methods_table(methods),
            comparison.by_stage_table(methods),
            comparison.differences_table(methods),
        ),
        section("Beside the stages", *_beside(named)),
        section("What it took", grid.of(COSTS)),
        section("The runs", *(sections.stages_table(facts, name) for name, facts in named)),
        section("What was run", *map(_what_was_run, methods)),
        made,
    )


def _beside(named: Sequence[tuple[str, RunFacts]]) -> list[str]:
    tables = (compression_table, refits_table, transfers_table)
    return [made(facts, name) for made in tables for name, facts in named]


def _what_was_run(method: Method) -> str:
    """One of several methods, in words."""
    runs = [facts.run for facts in method.runs]
    provenance = "".join(sections.provenance(facts, method.named(facts)) for facts in method.runs)
    return folded(method.in_full, terms(described(runs)) + provenance)


class _Grid:
    """Figures by their names."""

    def __init__(self, made: Sequence[Figure]) -> None:
        self._made = {figure.name: figure for figure in made}

    def of(self, names: Sequence[str]) -> str:
        """Those of them that there are, beside each other."""
        return figure_grid([self._made[name] for name in names if name in self._made])


def _version() -> str:
    try:
        return version("cascade-layerwise")
    except PackageNotFoundError:
        return "from its source tree"
