"""A run folder: everything of one training, and where in it what lies.

cascade.toml                        the config
rates.json                          what the machine does with the network's stages
steps.json                          what real training steps took of the device's memory
plan.json                           the stores to keep, with what they were predicted to take
x_0/{train,validation,test}/        the images, ingested
stages/J-KEY/                       one trained stage, KEY the first digits of its key
    stage.json                      its record, written last
    block.safetensors               theta_j
    head.safetensors                gamma_j
    test_logits.safetensors         outputs for the test split, row by row as stored
    metrics.jsonl                   one line an epoch
    checkpoint.safetensors          only while it trains
    checkpoint.previous.safetensors the one before it
    fault.json                      where a loss was no number
    scale.ENCODING.json             scale of x_{j+1} in that encoding, and what it costs
    x_{j+1}/ENCODING.{train.VIEWS,validation,test}/  what it wrote back; of canvases, validation.canvas, test.canvas
baselines/, probes/                 what is trained beside the stages (`pipeline.experiments.places`)
"""

import shlex
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import msgspec

from cache import JOURNAL, MANIFEST, CodecName, Fingerprint, NoStoreError, Store, committed_bytes
from cascade import StageShape
from pipeline.branches import nearest_changes, read_records
from pipeline.config import Cache, Config
from pipeline.data_info import (
    X_0,
    DataInfo,
    check_all_images,
    check_images,
    check_same_data,
    read_data_info,
    x_0_fingerprint,
)
from pipeline.errors import CorruptDataError, RefusedError
from pipeline.host import host_budget
from pipeline.keys import Fields, all_stage_fields, is_rendered_alike, key_of, settings_of_views
from pipeline.links import check_unlinked
from pipeline.outline import Outline
from pipeline.owner import images_again, no_images
from pipeline.paths import matching, run_option
from pipeline.record import Accepted, StageRecord
from pipeline.shapes import network_shapes
from pipeline.stage_folder import StageFolder
from pipeline.stepmemory import MeasuredSteps, read_steps


