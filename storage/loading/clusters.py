"""The clusters of a load: edges and founding codes are merged in the order of their keys. Pure.

Both families are sorted by head, so a cluster is known once its edges were counted, and none is held in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from storage import codec
from storage.cursor import U16
from storage.errors import CorruptedError
from storage.records import ClusterRecord

__all__ = ["CountedCluster", "counted_clusters"]

_SEQUENCE_BYTES = 8


class CountedCluster(NamedTuple):
    """A cluster of a load."""

    prefix: bytes
    """Of the keys of its edges."""
    members: int
    key: bytes
    value: bytes


def counted_clusters(
    edge_keys: Iterator[bytes], founding: Iterator[tuple[bytes, bytes]], founded_at_ms: int
) -> Iterator[CountedCluster]:
    """All clusters, in the order of the keys of their edges.

    Args:
        edge_keys: In order.
        founding: Keys as of edges, with the row as the sequence, and codes, in order. There may be keys of images that
            are no heads. The first of a head counts.
        founded_at_ms: When all of them were founded, in milliseconds since the epoch.

    Raises:
        CorruptedError: A head has no founding code.
    """
    codes = groupby(founding, key=lambda pair: pair[0][:-_SEQUENCE_BYTES])
    found = b""
    rows: Iterator[tuple[bytes, bytes]] = iter(())
    for prefix, keys in groupby(edge_keys, key=lambda key: key[:-_SEQUENCE_BYTES]):
        while found < prefix:
            found, rows = next(codes, (prefix, iter(())))
        first = next(rows, None) if found == prefix else None
        head = prefix[U16.size :]
        if first is None:
            raise CorruptedError(f"the cluster of {head!r} has no founding code")
        members = sum(1 for _ in keys)
        cluster = ClusterRecord(codec.decoded_id("clusters", head), members, first[1], founded_at_ms)
        yield CountedCluster(prefix, members, head, codec.encode_cluster(cluster))
