"""Training a stage: what it does, refuses and keeps."""

import copy
import shutil
import tomllib
from pathlib import Path

import pytest
import torch

from cache import BudgetError, Store
from pipeline.beforehand import check_host_memory
from pipeline.checkpoint import Progress
from pipeline.config import Train
from pipeline.config_file import read_config
from pipeline.data_info import DataInfo
from pipeline.device import choose_device
from pipeline.errors import CascadeError, ConfigError, CorruptDataError, RefusedError
from pipeline.evaluation import evaluate
from pipeline.learner import COMPILERS, learning_rate, make_learner
from pipeline.networks import load_network
from pipeline.presets import preset_names, preset_text
from pipeline.problem import stage_problem
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.sealed import write_sealed
from pipeline.step import train_step
from pipeline.training import train_stage
from pipeline.weights import load_tensors
from tests.runs import bytes_of, digits_run, reopened, tiny_run

CPU = choose_device("cpu")


@pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="needs a C++ compiler")
def test_a_compiled_step_computes_what_the_plain_one_does(tmp_path: Path) -> None:
    run = digits_run(tmp_path / "run", "machine.compile=true", "network.precision=float32")
    learner = make_learner(run, stage_problem(run, 0), CPU)
    x = torch.randn(8, 1, 8, 8)
    torch.testing.assert_close(learner.forward(x), learner.logits(x))


def test_compiling_without_a_compiler_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = digits_run(tmp_path / "run", "machine.compile=true")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match=r"machine.compile = true takes a C\+\+ compiler on a CPU"):
        train_stage(run, 0, CPU, Reporter())


def test_a_stage_without_its_input_is_refused_with_the_command_to_run_first(tmp_path: Path) -> None:
    run = digits_run(tmp_path / "run")
    with pytest.raises(
        RefusedError, match=r"block 0 is needed first, and it is not trained\nnext: cascade train-stage --j 0 --run"
    ):
        train_stage(run, 2, CPU, Reporter())
    assert not list((tmp_path / "run").glob("stages/*"))


def test_a_finished_stage_is_left_alone(tmp_path: Path) -> None:
    run = digits_run(tmp_path / "run")
    assert train_stage(run, 0, CPU, Reporter())
    before = bytes_of(run, 0)
    assert not train_stage(run, 0, CPU, Reporter())
    assert bytes_of(run, 0) == before


def test_other_settings_train_beside_the_earlier_stage_and_never_over_it(tmp_path: Path) -> None:
    run = digits_run(tmp_path / "run")
    train_stage(run, 0, CPU, Reporter())
    before = bytes_of(run, 0)
    changed = reopened(run.path, "train.lr=0.05")
    assert train_stage(changed, 0, CPU, Reporter())
    assert changed.stages[0].path != run.stages[0].path
    assert bytes_of(run, 0) == before
    assert not train_stage(reopened(run.path), 0, CPU, Reporter())


def test_a_loss_that_is_no_number_stops_before_anything_is_kept(tmp_path: Path) -> None:
    run = digits_run(tmp_path / "run", "train.lr=1000", "network.batch_norm=false")
    with pytest.raises(CascadeError, match=r"step \d+: the loss is (nan|inf).*\nnext: lower the learning rate"):
        train_stage(run, 0, CPU, Reporter())
    assert not run.stages[0].checkpoint.exists()
    assert run.stages[0].record is None


def test_under_a_cosine_the_learning_rate_goes_down_to_zero_within_each_stage() -> None:
    train = Train(schedule="cosine", epochs=4, lr=0.2)
    assert [learning_rate(train, epoch) for epoch in range(4)] == pytest.approx(
        [0.2, 0.170711, 0.1, 0.029289], rel=1e-4
    )


