"""One shuffled epoch read from a store, by our reader and by others.

    python -m tests.benchmarks.reader --gigabytes 1 --sample-kb 16 64 1024 --codecs none lz4 zstd

Prints samples/s and decoded GB/s (powers of 1000) as batches arrive in host memory, nothing computed on them. The
limits: a mapped file of decoded samples, gathered from at random ("memmap"), and decoding alone ("bare"; of codec
"none", reading alone). Files are in the page cache, unless --cold. Takes three times --gigabytes on disk, in --folder.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from cache import CODECS, CodecName
from tests.benchmarks import machine, pagecache
from tests.benchmarks.contenders import LITDATA_IS_INSTALLED, MEMMAP, TENSORSTORE, Case, contenders
from tests.benchmarks.data import Source, sample_kilobytes, sample_shape, write_store
from tests.benchmarks.rounds import interleaved, rate_header, rate_rows, ratio

RATIOS = {"memmap": MEMMAP, "tensorstore": TENSORSTORE, "zarr, samples": ("zarr, samples",), "bare": ("bare",)}
"""What ours is held against -> the contenders of which the best counts."""


def write_flat(path: Path, source: Source) -> None:
    """All samples of `source`, decoded, as one .npy file."""
    shape = (source.samples, *source.shape)
    flat = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    for number, x in enumerate(source.runs()):
        flat[number * source.run : number * source.run + len(x)] = x
    flat.flush()


def write_litdata(path: Path, source: Source) -> None:
    """All samples of `source` as LitData would have them, in chunks of its default size."""
    cache = import_module("litdata.streaming").Cache(f"{path}", chunk_bytes="64MB")
    for number, x in enumerate(source.runs()):
        for place, sample in enumerate(x):
            cache[number * source.run + place] = sample
    cache.done()
    cache.merge()


@contextmanager
def sources(kilobytes: int, nbytes: float, parent: Path | None) -> Iterator[tuple[Source, Path]]:
    """Samples of one size, and a folder, removed afterwards, that holds them in the formats that have no codec."""
    source = Source(sample_shape(kilobytes), nbytes)
    with tempfile.TemporaryDirectory(dir=parent) as name:
        folder = Path(name)
        write_flat(folder / "flat.npy", source)
        if LITDATA_IS_INSTALLED:
            write_litdata(folder / "litdata", source)
        yield source, folder


def set_page_cache(case: Case) -> None:
    """Before each run: nothing of the case in the page cache, or whatever fits of it."""
    if case.is_cold:
        pagecache.drop(case.folder)


def measure(case: Case, codec: CodecName, repeat: int) -> dict[str, Any]:
    """Write the store of a case, read it in all ways, print the rates, and return the record."""
    write_store(case.folder / "store", case.source, codec)
    source, store = case.source, case.store
    pagecache.warm(case.folder)
    set_page_cache(case)
    cached = pagecache.cached_share(case.folder)
    rates = interleaved(contenders(codec), case, repeat, set_page_cache)
    shutil.rmtree(store.path)
    decoded_bytes = source.samples * source.sample_bytes
    title = f"{source.sample_bytes // 1024} KB samples, {codec}, {decoded_bytes / 1e9:.2f} GB"
    print(f"{title}, compressed {decoded_bytes / store.nbytes:.2f} times")
    print(f"{cached:.0%} of the files in the page cache before a run")
    machine.print_table(rate_header("ours"), rate_rows(rates, source.sample_bytes, "ours"))
    return {
        "sample_bytes": source.sample_bytes,
        "codec": codec,
        "decoded_bytes": decoded_bytes,
        "stored_bytes": store.nbytes,
        "cached_share": cached,
        "samples_per_second": rates,
        "ours_against": {name: ratio(rates, "ours", others) for name, others in RATIOS.items()},
    }


def print_ratios(records: list[dict[str, Any]]) -> None:
    """How many times as fast ours is as each of RATIOS."""
    rows = [
        [
            f"{record['sample_bytes'] // 1024} KB {record['codec']}",
            *map("{:.2f}".format, record["ours_against"].values()),
        ]
        for record in records
    ]
    machine.print_table(["ours against", *RATIOS], rows)


def arguments_of(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0, help="of decoded samples in each store")
    parser.add_argument("--sample-kb", type=sample_kilobytes, nargs="+", default=[16, 64, 1024])
    parser.add_argument("--codecs", choices=CODECS, nargs="+", default=CODECS)
    parser.add_argument("--threads", type=int, default=2, help="and worker processes")
    parser.add_argument("--repeat", type=int, default=3, help="rounds")
    parser.add_argument("--cold", action="store_true", help="drop the files from the page cache before each run")
    parser.add_argument("--json", type=Path, help="write the record here")
    parser.add_argument("--folder", type=Path, help="where to put the files, instead of the temporary folder")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    arguments = arguments_of(argv)
    records = []
    for kilobytes in arguments.sample_kb:
        with sources(kilobytes, arguments.gigabytes * 1e9, arguments.folder) as (source, folder):
            batch = min(128, 32 * 1024 * 1024 // source.sample_bytes)
            for codec in arguments.codecs:
                case = Case(folder, source, batch, arguments.threads, arguments.cold)
                records.append(measure(case, codec, arguments.repeat))
    print_ratios(records)
    if not LITDATA_IS_INSTALLED:
        print("litdata: not installed, so not measured")
    if arguments.json:
        settings = {"threads": arguments.threads, "repeat": arguments.repeat, "cold": arguments.cold}
        machine.write_json(arguments.json, {"machine": machine.record(), **settings, "cases": records})
    return 0


if __name__ == "__main__":
    sys.exit(main())
