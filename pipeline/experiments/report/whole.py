"""A report: one HTML page on a run, finished or not, or on several that differ in their seeds alone."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version

import msgspec

from pipeline.config import Data
from pipeline.data_info import moved_name
from pipeline.errors import ConfigError
from pipeline.experiments.report import sections
from pipeline.experiments.report.facts import RunFacts
from pipeline.experiments.report.figure import Figure
from pipeline.experiments.report.figures import figures
from pipeline.experiments.report.page import figure_grid, footer, page, paragraph, section, terms
from pipeline.experiments.report.words import described
from pipeline.keys import differences
from pipeline.runfolder import RunFolder
from pipeline.tables import as_json

RESULTS = ("accuracy-by-depth", "ensemble-by-depth", "separability")
TRAINING = ("accuracy-by-epoch", "loss-by-epoch")
COSTS = ("time", "throughput", "disk", "memory")
ROUNDING = ("signal-to-noise",)


def check_alike(runs: Sequence[RunFolder]) -> None:
    """Raise ConfigError where runs differ in more than their seeds: their mean would be of nothing."""
    for other in runs[1:]:
        if found := _difference(runs[0], other):
            raise ConfigError(
                f"{runs[0].path} and {other.path} differ in more than their seeds: {found}\n"
                f"next: a report of each, or of runs that differ in seed and data.seed alone"
            )


def _difference(run: RunFolder, other: RunFolder) -> str:
    """What differs beside the seeds; "" where nothing does."""
    if len(run.stages) != len(other.stages):
        return f"network.stages {len(run.stages)} -> {len(other.stages)}"
    data, others = (_beside_seed(one.info.data) for one in (run, other))
    if data != others:
        return "the images, by the [data] section"
    if run.info.data.seed == other.info.data.seed and run.info.digest != other.info.digest:
        return "the images, by their content"
    for j, (then, now) in enumerate(zip(run.fields, other.fields, strict=True)):
        if found := differences({**then, "seed": 0}, {**now, "seed": 0}):
            return f"stage {j} {', '.join(found)}"
    return ""


def _beside_seed(data: Data) -> tuple[Data, tuple[str, str]]:
    """A [data] section without its seed, of the address what stays where files move."""
    return msgspec.structs.replace(data, seed=0, source=""), moved_name(data.source)


def report_json(runs: Sequence[RunFacts]) -> str:
    """`{"runs": [{"path", "seed", "stages": [...], "warnings": [...]}], "figures": [{"name", "series": [{"name",
    "segments": [[{"x", "y", "deviation", "n"}]]}], ...}]}`, the stages as `status --json` has them."""
    found = [
        {
            "path": str(facts.run.path),
            "seed": facts.seed,
            "stages": [asdict(stage.status) for stage in facts.stages],
            "warnings": facts.warnings,
        }
        for facts in runs
    ]
    return as_json({"runs": found, "figures": [_plain(figure) for figure in figures(runs)]})


def _plain(figure: Figure) -> dict[str, object]:
    """All of a figure but the limits of its axis, which may be infinite."""
    return {name: value for name, value in asdict(figure).items() if name != "y_limits"}


def report_html(runs: Sequence[RunFacts], *, now: datetime) -> str:
    """The page, made `now`."""
    made = {figure.name: figure for figure in figures(runs)}

    def grid(*names: str) -> str:
        return figure_grid([made[name] for name in names if name in made])

    title = sections.title(runs)
    return page(
        f"{title}: report",
        sections.head(runs),
        sections.open_ends(runs),
        section(
            "Results", grid(*RESULTS), sections.runs_table(runs), *(sections.stages_table(one, runs) for one in runs)
        ),
        section("Training", grid(*TRAINING)),
        section("What it took", paragraph(sections.totals(runs)), grid(*COSTS)),
        section("Rounding", grid(*ROUNDING), sections.encodings_table(runs)),
        section(
            "What was run",
            terms(described([facts.run for facts in runs])),
            *(sections.provenance(one, runs) for one in runs),
        ),
        footer(f"Made {now.strftime(sections.TIME)} by cascade {_version()}."),
    )


def _version() -> str:
    try:
        return version("cascade-layerwise")
    except PackageNotFoundError:
        return "from its source tree"
