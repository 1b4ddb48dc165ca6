"""What lies where in the folder of one stage, or of what is trained as a stage is."""

from pathlib import Path

from cache import Fingerprint
from pipeline.record import StageRecord, foreign_record, read_record, stage_path


class StageFolder:
    """The folder of one stage under one key."""

    def __init__(self, stages: Path, j: int, key: str, rendering: str, encoding: str) -> None:
        self.path = path = stage_path(stages, j, key)
        self.j = j
        self.key = key
        self._rendering = rendering
        self._outputs = path / f"x_{j + 1}"
        self._encoding = encoding
        self.scale = path / f"scale.{encoding}.json"
        self.block = path / "block.safetensors"
        self.head = path / "head.safetensors"
        self.test_logits = path / "test_logits.safetensors"
        self.metrics = path / "metrics.jsonl"
        self.checkpoint = path / "checkpoint.safetensors"
        self.previous_checkpoint = path / "checkpoint.previous.safetensors"
        self.fault = path / "fault.json"
        self.record_path = path / "stage.json"

    @property
    def record(self) -> StageRecord | None:
        """The record of the finished stage, or None. Raises CorruptDataError where it is another stage's."""
        record = read_record(self.path)
        if record is not None and record.key != self.key:
            raise foreign_record(self.path, record)
        return record

    @property
    def missing(self) -> list[str]:
        """Names of the files that the finished stage must have and has not; what is in the others, `verify` says."""
        return [path.name for path in (self.block, self.head, self.test_logits, self.metrics) if not path.exists()]

    def output(self, split: str) -> Path:
        """Where x_{j+1} of a split is stored."""
        return self._outputs / ".".join([self._encoding, split, *self._rendered(split)])

    def output_fingerprint(self, split: str) -> Fingerprint:
        """What determines x_{j+1} of a split, for its store to be known by."""
        rendering = next(iter(self._rendered(split)), "test-time window")
        known = {"key": self.key, "index": self.j + 1, "split": split}
        return {**known, "rendering": rendering, "encoding": self._encoding}

    def outputs_of_other_policies(self) -> list[Path]:
        """Stores of x_{j+1} of training samples, whole or not, in other renderings, whose validation and test samples
        lie in the same stores as this one's."""
        own = self.output("train")
        beside = (path for path in self._outputs.glob(f"{self._encoding}.train.*") if path.is_dir() and path != own)
        return [path for path in beside if _is_canvas(path.name.rpartition(".")[2]) == _is_canvas(self._rendering)]

    def _rendered(self, split: str) -> list[str]:
        """The rendering, where a split is stored in it: canvases are in every split, views and phases in one."""
        if split == "train":
            return [self._rendering]
        return ["canvas"] if _is_canvas(self._rendering) else []


def _is_canvas(rendering: str) -> bool:
    return rendering.startswith("canvas")
