from pathlib import Path

import pytest

from cache import MANIFEST, CorruptStoreError, NoStoreError, Store, read_manifest
from cache.layout import CHUNK_BYTES, chunk_key, chunk_samples
from tests.conftest import WriteStore


@pytest.mark.parametrize("run", [1, 7, 96, 128])
@pytest.mark.parametrize("sample_bytes", [1, 3072, 2**17, 3 * 2**20, CHUNK_BYTES, CHUNK_BYTES + 1])
def test_chunk_is_the_largest_divisor_of_a_run_that_fits(run: int, sample_bytes: int) -> None:
    samples = chunk_samples(run, sample_bytes)
    assert run % samples == 0
    assert samples == 1 or samples * sample_bytes <= CHUNK_BYTES
    larger = [n for n in range(samples + 1, run + 1) if run % n == 0]
    assert all(n * sample_bytes > CHUNK_BYTES for n in larger)


def test_cifar_run_is_one_chunk_and_a_run_of_imagenet_x_1_many() -> None:
    assert chunk_samples(128, 3 * 32 * 32) == 128
    assert chunk_samples(128, 128 * 112 * 112 * 2) == 2


def test_chunk_names_are_flat() -> None:
    assert chunk_key(0, 12, 0, 0, 0) == "c.0.12.0.0.0"
    assert chunk_key(0) == "c.0"


def test_folder_without_a_manifest_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(NoStoreError, match=f"{tmp_path} holds no committed store"):
        read_manifest(tmp_path)


def test_place_that_does_not_exist_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no committed store"):
        read_manifest(tmp_path / "nowhere")


@pytest.mark.parametrize("version", ["2", "999", '"1.1"'])
def test_newer_format_is_refused_with_both_versions(tmp_path: Path, version: str) -> None:
    (tmp_path / MANIFEST).write_text(f'{{"format":{version},"segments":[],"arrays":7}}')
    with pytest.raises(CorruptStoreError, match=f"has format {version.strip(chr(34))}; .* reads format 1$"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b"\xff\xfe", b'{"format":1}', b'{"format":1,"arrays":{"x":[[1]]}}', b'{"a":' * 10**5],
)
def test_damaged_manifest_is_a_corrupt_store(tmp_path: Path, content: bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(CorruptStoreError, match=f"{MANIFEST} is damaged"):
        read_manifest(tmp_path)


def test_manifest_cut_anywhere_is_a_corrupt_store(write_store: WriteStore) -> None:
    path, _ = write_store()
    whole = (path / MANIFEST).read_bytes()
    for length in range(len(whole)):
        (path / MANIFEST).write_bytes(whole[:length])
        with pytest.raises(CorruptStoreError, match=f"{MANIFEST} is damaged"):
            read_manifest(path)


def test_manifest_counts_the_bytes_of_all_chunks_on_disk(write_store: WriteStore) -> None:
    path, _ = write_store(views=2)
    on_disk = sum(file.stat().st_size for file in path.glob("*/c.*"))
    assert read_manifest(path).nbytes == Store(path).nbytes == on_disk
