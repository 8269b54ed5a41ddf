"""A bulk move as all readers see it: from its first step, whatever of it is written already.

While it is planned, and until it is over, three families say what it changes (`storage.codec`):

    planned   wins over images
    deltas    are added to clusters
    edges     of all places where an image is listed, the one that it names counts

Before the first step nobody reads the first two, and the third rule hides the edges that are written ahead.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby

from storage import codec
from storage.errors import CorruptedError
from storage.rocks.options import META

__all__ = ["BULK", "Get", "Overlay", "Rows"]

BULK = b"bulk"
"""The key of the number of the bulk move that everybody sees, in the family `default`; none: there is none."""

Get = Callable[[bytes], bytes | None]
"""The value of a key of one family."""

Rows = Iterator[tuple[bytes, bytes]]


class Overlay:
    """Reads of one moment through the bulk move that is planned or under way then."""

    def __init__(self, getter: Callable[[str], Get]) -> None:
        """Takes how the families are read."""
        self._getter = getter
        self.begun = getter(META)(BULK) is not None
        """Its first step was made, so everybody sees it."""

    def getter(self, family: str) -> Get:
        """How a family is read through the move."""
        get = self._getter(family)
        if not self.begun or family not in ("images", "clusters"):
            return get
        if family == "images":
            planned = self._getter("planned")
            return lambda key: planned(key) or get(key)
        deltas = self._getter("deltas")
        return lambda key: _final(key, get(key), deltas(key))

    def is_moving(self, key: bytes) -> bool:
        """Whether an image, by its key, is still to be rewritten."""
        return self.begun and self._getter("planned")(key) is not None

    def scanned(self, family: str, rows: Rows, deltas: Callable[[], Rows]) -> Rows:
        """The rows of a family through the move.

        Args:
            family: The family.
            rows: Its rows, in either order.
            deltas: The rows of the family `deltas`, for scans of all clusters.
        """
        if family == "edges":
            images = self.getter("images")
            return ((key, value) for key, value in rows if _is_listed(key, images(value)))
        if not self.begun or family not in ("images", "clusters"):
            return rows
        if family == "images":
            planned = self._getter("planned")
            return ((key, planned(key) or value) for key, value in rows)
        return _merged(rows, deltas())


def _is_listed(edge: bytes, image: bytes | None) -> bool:
    return image is not None and edge == codec.decode_edge_key(image)


def _final(key: bytes, cluster: bytes | None, delta: bytes | None) -> bytes | None:
    if delta is None:
        return cluster
    before = None if cluster is None else codec.decode_cluster(key, cluster)
    try:
        after = codec.decode_delta(key, delta).applied(before)
    except ValueError as error:
        raise CorruptedError(f"the bulk move of the cluster {key!r} is damaged: {error}") from None
    return None if after is None else codec.encode_cluster(after)


def _merged(clusters: Rows, deltas: Rows) -> Rows:
    both: Iterable[tuple[bytes, bool, bytes]] = heapq.merge(
        ((key, False, value) for key, value in clusters), ((key, True, value) for key, value in deltas)
    )
    for key, found in groupby(both, key=lambda row: row[0]):
        values = {is_delta: value for _, is_delta, value in found}
        final = _final(key, values.get(False), values.get(True))
        if final is not None:
            yield key, final
