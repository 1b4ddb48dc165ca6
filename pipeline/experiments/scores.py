"""What a run folder has scored on the test images, and what the seeds below one have."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.config_file import load_config
from pipeline.errors import RefusedError
from pipeline.evaluation import evaluate
from pipeline.experiments.places import SEEDS
from pipeline.experiments.seeds import seed_folder, seeds_there
from pipeline.runfolder import RunFolder

ENSEMBLE = "ensemble"


@dataclass(frozen=True)
class Scored:
    """One training."""

    path: Path
    seed: int
    images: str
    """Content hash of its images."""
    test: dict[str, float]
    """"stage J", or "ensemble" once all stages are trained -> test accuracy, percent."""
    train: dict[str, float]
    """"stage J" -> training accuracy as its record has it, percent."""


def scores_of(path: Path) -> dict[int, Scored]:
    """What is trained in a run folder, by seed: in those of its sweep where it has one, else in itself.

    Raises RefusedError where nothing is.
    """
    folders = [seed_folder(path, seed) for seed in seeds_there(path)] or [path]
    found = [one for one in map(scored, folders) if one.test]
    if not found:
        where = f"{path / SEEDS}" if folders != [path] else f"{path}"
        sweep = "cascade sweep --seeds 0..4" if folders != [path] else "cascade run"
        raise RefusedError(f"nothing is trained in {where} with its settings\nnext: {sweep} --run {path}")
    return {one.seed: one for one in found}


def scored(path: Path) -> Scored:
    """The scores of a run folder's stages up to the first that is not trained."""
    run = RunFolder(path, load_config(path))
    if run.stages[0].record is None:
        return Scored(path, run.config.seed, run.info.digest, {}, {})
    evaluation = evaluate(run)
    test = {f"stage {j}": scores.top1 for j, scores in evaluation.stages.items()}
    if len(evaluation.stages) == len(run.stages):
        test[ENSEMBLE] = evaluation.ensemble.top1
    records = [stage.record for stage in run.stages[: len(evaluation.stages)]]
    train = {f"stage {record.j}": record.train_accuracy for record in records if record is not None}
    return Scored(path, run.config.seed, run.info.digest, test, train)
