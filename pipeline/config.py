"""The config of a run: every field with its range and default."""

import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

Positive = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Natural = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Pixels = Annotated[int, Meta(ge=0, le=2**13)]
Count = Annotated[int, Meta(ge=1, le=2**16)]
"""A positive number of things that are all made: beyond these it is a slip of the hand."""
Bytes = str | Positive
"""A budget."""
EXPECTED_BYTES = 'expected 1 to 9223372036854775807 bytes, as in 4096, "512 MB", "1.5 GB" or "1.5 GiB", or "free"'
MIN_BATCH = 8
"""Below about eight samples a convolution on the CPU rounds differently, and stored would differ from replayed x_j."""

MAX_BATCH = 2**20
"""More than any method takes, and a slip of the hand."""


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of the file."""


class Data(Section, frozen=True, kw_only=True):
    source: str
    """Address of the data set: digits:, npz:FILE, folder:DIR or torchvision:NAME."""
    canvas: Pixels = 0
    """Side, in pixels: the shorter side is resized to it and the centre kept; 0 takes the images as they are."""
    channels: Literal[0, 1, 3] = 0
    """1 for grey, 3 for RGB, 0 to find out from the images."""
    validation: Annotated[float, Meta(ge=0, lt=1)] = 0.1
    """Share of the training set held out, class by class, to choose by. May be 0."""
    seed: Natural = 0
    """Of the sample order and the held-out share; apart from the training seed, so that seeds share one x_0."""


class NetworkSection(Section, frozen=True, kw_only=True):
    stages: Annotated[int, Meta(ge=1, le=1000)]
    """J, the number of blocks."""
    width: Count
    """M, channels of block 0; doubles at each down-sampling after it."""
    downsample_at: list[Natural] = []
    """The j where P_j samples down. 0 is the down-sampling of the image itself."""
    downsample: Literal["invertible", "strided", "average", "max"] = "invertible"
    """How P samples down."""
    batch_norm: bool = True
    """Batch norm in blocks and heads; the paper has none for k = 1."""
    bn_group: Natural = 0
    """Samples that batch norm takes its statistics over in training, and that a similarity loss compares, a multiple of
    eight that divides the batch size: a step can then be taken in parts of whole groups. 0 is the whole batch."""
    bias: Literal["auto", "all", "none"] = "auto"
    """Which convolutions have a bias: "auto", those that no batch norm follows, as in the released code; all, as in the
    paper's text; or none, as on some paths of the code."""
    residual: bool = False
    """Add x_j to the output of every block that keeps its shape, before the ReLU; not the paper's."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the convolutions of every stage. "auto": bfloat16 where the device gains from it, float32 elsewhere (on CUDA
    as torch computes float32, with TF32)."""

    @property
    def has_bias(self) -> bool:
        """Whether convolutions have a bias."""
        return not self.batch_norm if self.bias == "auto" else self.bias == "all"


class HeadSection(Section, frozen=True, kw_only=True):
    k: Annotated[int, Meta(ge=1, le=1000)]
    """Hidden layers of the auxiliary problem, the block counted: the head has k - 1 of its own."""
    width: Count = 256
    """M_aux, channels of the head of stage 0; doubles with the blocks."""
    pool: Count = 1
    """Average over so many pixels a side before the head's convolutions; 1 is the paper's head."""
    average: Literal["adaptive", "floor"] = "adaptive"
    """How a head averages an odd side to 2: over all pixels, or without the last, as the released code does."""
    pooled_norm: bool = True
    """Where there is batch norm, another one after that average, as in the released code."""
    similarity: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Share of the loss that is the similarity loss of Nøkland and Eidnes (2019), who take 0.99, the rest being cross
    entropy; not the paper's. The network end to end and probes are trained without it."""


