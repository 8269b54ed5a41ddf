"""What a term index is told of terms and codes, and how it keeps house."""

from __future__ import annotations

from dataclasses import dataclass

from search.errors import SettingsError
from search.index.folder import Identity
from search.index.planning import RecordShape

__all__ = ["DEFAULT_MAX_POSTINGS", "IndexSettings"]

DEFAULT_MAX_POSTINGS = 100_000_000
"""Postings of one search at most: about a tenth of a second of counting. Ordinary searches touch thousands."""


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """What the index must know of terms and codes."""

    groups: int
    bits_per_group: int
    min_overlap: int
    candidates: int
    """k: how many candidates one search returns."""
    code_bytes: int
    identity: Identity
    """What the folder is made for; a folder made for anything else is refused."""
    sync: bool = True
    """Whether a call waits for the disk before it is acknowledged."""
    max_postings: int = DEFAULT_MAX_POSTINGS
    """Postings that one search touches at most: the oldest of each of its lists, an equal share of each."""
    seal_entries: int = 8192
    """Entries of the tail at which it becomes a sealed segment; a search compares with each entry of the tail."""
    merge_fan: int = 4
    """So many neighbouring segments of about one size are merged into one."""

    def __post_init__(self) -> None:
        """Checks each value against its range."""
        for name, least in (("max_postings", self.groups), ("seal_entries", 1), ("merge_fan", 2)):
            value = getattr(self, name)
            if value < least:
                raise SettingsError(f"{name} must be at least {least}, not {value}")

    @property
    def shape(self) -> RecordShape:
        """The sizes of every insert."""
        return RecordShape(self.groups, self.bits_per_group, self.code_bytes)
