"""Statistics of an index: bytes by part, and its density."""

from __future__ import annotations

from collections.abc import Sequence

from search.index.interface import IndexBytes
from search.index.segment import Segment

__all__ = ["expected_postings", "segment_bytes", "total_of"]

_PARTS = {
    "postings": ("postings",),
    "dictionary": ("directory", "bases"),
    "sharing": ("shares", "shared_starts", "shared_entries", "follower_entries", "follower_heads",
                "heads", "heads_counts"),
    "terms": ("terms",),
    "codes": ("codes", "searchable", "searchable_counts"),
    "ids": ("id_offsets", "ids", "id_buckets", "id_tags", "id_entries"),
    "places": ("places", "versions", "kinds"),
}  # fmt: skip
"""The sections of each part of `IndexBytes`."""


def segment_bytes(segments: Sequence[Segment], removed: int, log: int) -> IndexBytes:
    """Bytes by part of some segments, of their file of hidden entries, and of the log."""
    sections = [one.section_bytes for one in segments]
    parts = {part: sum(one[name] for one in sections for name in names) for part, names in _PARTS.items()}
    return IndexBytes(**parts, removed=removed, log=log)


def total_of(segments: Sequence[Segment], fact: str) -> int:
    """The sum of a fact over segments."""
    return sum(int(one.facts[fact]) for one in segments)


def expected_postings(segments: Sequence[Segment]) -> float:
    """Postings that a search for a random term set of the segments touches, on average.

    `squares` / `term_sets` is the average for a query and its own segment, including the query's own postings. These
    are counted once, not in every segment. All distinct term sets have equal weight, so many exact copies of one image
    do not change the result.
    """
    filled = [one.facts for one in segments if one.facts["term_sets"] > 0]
    if not filled:
        return 0.0
    groups = int(filled[0]["groups"])
    return groups + float(sum(facts["squares"] / facts["term_sets"] - groups for facts in filled))