class Augment(Section, frozen=True, kw_only=True):
    crop: Pixels = 0
    """Side of the training and test window, in pixels; 0 is the side of the images."""
    padding: Pixels = 0
    """Black pixels added on each side before the random crop."""
    flip: bool = False
    """Flip half of the images horizontally."""
    scale: Annotated[list[Annotated[float, Meta(gt=0, le=1)]], Meta(max_length=2)] = []
    """Least and largest share of the image that a training window shows, resized to its side: RandomResizedCrop
    (Szegedy et al., 2015), [0.08, 1.0] being usual for ImageNet; [] cuts windows as they are. Without padding, and
    not under the policy "canvas"."""
    ratio: Annotated[list[Annotated[float, Meta(ge=0.01, le=100)]], Meta(min_length=2, max_length=2)] = msgspec.field(
        default_factory=lambda: [3 / 4, 4 / 3]
    )
    """Least and largest width by height, evenly in its logarithm, of what is resized so."""
    cutout: Pixels = 0
    """Side of a square of mean grey, in pixels, somewhere in each training image (DeVries and Taylor, 2017), in stored
    views too; under the policy "canvas" only where images are read."""
    policy: Literal["recompute", "views", "canvas", "none"] = "views"
    """What stages after the first train on: fresh draws through the prefix, stored draws, windows cut from stored
    features of the whole padded image and its mirror image, or one fixed rendering."""
    views: Count = 4
    """Stored draws of each sample, under the policy "views"."""
    phases: Literal[1, 2, 4] = 1
    """Stored shifts of each canvas, by (0, 0), (1, 1), (0, 1) and (1, 0) pixels of the image, under the policy
    "canvas": so that windows of features that were sampled down begin at odd pixels of the image too."""
    cut_at: Natural = 0
    """Under the policy "canvas", the a >= 1 whose x_a later stages cut their windows from and take through blocks
    a..j-1, with nothing past x_a stored; 0 lets every stage cut its own x_j."""

    @property
    def rendering(self) -> str:
        """Name of what stages after the first train on, as in "views-4" or "canvas-2"."""
        if self.policy == "canvas" and self.phases > 1:
            return f"canvas-{self.phases}"
        return f"views-{self.views}" if self.policy == "views" else self.policy

    @property
    def is_random(self) -> bool:
        """Whether two draws of an image may differ."""
        return bool(self.crop or self.padding or self.flip or self.cutout or self.scale)

    @property
    def stored_views(self) -> int:
        """Views in a store of training samples past x_0."""
        match self.policy:
            case "views":
                return self.views
            case "canvas":
                return self.phases * (1 + self.flip)
        return 1

    def last_anchor(self, j: int) -> int:
        """The largest i of an x_i that stage j may start from; under "canvas" its windows are cut from this x_i."""
        if self.policy == "recompute":
            return 0
        return min(j, self.cut_at) if self.policy == "canvas" and self.cut_at else j