def test_labels_are_smoothed_in_the_loss_of_a_step(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", "train.label_smoothing=0.2")
    learner = make_learner(run, stage_problem(run, 0), CPU)
    progress, x, y = Progress.fresh(CPU), torch.randn(8, 1, 8, 8), torch.arange(8) % 3
    learner.train(True)
    log_probabilities = copy.deepcopy(learner.head)(copy.deepcopy(learner.block)(x)).log_softmax(1)
    train_step(learner, [(x, y)], 8, torch.float32, progress)
    target = 0.8 * torch.nn.functional.one_hot(y, run.classes) + 0.2 / run.classes
    assert progress.loss.item() == pytest.approx(-(target * log_probabilities).sum().item(), rel=1e-5)


def test_the_learning_rate_follows_the_papers_schedule() -> None:
    rates = [learning_rate(Train(), epoch) for epoch in (0, 14, 15, 30, 45, 49)]
    assert rates == pytest.approx([0.1, 0.1, 0.02, 0.004, 0.0008, 0.0008])


def test_written_back_activations_are_those_of_the_frozen_block(tmp_path: Path) -> None:
    run = digits_run(
        tmp_path / "run", 'store.encoding="float32"', 'network.precision="float32"', 'augment.policy="none"'
    )
    train_stage(run, 0, CPU, Reporter())
    images, written = Store(run.store(0, "test")), Store(run.store(1, "test"))
    x = torch.zeros(images.chunk_samples, 1, 8, 8, dtype=torch.uint8)
    images.read_chunk(0, 0, x.numpy())
    stored = torch.zeros(written.chunk_samples, 8, 8, 8)
    written.read_chunk(0, 0, stored.numpy())
    learner = make_learner(run, stage_problem(run, 0), CPU)
    tensors, _ = load_tensors(run.stages[0].block)
    learner.block.load_state_dict({k.removeprefix("block."): v for k, v in tensors.items() if k.startswith("block.")})
    expected = learner.block.eval()((x.float() / 255 - run.info.mean[0]) / run.info.std[0])
    assert written.chunk_samples == images.chunk_samples
    assert (written.y == images.y).all()
    assert (written.sample_id == images.sample_id).all()
    torch.testing.assert_close(stored, expected.detach())


def test_evaluating_from_the_images_gives_what_was_kept(tmp_path: Path) -> None:
    run = digits_run(tmp_path / "run", 'store.encoding="uint8"')
    for j in range(2):
        train_stage(run, j, CPU, Reporter())
    kept, recomputed = evaluate(run), evaluate(run, recompute_on=CPU)
    assert kept == recomputed
    assert list(kept.stages) == [0, 1]


def test_nothing_trained_nothing_to_evaluate(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"no stage is trained.*\nnext: cascade run --run"):
        evaluate(digits_run(tmp_path / "run"))


def test_training_without_held_out_images_or_batch_norm_and_every_down_sampling(tmp_path: Path) -> None:
    for kind in ("strided", "average", "max"):
        run = digits_run(
            tmp_path / kind, f'network.downsample="{kind}"', "data.validation=0", "network.batch_norm=false", "head.k=1"
        )
        assert run.splits == ["train", "test"]
        for j in range(2):
            train_stage(run, j, CPU, Reporter())
        record = run.stages[1].record
        assert record is not None
        assert record.validation_accuracy is None
        assert record.test_accuracy > 20


@pytest.mark.parametrize("policy", ["views", "canvas"])
def test_a_network_takes_whole_images_and_sees_the_window_that_it_was_tested_on(tmp_path: Path, policy: str) -> None:
    settings = ("augment.crop=6", "augment.padding=0", "augment.flip=true", "network.downsample_at=[]")
    run = digits_run(tmp_path / "run", *settings, f"augment.policy={policy}", "network.precision=float32")
    for j in range(2):
        train_stage(run, j, CPU, Reporter())
    images = Store(run.store(0, "test"))
    x = torch.zeros(images.chunk_samples, 1, 8, 8, dtype=torch.uint8)
    images.read_chunk(0, 0, x.numpy())
    for j in range(2):
        kept = load_tensors(run.stages[j].test_logits)[0]["logits"][: images.chunk_samples]
        with torch.no_grad():
            torch.testing.assert_close(load_network(run, j)(x / 255), kept, rtol=1e-4, atol=1e-3)
            with pytest.raises(ValueError, match="images of 6x6 pixels; the network takes whole images of 8x8"):
                load_network(run, j)(x[..., 1:7, 1:7] / 255)


@pytest.mark.parametrize("name", preset_names())
def test_every_presets_windows_fit_in_its_host_memory(tmp_path: Path, name: str) -> None:
    table = tomllib.loads(preset_text(name))
    config = read_config(table, where=name)
    channels, side, samples = (1, 8, 1299) if name == "digits" else (3, config.data.canvas or 32, 50_000)
    info = DataInfo(
        data=config.data,
        classes=["a", "b"],
        channels=channels,
        side=side,
        samples={"train": samples, "test": 2},
        class_counts=[1, 1],
        mean=[0.5] * channels,
        std=[0.2] * channels,
        run=config.order.run,
        digest="0" * 64,
        tables={"train": 0, "test": 0},
    )
    (tmp_path / "x_0").mkdir()
    write_sealed(tmp_path / "x_0" / "ingest.json", info)
    after = [j + 1 for j in config.network.downsample_at if j]  # what a plan stores: not what it cannot read
    run = RunFolder(tmp_path, config)
    stages = range(len(run.stages))
    check_host_memory(run.outline, stages, run.following(after, frees=False).config.keeps, run.host_bytes)
    tight = read_config({**table, "budget": {"host": "1 MB"}}, where=name)
    with pytest.raises(BudgetError, match="reading x_"):
        check_host_memory(run.outline, stages, tight.keeps, 10**6)


def test_a_deleted_store_is_written_again_when_asked_for_and_only_then(tmp_path: Path) -> None:
    run = digits_run(tmp_path / "run")
    for j in range(3):
        train_stage(run, j, CPU, Reporter())
    before = bytes_of(run, 0)
    shutil.rmtree(run.stages[0].path / "x_1")
    assert not train_stage(run, 0, CPU, Reporter())
    assert train_stage(run, 0, CPU, Reporter(), output_asked_for=True)
    assert bytes_of(run, 0) == before


def test_what_windows_are_cut_from_is_written_again_until_the_last_stage_is_trained(tmp_path: Path) -> None:
    canvas = ("augment.policy=canvas", "augment.padding=1", "augment.flip=true", "augment.cut_at=1")
    run = digits_run(tmp_path / "run", *canvas, "train.epochs=1")
    for j in range(2):
        train_stage(run, j, CPU, Reporter())
    assert (run.is_stored(1), run.is_stored(2)) == (True, False)
    shutil.rmtree(run.stages[0].path / "x_1")
    assert train_stage(run, 0, CPU, Reporter())
    assert run.anchor(2) == 1
    train_stage(run, 2, CPU, Reporter())
    shutil.rmtree(run.stages[0].path / "x_1")
    assert not train_stage(run, 0, CPU, Reporter())


def test_a_trained_network_comes_back_as_a_module_on_images(tmp_path: Path) -> None:
    run = digits_run(tmp_path / "run", 'store.encoding="uint8"', 'network.precision="float32"')
    with pytest.raises(RefusedError, match="block 0 is needed first"):
        load_network(run, 1)
    for j in range(2):
        train_stage(run, j, CPU, Reporter())
    network = load_network(run, 1)
    assert not network.training
    images = Store(run.store(0, "test"))
    x = torch.zeros(images.chunk_samples, 1, 8, 8, dtype=torch.uint8)
    images.read_chunk(0, 0, x.numpy())
    kept = load_tensors(run.stages[1].test_logits)[0]["logits"][: images.chunk_samples]
    with torch.no_grad():
        torch.testing.assert_close(network(x / 255), kept)
    with pytest.raises(ConfigError, match="j = 3: the network has 3 stages, j from 0 to 2"):
        load_network(run, 3)


@pytest.mark.parametrize("linked", ["", "x_1", "x_1/float16.test"])
def test_nothing_is_swept_or_written_through_a_link(tmp_path: Path, linked: str) -> None:
    run = tiny_run(tmp_path / "run")
    train_stage(run, 0, CPU, Reporter())
    inside, outside = run.stages[0].path / linked, tmp_path / "outside"
    inside.rename(outside)
    inside.symlink_to(outside)
    (outside / ".anything.removed").mkdir()
    (outside / "journal").touch()
    before = sorted(outside.rglob("*"))
    with pytest.raises(CorruptDataError, match=r"is a link, which is not followed inside a run folder\nnext: put what"):
        train_stage(run, 0, CPU, Reporter(), output_asked_for=True)
    assert sorted(outside.rglob("*")) == before
