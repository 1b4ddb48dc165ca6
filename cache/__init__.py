"""The activation store: standard Zarr v3 on disk, numpy in memory, no torch.

with StoreWriter(path, views=1, samples=1000, sample_shape=(64, 16, 16), encoding="float16",
                 codec="lz4", run=128) as writer:
    writer.write(view=0, first=0, x=x[:128])
    ...
    writer.commit(y=y, sample_id=ids, attributes={})

store = Store(path)
reader = Reader(store, window_samples=2048, memory_bytes=2**30)
for batch in reader.batches(windows, 128):
    ...
"""

from cache.codecs import CODECS, CodecName
from cache.encodings import decode, element_bytes, encode
from cache.errors import BudgetError, CorruptStoreError, NoStoreError, StoreError
from cache.files import replace_file
from cache.layout import MANIFEST, read_manifest
from cache.reader import Batch, Reader, Run, Window
from cache.store import Store
from cache.writer import StoreWriter

__all__ = [
    "CODECS",
    "MANIFEST",
    "Batch",
    "BudgetError",
    "CodecName",
    "CorruptStoreError",
    "NoStoreError",
    "Reader",
    "Run",
    "Store",
    "StoreError",
    "StoreWriter",
    "Window",
    "decode",
    "element_bytes",
    "encode",
    "read_manifest",
    "replace_file",
]
