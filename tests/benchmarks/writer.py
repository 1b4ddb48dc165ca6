"""A store written, by our writer and by others.

    python -m tests.benchmarks.writer --gigabytes 1 --sample-kb 64 --codecs none lz4 zstd

Prints samples/s and GB/s (powers of 1000) of samples handed over. The limit: the same bytes, uncompressed, in plain
files of the chunks' size. Ours is committed and, as the plain files of "plain, fsync", durable when the clock stops;
zarr-python and "plain" leave that to the system.
"""

import argparse
import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import zarr

from cache import CODECS, CodecName
from cache.files import sync
from cache.layout import chunk_samples
from tests.benchmarks import machine
from tests.benchmarks.data import Source, sample_kilobytes, sample_shape, write_store
from tests.benchmarks.rounds import Contender, Progress, Rates, interleaved, rate_header, rate_rows, ratio

RATIOS = ("zarr, defaults", "plain, fsync")
"""What ours is held against."""


@dataclass(frozen=True)
class Case:
    """What is to be written, and where."""

    path: Path
    """Does not exist when a contender begins."""
    source: Source
    threads: int

    @property
    def chunk(self) -> int:
        """Samples in a chunk or file."""
        return chunk_samples(self.source.run, self.source.sample_bytes)


def ours(case: Case, codec: CodecName) -> Progress:
    """`cache.StoreWriter` with its commit."""
    yield 0
    write_store(case.path, case.source, codec, case.threads)
    yield case.source.samples


def zarr_python(case: Case, **settings: Any) -> Progress:
    """zarr-python, assigned to run by run, in the same chunks."""
    source = case.source
    yield 0
    x = zarr.create_array(
        case.path,
        shape=(source.samples, *source.shape),
        chunks=(case.chunk, *source.shape),
        dtype="uint8",
        **settings,
    )
    for number, run in enumerate(source.runs()):
        x[number * source.run : (number + 1) * source.run] = run
    yield source.samples


def plain_files(case: Case, is_synced: bool) -> Progress:
    """The samples' bytes in files of a chunk each, in threads."""

    def write(number: int, data: memoryview) -> None:
        with open(case.path / f"{number}", "wb", buffering=0) as file:
            file.write(data)
            if is_synced:
                os.fsync(file.fileno())

    chunks = (
        run[start : start + case.chunk].data for run in case.source.runs() for start in range(0, len(run), case.chunk)
    )
    yield 0
    case.path.mkdir()
    with ThreadPoolExecutor(case.threads) as pool:
        written = [pool.submit(write, number, data) for number, data in enumerate(chunks)]
    for future in written:
        future.result()
    if is_synced:
        sync(case.path)
    yield case.source.samples


def ours_name(codec: CodecName) -> str:
    return f"ours, {codec}"


def contenders(codecs: list[CodecName]) -> list[Contender[Case]]:
    """Ours with each codec, and the others."""
    return [
        *(Contender(ours_name(codec), partial(ours, codec=codec)) for codec in codecs),
        Contender("zarr, defaults", zarr_python),
        Contender("zarr, none", partial(zarr_python, compressors=None)),
        Contender("plain, fsync", partial(plain_files, is_synced=True)),
        Contender("plain", partial(plain_files, is_synced=False)),
    ]


def clear(case: Case) -> None:
    """Remove what the one before wrote, and let the disk come to rest: its write-back is not the next one's."""
    shutil.rmtree(case.path, ignore_errors=True)
    os.sync()


def measure(source: Source, arguments: argparse.Namespace) -> dict[str, Any]:
    """Write samples of one size in all ways, print the rates, and return the record."""
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        case = Case(Path(folder) / "store", source, arguments.threads)
        rates = interleaved(contenders(arguments.codecs), case, arguments.repeat, clear)
    print(f"{source.sample_bytes // 1024} KB samples, {source.samples * source.sample_bytes / 1e9:.2f} GB")
    machine.print_table(rate_header(RATIOS[0]), rate_rows(rates, source.sample_bytes, RATIOS[0]))
    against = {codec: ratios(rates, codec) for codec in arguments.codecs}
    rows = [[ours_name(codec), *map("{:.2f}".format, found.values())] for codec, found in against.items()]
    machine.print_table(["against", *RATIOS], rows)
    return {"sample_bytes": source.sample_bytes, "samples_per_second": rates, "ours_against": against}


def ratios(rates: Rates, codec: CodecName) -> dict[str, float]:
    """How many times as fast ours with a codec is as each of RATIOS."""
    return {other: ratio(rates, ours_name(codec), [other]) for other in RATIOS}


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0, help="of samples in each store")
    parser.add_argument("--sample-kb", type=sample_kilobytes, nargs="+", default=[64])
    parser.add_argument("--codecs", choices=CODECS, nargs="+", default=list(CODECS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3, help="rounds")
    parser.add_argument("--json", type=Path, help="write the record here")
    parser.add_argument("--folder", type=Path, help="where to put the files, instead of the temporary folder")
    arguments = parser.parse_args(argv)
    records = [
        measure(Source(sample_shape(kilobytes), arguments.gigabytes * 1e9), arguments)
        for kilobytes in arguments.sample_kb
    ]
    if arguments.json:
        settings = {"threads": arguments.threads, "repeat": arguments.repeat}
        machine.write_json(arguments.json, {"machine": machine.record(), **settings, "cases": records})
    return 0


if __name__ == "__main__":
    sys.exit(main())
