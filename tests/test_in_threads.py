"""Work in threads, a few items at a time."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from cache import CorruptStoreError, inspect, read_back, read_manifest
from cache.in_threads import in_threads
from tests.conftest import WriteStore


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was handed to any pool; two at a time."""
    submitted: list[object] = []
    submit = ThreadPoolExecutor.submit

    def counted(pool: ThreadPoolExecutor, work: Callable[..., object], /, *items: object, **named: object) -> object:
        submitted.append(items)
        return submit(pool, work, *items, **named)

    monkeypatch.setattr("cache.in_threads.AT_A_TIME", 2)
    monkeypatch.setattr(ThreadPoolExecutor, "submit", counted)
    return submitted


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_results_come_in_the_order_of_the_items_and_no_more_items_are_taken_than_are_under_way(
    submitted: list[object], count: int
) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(count):
            taken.append(item)
            yield item

    with ThreadPoolExecutor(3) as pool:
        for done, result in enumerate(in_threads(pool, lambda item: item * item, items())):
            assert result == done * done
            assert len(taken) <= done + 2
    assert len(submitted) == count


def test_a_store_is_inspected_and_read_back_a_few_chunks_at_a_time(
    write_store: WriteStore, submitted: list[object]
) -> None:
    path, _ = write_store(views=2)
    submitted.clear()
    files = inspect(path, read_manifest(path))
    assert [file.name for file in files if file.name.startswith("x/c.")]
    assert len(submitted) == 9, "six chunks of x, and three small arrays"
    submitted.clear()
    min((path / "x").glob("c.*")).write_bytes(b"")
    with pytest.raises(CorruptStoreError):
        read_back(path, threads=1)
    assert len(submitted) == 2
