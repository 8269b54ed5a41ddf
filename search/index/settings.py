"""The settings of a term index."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from core.errors import SettingsError
from search.index.folder import Identity
from search.index.planning import RecordShape
from search.ranking import DEFAULT_RANKING, Ranking

__all__ = ["DEFAULT_BACKGROUND_BYTES_PER_S", "DEFAULT_MAX_POSTINGS", "IndexSettings"]

DEFAULT_MAX_POSTINGS = 1_000_000
"""The most postings of one search: 5 to 15 ms of counting on one core. Ordinary searches touch thousands."""


DEFAULT_BACKGROUND_BYTES_PER_S = 16e6
"""About 30,000 entries a second: enough to rewrite each entry a hundred times when 200 a second arrive."""

MAX_DISTANCE_BITS = 2**16 - 8
"""Distances are u16."""


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """The sizes of terms and codes, and how the index uses disk and processor."""

    groups: int
    bits_per_group: int
    code_bytes: int
    identity: Identity
    """What the folder is made for; a folder made for anything else is refused."""
    ranking: Ranking = DEFAULT_RANKING
    """How candidates are chosen and ordered; `distance_bits` of 0 compares whole codes."""
    sync: bool = True
    """Whether a write waits for the disk before it is acknowledged."""
    max_postings: int = DEFAULT_MAX_POSTINGS
    """The most postings that one search touches: the oldest of each of its lists, an equal share of each."""
    seal_entries: int = 8192
    """The size at which the tail becomes a sealed segment, in entries; a search compares with each of them."""
    merge_fan: int = 4
    """How many neighbouring segments of about one size are merged into one."""
    background_bytes_per_s: float = DEFAULT_BACKGROUND_BYTES_PER_S
    """The most bytes of segments that sealing and merging each make in a second; 0 sets no limit."""
    background_process: bool = False
    """Whether processes of their own make segments in the background, instead of threads."""

    def __post_init__(self) -> None:
        """Checks each value against its range."""
        for name, least in (("max_postings", self.groups), ("seal_entries", 1), ("merge_fan", 2)):
            value = getattr(self, name)
            if value < least:
                raise SettingsError(f"{name} must be at least {least}, not {value}")
        if not (isfinite(self.background_bytes_per_s) and self.background_bytes_per_s >= 0):
            raise SettingsError(f"background_bytes_per_s must be 0 or above, not {self.background_bytes_per_s}")
        if self.ranking.min_overlap > self.groups:
            raise SettingsError(
                f"min_overlap must lie in 1 to the {self.groups} groups, not {self.ranking.min_overlap}"
            )
        if self.distance_bits > min(8 * self.code_bytes, MAX_DISTANCE_BITS):
            raise SettingsError(
                f"distance_bits is {self.distance_bits}; a code has {8 * self.code_bytes} bits, of which at most "
                f"{MAX_DISTANCE_BITS} can be compared"
            )

    @property
    def distance_bits(self) -> int:
        """How many leading bits of two codes are compared."""
        return self.ranking.distance_bits or 8 * self.code_bytes

    @property
    def shape(self) -> RecordShape:
        """The sizes of every insert."""
        return RecordShape(self.groups, self.bits_per_group, self.code_bytes)
