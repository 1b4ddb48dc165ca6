"""What compression leaves of stores, from samples of them."""

from pathlib import Path

import pytest

from cache import CODECS
from pipeline.disk import MARGIN, folder_bytes
from pipeline.footprint import Sampled, known_store, place_of
from pipeline.outline import read_outline
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.sampling import SAMPLES, sample_output, updated_samples
from pipeline.training import train_stage
from tests.runs import copied, reopened
from tests.trained import CPU, of_stage_0, trained_run, whole

__all__ = ["of_stage_0", "whole"]


@pytest.mark.parametrize("encoding", ["uint8", "uint4"])
@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_a_sample_says_what_a_store_will_take_within_a_fiftieth(
    tmp_path: Path, encoding: str, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.sampling.SAMPLES", 256)
    monkeypatch.setattr("pipeline.sampling.OTHER_SAMPLES", 128)
    settings = (f"store.encoding={encoding}", f"store.codec={codec}", "network.width=8", "augment.padding=1")
    run = trained_run(tmp_path / "run", "cache.keep=none", *settings, stages=1)
    run = reopened(run.path, "cache.keep=all")
    outline = read_outline(run.path, run.config)
    samples = updated_samples(run, CPU, [])
    train_stage(run, 0, CPU, Reporter())
    (machine,) = run.open_store(1, "train").attributes["machines"]
    empty = copied(run, tmp_path / "copy")
    for split in empty.splits:
        (empty.store(1, split) / "manifest.json").unlink()
    said = known_store(outline, 1, machine, run=empty, samples=samples)
    assert (said.basis, said.codec) == ("sample", codec)
    assert said.nbytes == pytest.approx(sum(folder_bytes(run.store(1, split)) for split in run.splits), rel=0.02)
    assert said.nbytes < said.reserved_bytes <= MARGIN * said.nbytes + 1


def test_of_a_store_no_larger_than_its_sample_every_byte_is_known(of_stage_0: RunFolder, tmp_path: Path) -> None:
    run = copied(of_stage_0, tmp_path / "run", "augment.policy=none", "store.codec=zstd")
    assert run.info.samples["train"] < SAMPLES
    share = sample_output(run, 0, CPU).shares
    assert share["none"] == 1.0
    assert share["zstd"] < share["lz4"] < 1


def test_a_sample_is_taken_once(of_stage_0: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = copied(of_stage_0, tmp_path / "run")
    first = updated_samples(run, CPU, [])
    assert [one.store for one in first] == [place_of(run, 1)]
    monkeypatch.setattr("pipeline.sampling.sample_output", None)
    assert updated_samples(run, CPU, first) == first
    gone = Sampled(store="stages/0-00000000/x_1/uint8.train.none", auto=None, shares={"zstd": 0.5})
    assert updated_samples(run, CPU, [*first, gone]) == first, "its stage is not there"


def test_what_codec_auto_comes_to_is_asked_for_where_it_is_not_known(of_stage_0: RunFolder, tmp_path: Path) -> None:
    run = copied(of_stage_0, tmp_path / "run", "store.codec=auto")
    (before,) = updated_samples(copied(of_stage_0, tmp_path / "other"), CPU, [])
    (after,) = updated_samples(run, CPU, [before])
    assert before.auto is None
    assert after.auto in CODECS
    outline = read_outline(run.path, run.config)
    found = known_store(outline, 1, {}, run=run, samples=[after])
    assert (found.codec, found.share) == (after.auto, after.shares[after.auto])


def test_what_is_stored_or_not_compressed_is_not_sampled(
    whole: RunFolder, of_stage_0: RunFolder, tmp_path: Path
) -> None:
    assert updated_samples(whole, CPU, []) == []
    assert updated_samples(copied(of_stage_0, tmp_path / "run", "store.codec=none"), CPU, []) == []
