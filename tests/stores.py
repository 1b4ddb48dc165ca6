"""Stores that a stranger could make: every checksum right, the content not."""

from pathlib import Path

from cache import MANIFEST, read_manifest
from cache.layout import METADATA
from cache.manifest import encode_manifest


def reseal(path: Path) -> None:
    """Let the manifest of a store cover its `zarr.json` files as they are now."""
    manifest = read_manifest(path)
    metadata = {name: (path / name).read_text() for name in METADATA}
    (path / MANIFEST).write_bytes(encode_manifest(manifest.summary.fingerprint, metadata, manifest.arrays))
