"""What a planted bug is."""

from dataclasses import dataclass

Edit = tuple[str, str, str]
"""File, text in it, and what takes its place."""


@dataclass(frozen=True)
class Bug:
    """A bug."""

    name: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]
    """Each must fail on it."""
