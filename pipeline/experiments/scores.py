"""What a run folder has scored on the test images."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.config_file import load_config
from pipeline.evaluation import evaluate
from pipeline.experiments.alike import Settings, settings_of
from pipeline.experiments.end_to_end import NAME, end_to_end
from pipeline.record import StageRecord
from pipeline.refits import find_refits
from pipeline.runfolder import RunFolder

ENSEMBLE = "ensemble"
END_TO_END = NAME


@dataclass(frozen=True)
class Scored:
    """One training."""

    path: Path
    seed: int
    images: str
    """Content hash of its images."""
    test: dict[str, float]
    """"stage J"; "ensemble" once all stages are trained; "last stage, head M" and "ensemble, head M" of a refit;
    "end to end" -> test accuracy, percent."""
    train: dict[str, float]
    """Those that are trained -> training accuracy as its record has it, percent."""
    settings: Settings = field(default_factory=dict)
    """What all of it depends on, beside the seed."""
    records: Mapping[str, StageRecord] = field(default_factory=dict)
    """Those that are trained -> their record."""


def scored(path: Path) -> Scored:
    """The scores of a run folder, by its config."""
    return scored_run(RunFolder(path, load_config(path)))


def scored_run(run: RunFolder) -> Scored:
    """The scores of the stages up to the first that is not trained, and of what is trained beside them."""
    if run.stages[0].record is None:
        return Scored(run.path, run.config.seed, run.info.digest, {}, {}, settings_of(run))
    evaluation, settings = evaluate(run), dict(settings_of(run))
    test = {f"stage {j}": scores.top1 for j, scores in evaluation.stages.items()}
    trained = {f"stage {j}": run.stages[j].record for j in evaluation.stages}
    if len(evaluation.stages) == len(run.stages):
        test[ENSEMBLE] = evaluation.ensemble.top1
    for again in evaluation.refits:
        test[_refitted(again.head_width)] = again.scores.top1
        test[f"{ENSEMBLE}, head {again.head_width}"] = again.ensemble.top1
    if evaluation.refits:
        trained |= {_refitted(one.head_width): one.folder.record for one in find_refits(run)}
    if evaluation.end_to_end is None:
        settings.pop(END_TO_END, None)
    else:
        test[END_TO_END] = evaluation.end_to_end.top1
        trained[END_TO_END] = end_to_end(run).folder.record
    known = {name: record for name, record in trained.items() if record is not None and name in test}
    train = {name: record.train_accuracy for name, record in known.items()}
    return Scored(run.path, run.config.seed, run.info.digest, test, train, settings, known)


def _refitted(width: int) -> str:
    return f"last stage, head {width}"


def in_order(names: Iterable[str]) -> list[str]:
    """Stages in turn, the ensemble, refits of the last by width, each with its ensemble, the network end to end."""

    def place(name: str) -> tuple[int, int, str]:
        if name in (ENSEMBLE, END_TO_END):
            return (1 if name == ENSEMBLE else 3, 0, name)
        return (0 if name.startswith("stage ") else 2, int(name.split()[-1]), f"{name.startswith(ENSEMBLE)}")

    return sorted(set(names), key=place)