class Train(Section, frozen=True, kw_only=True):
    epochs: Positive = 50
    """Epochs of each stage."""
    batch_size: Annotated[int, Meta(ge=MIN_BATCH, le=MAX_BATCH)] = 128
    """Samples in a step; a last batch of less than eight waits for the next epoch."""
    lr: Annotated[float, Meta(gt=0, le=1000)] = 0.1
    """Learning rate at the start of each stage."""
    schedule: Literal["step", "cosine"] = "step"
    """Of the learning rate within a stage: the paper's drops, or half a cosine to 0 (Loshchilov and Hutter, 2017)."""
    lr_drop_every: Positive = 15
    """Epochs between drops of the learning rate, under the schedule "step"."""
    lr_drop_factor: Annotated[float, Meta(gt=0, le=1)] = 0.2
    """What the learning rate is multiplied by at a drop."""
    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.9
    """Of SGD, without Nesterov."""
    reset_momentum: bool = True
    """Forget the momentum at each drop, as the released code does."""
    weight_decay: Annotated[float, Meta(ge=0, le=1000)] = 5e-4
    """On every parameter; in the released code, absent from the paper."""
    start: Literal["random", "identity"] = "random"
    """Where a stage starts: from drawn weights, or, past stage 0, from the identity as its block and the head of the
    stage before (Prop. 3.1); that takes a stage that does not sample down, the same head, and no batch norm."""
    keep: Literal["last", "best"] = "last"
    """What is kept of a stage: the weights after the last epoch, as in the released code, or those of least training
    risk, of the start and of the end of each epoch. The risk is the mean cross entropy over all training samples in
    evaluation mode, in the test-time window, under the policy "views" past stage 0 of view 0: a pass an epoch more."""
    label_smoothing: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Share of the target that goes to all classes alike (Szegedy et al., 2016); the paper has none."""


class Order(Section, frozen=True, kw_only=True):
    run: Annotated[int, Meta(ge=MIN_BATCH, le=2**16)] = 128
    """Consecutive samples that are read together and share a view within an epoch."""
    window: Positive = 2048
    """Samples that are mixed at a time; a multiple of `run`."""


class StoreSection(Section, frozen=True, kw_only=True):
    encoding: Literal["float32", "float16", "uint8", "uint4"] = "float16"
    """How x_{j+1} becomes stored numbers. Part of the method of what follows: replayed stages see the same numbers."""
    codec: Literal["auto", "none", "lz4", "zstd"] = "auto"
    """How stored numbers become bytes, losslessly. Changes no result. "auto" measures a chunk against the disk."""


class Cache(Section, frozen=True, kw_only=True):
    keep: Literal["auto", "all", "needed", "none"] | list[Positive] = "auto"
    """Which x_j to store, j >= 1: those of the plan; "all" up to x_{J-1}; "needed", the same, each deleted once nothing
    will read it again; "none"; or a list. Changes no result."""


class Machine(Section, frozen=True, kw_only=True):
    device: str = "auto"
    """A torch device, or auto: CUDA where there is one, else the CPU."""
    micro_batch: Natural = 0
    """Samples that are taken through a stage at a time; the gradients of a batch are summed. Divides the batch size,
    in whole groups of `network.bn_group`. 0 is the most that fits in `budget.device`."""
    recompute: Literal["auto", "never", "always"] = "auto"
    """Whether a stage keeps only the inputs of its parts for the backward pass and computes the rest once more: less
    memory for a third more arithmetic. "auto": where nothing else fits in `budget.device`."""
    shrink: bool = False
    """Where the device is out of memory, go on from the last checkpoint with a smaller micro-batch; else stop."""
    compile: bool = False
    """Let torch.compile make the training step, which takes a minute or two and a C++ compiler."""
    deterministic: bool = False
    """Have CUDA compute the same bits each time, which takes longer. A CPU does, at one number of threads."""
    checkpoint_minutes: Annotated[float, Meta(ge=0)] = 10.0
    """Between checkpoints within an epoch; there is one after each epoch anyway."""
    threads: Annotated[int, Meta(ge=1, le=1000)] = 2
    """Threads that read, and threads that write."""


class Budget(Section, frozen=True, kw_only=True):
    """What a run may take: bytes, or a number with KB, MB, GB or TB, powers of 1000, or with KiB, MiB, GiB or TiB, of
    1024; "free" is what the machine has free."""

    device: Bytes = "free"
    """Memory of the GPU: a stage, and in what is left of it stored x_j, a split that fits as a whole."""
    host: Bytes = "free"
    """Memory of the host that reading takes: two windows of samples, and in what is left decoded chunks, which are then
    read from disk only once. "free" is half of it."""
    disk: Bytes = "free"
    """Of the run folder, x_0 included; of all seeds of a sweep together."""


class Evaluate(Section, frozen=True, kw_only=True):
    ensemble: Literal["logits", "softmax"] = "logits"
    """What the ensemble averages; the released code takes softmax on ImageNet."""


class Compress(Section, frozen=True, kw_only=True):
    """Compression while training: once a stage is trained, its weakest filters are cut off, and its head is tuned to
    what is left."""

    keep: Annotated[float, Meta(gt=0, le=1)] = 1.0
    """Share of the filters of each block that stay, by their Taylor criterion; 1 is no compression."""
    epochs: Positive = 20
    """Epochs that the head is tuned for afterwards, the block as it is."""
    lr: Annotated[float, Meta(gt=0, le=1000)] = 0.01
    """Learning rate at the start of these; it drops as in training. The paper names none."""

    def kept(self, filters: int) -> int:
        """How many of them stay."""
        return max(int(filters * self.keep + 0.5), 1)


class StageOverrides(Section, frozen=True, kw_only=True):
    """`[stages.J.*]`: what differs in one stage."""

    head: dict[str, Any] = {}
    train: dict[str, Any] = {}
    store: dict[str, Any] = {}
    compress: dict[str, Any] = {}


class BaselineSection(Section, frozen=True, kw_only=True):
    """`[baseline]`: the same network trained end to end, from the images to the last stage's head."""

    head_width: Annotated[int, Meta(ge=0, le=2**16)] = 0
    """Channels of the head's hidden layers, as they are; 0 for as many as the last stage's head has."""
    train: dict[str, Any] = {}
    """What differs from the last stage's [train], as in [baseline.train] epochs = 120."""


