"""Which tables may hold old versions of records that named a forgotten image, and where else its id may lie."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from storage import codec
from storage.records import Touched
from storage.rocks.database import KeyRange
from storage.rocks.options import FAMILIES, META
from storage.rocks.views import DELTA

__all__ = ["MOST_RANGES", "key_ranges", "names_anything", "plan_ranges"]

MOST_RANGES = 64
"""Ranges of one family that are compacted, one by one: each rewrites a table of each level. With more keys than that, a
range has several, and all that lies between them."""

_WHOLE = ("erasures", "dead_letters", "planned", "deltas")
"""Small families, which are always compacted as a whole. Those of bulk moves are empty between two of them."""

_EXAMPLES = KeyRange(META, DELTA, DELTA + b"\xff")
"""How far manifests are, with examples of their rows: a few records, always compacted."""

_LISTED = ("edges", "history_of", "ended")
"""Families whose keys begin with a text, as those of edges."""


def key_ranges(touched: Touched | None) -> list[KeyRange]:
    """The ranges to compact; None: all of each family that may name an image."""
    if touched is None:
        return [*(KeyRange(family, b"", b"") for family in FAMILIES if family != "moments"), _EXAMPLES]
    by_family: dict[str, list[bytes]] = {}
    swept = [KeyRange("history", b"", codec.encode_number(touched.kept_from))] if touched.kept_from > 1 else []
    for family, key in _keys(touched):
        by_family.setdefault(family, []).append(key)
    found = [*swept, *(KeyRange(family, b"", b"") for family in _WHOLE), _EXAMPLES]
    for family, keys in by_family.items():
        ordered = sorted(set(keys))
        size = -(-len(ordered) // MOST_RANGES)
        groups = (ordered[at : at + size] for at in range(0, len(ordered), size))
        found += [KeyRange(family, group[0], group[-1] + b"\0") for group in groups]
    found += [
        KeyRange(family, prefix, prefix + b"\xff" * 9)
        for prefix in map(codec.edge_prefix, sorted(touched.ids))
        for family in _LISTED
    ]
    return found


def plan_ranges(first: bytes) -> list[KeyRange]:
    """The ranges where plans of bulk moves that were removed had written edges and history, this from a key on."""
    return [KeyRange("edges", b"", b""), KeyRange("history", first, b"")]


def _keys(touched: Touched) -> Iterator[tuple[str, bytes]]:
    for image_id in touched.ids:
        key = codec.image_key(image_id)
        for family in ("images", "clusters", "tombstones"):
            yield family, key
    for image_id in touched.images:
        if image_id:
            yield "images", codec.image_key(image_id)
    for number in touched.numbers:
        yield "history", codec.encode_number(number)
    for place in touched.places:
        yield "embeddings", codec.place_key(place)
    for head, sequence in touched.edges:
        if head:
            yield "edges", codec.edge_key(head, sequence)


def names_anything(folder: Path, touched: Touched | None) -> bool:
    """Whether the database's list of its tables, which has their first and last keys, names a forgotten image.

    The list is written anew when the database is opened.
    """
    if touched is None:
        return True
    ids = [image_id.encode() for image_id in touched.ids]
    lists = chain(folder.glob("MANIFEST-*"), folder.glob("LOG*"))
    return any(image_id in content for content in (each.read_bytes() for each in lists) for image_id in ids)