class RunFolder:
    """A run folder whose images are ingested, seen through a config; `settings` are those of it given by `--set`.

    `stand_ins` are records of stages of another branch that stand in for those of the config, by their index, and
    `accepted` is what is to be said of them; see `pipeline.acceptance`.
    """

    def __init__(
        self,
        path: Path,
        config: Config,
        settings: Sequence[str] = (),
        *,
        stand_ins: Mapping[int, StageRecord] | None = None,
        accepted: Sequence[Accepted] = (),
        accepts_stale: bool = False,
    ) -> None:
        self.path = path
        self.config = config
        self.settings = settings
        self.accepted = accepted
        self.accepts_stale = accepts_stale
        self.asked = config
        """As it was given, where `config` has the stores of a plan."""
        self.frees = config.cache.keep == "needed"
        """Whether each x_j is deleted once nothing will read it again."""
        self.drops: Sequence[int] = ()
        """Indices of x_j that a plan has no use and no room for: they are deleted before it begins."""
        self.shares: Mapping[str, Mapping[CodecName, float]] = {}
        """Place of an x_j that a plan has a sample of -> codec -> what that leaves of it."""
        info = read_data_info(path)
        if info is None:
            raise no_images(path)
        check_same_data(info, config, path)
        self.info: DataInfo = info
        self.side = config.augment.crop or info.side
        self.shapes: list[StageShape] = network_shapes(config, channels=info.channels, image_side=info.side)
        self._stand_in_records = dict(stand_ins or {})
        self._stand_ins = {j: record.fields for j, record in self._stand_in_records.items()}
        self.fields: list[Fields] = all_stage_fields(config, info, self.shapes, self._stand_ins)
        self.stages = [
            StageFolder(
                path / "stages", j, key_of(fields), config.augment.rendering, config.for_stage(j).store.encoding
            )
            for j, fields in enumerate(self.fields)
        ]

    @cached_property
    def host_bytes(self) -> int:
        """Bytes of host memory that reading may take. Of a "free" budget as it was when it was first asked for, so that
        what is planned and checked beforehand is what is then read with."""
        return host_budget(self.config)

    @property
    def splits(self) -> list[str]:
        """The splits that hold samples."""
        return list(self.info.samples)

    @property
    def classes(self) -> int:
        return len(self.info.classes)

    @property
    def outline(self) -> Outline:
        """The run as arithmetic. Raises CorruptDataError where what real steps took cannot be read."""
        return replace(self._shaped, steps=self._steps)

    @property
    def _shaped(self) -> Outline:
        """The same for whoever asks for no step's memory."""
        return Outline(
            config=self.config,
            channels=self.info.channels,
            side=self.info.side,
            classes=self.classes,
            samples=dict(self.info.samples),
            shapes=self.shapes,
        )

    @cached_property
    def _steps(self) -> MeasuredSteps:
        return read_steps(self.path)

    def output_shape(self, j: int) -> tuple[int, int, int]:
        """(C, H, W) of x_{j+1} as it is stored: of windows, or under "canvas" of canvases."""
        return self._shaped.output_shape(j)

    def input_shape(self, j: int) -> tuple[int, int]:
        """Channels and side of x_j as stage j sees it, j from 0 to J."""
        if j == len(self.shapes):
            return self.shapes[-1].out_channels, self.shapes[-1].out_side
        return self.shapes[j].in_channels, self.shapes[j].in_side

    def following(
        self,
        stores: Sequence[int],
        *,
        frees: bool,
        drops: Sequence[int] = (),
        shares: Mapping[str, Mapping[CodecName, float]] | None = None,
    ) -> "RunFolder":
        """The same folder with these x_j to be stored, j >= 1, and those of `drops` to go, which changes no key."""
        run = copy(self)
        run.config = msgspec.structs.replace(self.config, cache=Cache(keep=list(stores)))
        run.frees = frees
        run.drops = drops
        run.shares = shares or {}
        return run

    def keeping(self, cache: Cache) -> "RunFolder":
        """The same folder under another [cache], which changes no key."""
        run = copy(self)
        run.config = msgspec.structs.replace(self.config, cache=cache)
        run.frees = cache.keep == "needed"
        return run

    def under(self, config: Config, settings: Sequence[str]) -> "RunFolder":
        """The same folder under a config, of `settings`, whose last stage is another: nothing stands in for it."""
        before = {j: record for j, record in self._stand_in_records.items() if j < len(self.stages) - 1}
        accepted = [one for one in self.accepted if one.stage in before]
        run = RunFolder(
            self.path, config, settings, stand_ins=before, accepted=accepted, accepts_stale=self.accepts_stale
        )
        run.frees = self.frees
        return run

    def command(self, command: str, *settings: str) -> str:
        """A cascade command for this folder, its settings and then those given, to show to the user."""
        overrides = "".join(f" --set {shlex.quote(setting)}" for setting in (*self.settings, *settings))
        accepting = " --accept-stale" if self.accepts_stale else ""
        return f"cascade {command}{run_option(self.path)}{overrides}{accepting}"

    def train_command(self, j: int) -> str:
        """The command that trains stage j, with --accept-stale only where a stage before it is accepted."""
        command = self.command(f"train-stage --j {j}")
        return command if self._accepts_before(j) else command.removesuffix(" --accept-stale")

    def run_command(self, j: int) -> str:
        """The command that trains all stages; from j on where one before it is accepted, or none would be."""
        if self._accepts_before(j):
            return self.command(f"run --from {j}")
        return self.command("run").removesuffix(" --accept-stale")

    def _accepts_before(self, j: int) -> bool:
        return any(one.stage < j for one in self.accepted)

    def store(self, index: int, split: str) -> Path:
        """Where x_index of a split is stored, if it is."""
        return self.path / X_0 / split if index == 0 else self.stages[index - 1].output(split)

    def stored_bytes(self, index: int, split: str) -> int:
        """Bytes on disk of x_index of a split, 0 where it is not stored."""
        return store_bytes(self.store(index, split))

    def committed_stores(self) -> list[Path]:
        """Every committed store in the folder, of whatever key or rendering."""
        patterns = (f"{X_0}/[!.]*/{MANIFEST}", f"stages/[!.]*/x_*/[!.]*/{MANIFEST}")
        return sorted(path.parent for pattern in patterns for path in matching(self.path, pattern))

    def fingerprint(self, index: int, split: str) -> Fingerprint:
        """What determines x_index of a split."""
        return self.stages[index - 1].output_fingerprint(split) if index else x_0_fingerprint(self.info.data, split)

    def open_store(self, index: int, split: str) -> Store:
        """The committed store of x_index of a split.

        Raises NoStoreError or CorruptStoreError, CorruptDataError where it lies behind a link or is of other images,
        and RefusedError where the store is of something else.
        """
        self.check_unlinked(self.store(index, split))
        store, expected = Store(self.store(index, split)), self.fingerprint(index, split)
        found = store.manifest.summary.fingerprint
        if found != expected:
            changed = [name for name in {**expected, **found} if found.get(name) != expected.get(name)]
            raise RefusedError(
                f"{store.path} is not x_{index} {split} of the stage whose folder it is in: another "
                f"{', '.join(changed)}\nnext: {self.made_again(index)}"
            )
        found_shape, shape = (store.views, store.samples, *store.sample_shape), self._whole_shape(index, split)
        if found_shape != shape:
            raise CorruptDataError(
                f"{store.path} has shape {found_shape}, and {shape} belongs there\nnext: {self.made_again(index)}"
            )
        if self.config.order.run % store.chunk_samples:
            raise CorruptDataError(
                f"{store.path} has chunks of {store.chunk_samples} samples, and order.run = {self.config.order.run} "
                f"is no multiple\nnext: {self.made_again(index)}"
            )
        if index == 0:
            check_images(self.info, self.path, split, store.manifest.summary)
        return store

    def _whole_shape(self, index: int, split: str) -> tuple[int, ...]:
        """(view, sample, C, H, W) of x_index of a split."""
        samples = self.info.samples[split]
        if index == 0:
            return (1, samples, self.info.channels, self.info.side, self.info.side)
        views = self.config.augment.stored_views if split == "train" else 1
        return (views, samples, *self.output_shape(index - 1))

    def made_again(self, index: int) -> str:
        """What to do where x_index is whole, and not what belongs in its place."""
        return "delete it; it is made again" if index else images_again(self.path)

    def has_store(self, index: int, split: str) -> bool:
        """Whether x_index of a split was committed, if only to be lost since: x_0 was, and others as far as is seen."""
        return index == 0 or not is_unfinished(self.store(index, split))

    def lost(self, index: int) -> str:
        """Which splits of x_index lost their manifest, and what to type; "" where none did.

        Said of what will not be taken for deleted, or for a store that was never finished.
        """
        splits = [split for split in self.splits if is_lost(self.store(index, split))]
        what = f"x_{index} {', '.join(splits)}: {MANIFEST} is missing: {self.command('repair')}"
        return what if splits and self.is_rendered_alike(index) else ""

    def check_unlinked(self, path: Path) -> None:
        """Raise CorruptDataError where a store or stage lies behind a link; the run folder and x_0 may be links."""
        x_0 = self.path / X_0
        check_unlinked(path, below=x_0 if x_0 in path.parents else self.path)

    def check_stores_unlinked(self, index: int) -> None:
        """The same of the places of x_index of every split."""
        for split in self.splits:
            self.check_unlinked(self.store(index, split))

    def is_stored(self, index: int) -> bool:
        """Whether x_index is committed for every split, so that a stage can start from it.

        Stores in the folder of a stand-in count only where they hold the views that the config describes.
        """
        return self.is_rendered_alike(index) and all(is_committed(self.store(index, split)) for split in self.splits)

    def is_rendered_alike(self, index: int) -> bool:
        """Whether the place of x_index is for the views that the config describes, and not a stand-in's for others."""
        stand_in = self._stand_ins.get(index - 1)
        return stand_in is None or is_rendered_alike(stand_in, self.config)

    def settings_of_views(self, index: int) -> list[str]:
        """What is to be set, as "seed=1", for the config to describe the views in the place of x_index."""
        stand_in = self._stand_ins.get(index - 1)
        return [] if stand_in is None else settings_of_views(stand_in, self.config)

    def is_stand_in(self, j: int) -> bool:
        """Whether stage j is of another branch than the config's."""
        return j in self._stand_ins

    def nearest(self, j: int, is_there: Callable[[int], bool]) -> int:
        """The largest i <= j of an x_i, i >= 1, that `is_there` and that stage j may start from; else 0, the images."""
        return self._shaped.nearest(j, is_there)

    def anchor(self, j: int) -> int:
        """The index of the nearest store that stage j can start from.

        Raises RefusedError where a block between is not trained, CorruptDataError where x_0 is not what was ingested.
        """
        anchor = self.nearest(j, self.is_stored)
        self.check_trained(anchor, j)
        self.check_x_0(self.splits)
        return anchor

    def check_x_0(self, needed: Sequence[str]) -> None:
        """Raise CorruptDataError where x_0 of a split that is needed is not there, or x_0 not what was ingested."""
        if not all(is_committed(self.store(0, split)) for split in needed):
            raise CorruptDataError(
                f"x_0 of {self.path} is not complete\nnext: {self.command('repair')}, which makes it from the images"
            )
        check_all_images(self.info, self.path)

    def check_stage(self, j: int) -> None:
        """Raise ConfigError where the network has no stage j."""
        self._shaped.check_stage(j)

    def check_trained(self, start: int, stop: int) -> None:
        """Raise RefusedError where a stage of start..stop-1 is not trained with these settings."""
        for i in range(start, stop):
            if self.stages[i].record is None:
                raise RefusedError(
                    f"block {i} is needed first, and it is not trained{self._why_not(i)}\n"
                    f"next: {self.train_command(i)}, or {self.run_command(i)} for all in turn"
                )

    def changes(self, j: int) -> str:
        """What differs between stage j as it was trained, in the branch nearest to the config, and the config."""
        return "; ".join(nearest_changes(j, self.fields, read_records(self.path / "stages")))

    def _why_not(self, j: int) -> str:
        changes = self.changes(j)
        if not changes and j and any(record.j == j for record in read_records(self.path / "stages").values()):
            return ";\nwhat other branches have of it was trained on other blocks: cascade status lists them"
        if not changes:
            return ""
        why = f" with these settings ({changes})"
        if not self.config.stages:
            why += "\nto change a setting of one stage alone: --set stages.J.train.lr=0.05"
        return why if self.accepts_stale else f"{why}\nto go on from the stage as it is: --accept-stale"


def is_committed(store: Path) -> bool:
    """Whether a committed store lies at this path."""
    return (store / MANIFEST).exists()


def is_unfinished(store: Path) -> bool:
    """Whether what lies at this path was never committed: it has a journal, or metadata, the last before the manifest,
    has not come yet."""
    return not is_committed(store) and ((store / JOURNAL).exists() or not (store / "x" / "zarr.json").exists())


def is_lost(store: Path) -> bool:
    """Whether what lies at this path is a store that was committed, and has lost what shows it."""
    return store.is_dir() and not is_committed(store) and not is_unfinished(store)


def store_bytes(store: Path) -> int:
    """Bytes on disk of a committed store, all its files together, 0 where there is none."""
    try:
        return committed_bytes(store)
    except NoStoreError:
        return 0
