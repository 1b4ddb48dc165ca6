import pytest

from cache.layout import CHUNK_BYTES, chunk_key, chunk_samples


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
