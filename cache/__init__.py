"""The activation store: standard Zarr v3 on disk, numpy in memory, no torch.

with StoreWriter(path, views=1, samples=1000, sample_shape=(64, 16, 16), encoding="float16",
                 codec="lz4", run=128) as writer:
    writer.write(view=0, first=0, x=x[:128])
    ...
    writer.commit(y=y, sample_id=ids)

store = Store(path)
ring = Ring(aligned_buffer(ring_samples(2048, 128) * store.sample_bytes))
reader = Reader(store, ring, window_samples=2048, batch_size=128)
for batch in reader.batches(windows):
    ...
"""

from cache.choice import MEASURED, CodecChoice, choose_codec, packed_share
from cache.codecs import CODECS, CodecName
from cache.encodings import decode, encode, sample_bytes
from cache.errors import BudgetError, CorruptStoreError, FormatError, NoStoreError, StoreError
from cache.files import make_folder, replace_file, sync
from cache.footprint import Footprint, footprint, packed_bytes, small_bytes_at_most
from cache.hierarchy import SMALL_CODEC
from cache.inspection import (
    Inspected,
    agrees,
    committed_codec,
    gives_chunk,
    inspect,
    put_back_chunk,
    put_back_metadata,
    salvaged_codec,
)
from cache.journal import drop_journal, read_journal
from cache.layout import JOURNAL, MANIFEST, RECORD_BYTES, chunk_samples
from cache.manifest import Fingerprint, Manifest, Summary, committed_bytes, read_manifest, read_summary
from cache.memory import ChunkCache, Ring, aligned_buffer
from cache.place import Folder
from cache.readback import read_back
from cache.reader import Reader, ring_samples
from cache.removal import remove_folder, sweep_removed
from cache.speed import TRIAL, codec_speed, disk_speed
from cache.store import Store
from cache.timing import Timings
from cache.windows import Batch, Indices, Rank, Run, Window, in_batches
from cache.writer import StoreWriter, filled_up

__all__ = [
    "CODECS",
    "JOURNAL",
    "MANIFEST",
    "MEASURED",
    "RECORD_BYTES",
    "SMALL_CODEC",
    "TRIAL",
    "Batch",
    "BudgetError",
    "ChunkCache",
    "CodecChoice",
    "CodecName",
    "CorruptStoreError",
    "Fingerprint",
    "Folder",
    "Footprint",
    "FormatError",
    "Indices",
    "Inspected",
    "Manifest",
    "NoStoreError",
    "Rank",
    "Reader",
    "Ring",
    "Run",
    "Store",
    "StoreError",
    "StoreWriter",
    "Summary",
    "Timings",
    "Window",
    "agrees",
    "aligned_buffer",
    "choose_codec",
    "chunk_samples",
    "codec_speed",
    "committed_bytes",
    "committed_codec",
    "decode",
    "disk_speed",
    "drop_journal",
    "encode",
    "filled_up",
    "footprint",
    "gives_chunk",
    "in_batches",
    "inspect",
    "make_folder",
    "packed_bytes",
    "packed_share",
    "put_back_chunk",
    "put_back_metadata",
    "read_back",
    "read_journal",
    "read_manifest",
    "read_summary",
    "remove_folder",
    "replace_file",
    "ring_samples",
    "salvaged_codec",
    "sample_bytes",
    "small_bytes_at_most",
    "sweep_removed",
    "sync",
]