class ProbeSection(Section, frozen=True, kw_only=True):
    """`[probe]`: classifiers that are trained on x_j to see what can be read off it."""

    samples: Annotated[int, Meta(ge=MIN_BATCH, le=2**63 - 1)] = 10_000
    """Training samples, at most, that a linear probe is fitted on; it holds their features in host memory."""
    train: dict[str, Any] = {}
    """What differs from [train] in the training of a CNN probe, as in [probe.train] epochs = 20."""


class Config(Section, frozen=True, kw_only=True):
    data: Data
    network: NetworkSection
    head: HeadSection
    seed: Natural = 0
    """Of weights, order and augmentation."""
    augment: Augment = Augment()
    train: Train = Train()
    order: Order = Order()
    store: StoreSection = StoreSection()
    compress: Compress = Compress()
    cache: Cache = Cache()
    machine: Machine = Machine()
    budget: Budget = Budget()
    evaluate: Evaluate = Evaluate()
    baseline: BaselineSection = BaselineSection()
    probe: ProbeSection = ProbeSection()
    stages: dict[str, StageOverrides] = {}

    def for_stage(self, j: int) -> "Config":
        """The config as stage j sees it, its overrides merged in."""
        own = self.stages.get(str(j), StageOverrides())
        return msgspec.structs.replace(
            self,
            head=msgspec.structs.replace(self.head, **own.head),
            train=msgspec.structs.replace(self.train, **own.train),
            store=msgspec.structs.replace(self.store, **own.store),
            compress=msgspec.structs.replace(self.compress, **own.compress),
        )

    @property
    def baseline_train(self) -> Train:
        """How the network is trained end to end, from random weights: as its last stage, but for what [baseline.train]
        says."""
        last = self.for_stage(self.network.stages - 1).train
        return msgspec.structs.replace(last, **{**self.baseline.train, "start": "random"})

    @property
    def probe_train(self) -> Train:
        """How a CNN probe is trained, from random weights, on any x_j alike: by [train], but for what [probe.train]
        says."""
        return msgspec.structs.replace(self.train, **{**self.probe.train, "start": "random"})

    def keeps(self, j: int) -> bool:
        """Whether x_j, j >= 1, is to be stored for training; where a plan is to say so, and none does, all are."""
        if self.augment.last_anchor(j) < j or self.cache.keep == "none":
            return False
        return j < self.network.stages if isinstance(self.cache.keep, str) else j in self.cache.keep


def budget_bytes(value: str | int) -> int | None:
    """Bytes of a budget; None where it is "free", as much as there is. Raises ValueError."""
    if value == "free":
        return None
    if not 1 <= (nbytes := parse_bytes(str(value))) <= 2**63 - 1:
        raise ValueError(f"{value!r}: {EXPECTED_BYTES}")
    return nbytes


def parse_bytes(text: str) -> int:
    """Bytes of "512 MB", "1.5GB", "6 GiB" or "4096"; units are powers of 1000, with an "i" of 1024. Raises
    ValueError."""
    number, unit = r"(\d{1,18}(?:\.\d+)?)", r"(?:([KMGT])(I)?B|B)?"
    match = re.fullmatch(rf"\s*{number}\s*{unit}\s*", text, re.IGNORECASE | re.ASCII)
    if not match:
        raise ValueError(
            f"{text!r} is no number of bytes; write 4096, 512 MB or 1.5 GB, which is 10^9, or 1.5 GiB, 2^30"
        )
    exponent = " KMGT".index((match[2] or " ").upper())
    return int(float(match[1]) * (1024 if match[3] else 1000) ** exponent)
