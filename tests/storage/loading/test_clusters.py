"""Clusters from edges and founding codes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from core.types import ImageId
from storage import codec
from storage.errors import CorruptedError
from storage.loading.clusters import counted_clusters
from storage.records import ClusterRecord


def merged(edges: Sequence[tuple[str, int]], founding: Sequence[tuple[str, int, bytes]]) -> list[ClusterRecord]:
    keys = sorted(codec.edge_key(ImageId(head), sequence) for head, sequence in edges)
    codes = sorted((codec.edge_key(ImageId(image), row), code) for image, row, code in founding)
    found = list(counted_clusters(iter(keys), iter(codes), 7))
    records = [codec.decode_cluster(each.key, each.value) for each in found]
    assert [each.members for each in found] == [each.count for each in records]
    assert [each.prefix for each in found] == [codec.edge_prefix(each.head) for each in records]
    return records


def test_each_head_has_its_members_and_its_first_code() -> None:
    edges = [("b", 2), ("b", 5), ("aa", 1), ("b", 9)]
    founding = [("aa", 0, b"1"), ("b", 1, b"2"), ("b", 8, b"3"), ("a", 3, b"4"), ("zz", 3, b"5")]
    assert merged(edges, founding) == [
        ClusterRecord(ImageId("b"), 3, b"2", 7),
        ClusterRecord(ImageId("aa"), 1, b"1", 7),
    ]


def test_nothing_gives_nothing() -> None:
    assert merged([], [("a", 0, b"1")]) == []


@pytest.mark.parametrize("others", [[], [("a", 0, b"1")], [("c", 0, b"1")]])
def test_a_head_without_a_code_is_damage(others: list[tuple[str, int, bytes]]) -> None:
    with pytest.raises(CorruptedError, match="b'b' has no founding code"):
        merged([("b", 2)], others)
