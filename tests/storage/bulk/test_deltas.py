"""What a bulk move changes of clusters, beside what others change."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.types import Cause, ImageId, Versions
from storage.bulk.deltas import ClusterDelta, Deltas
from storage.records import ClusterRecord, ImageRecord
from storage.testing.decisions import A, B, C

HELD = {A: ClusterRecord(A, 2, b"a", 1), B: ClusterRecord(B, 1, b"b", 2)}


def image(image_id: ImageId, head: ImageId) -> ImageRecord:
    """An image in the cluster of a head."""
    return ImageRecord(image_id, 1, 0, head, None, None, Cause.FOUNDED, 0, 0, 0, Versions(), 1)


def founding(head: ImageId) -> ClusterRecord:
    """A cluster that is founded."""
    return ClusterRecord(head, 1, b"new", 9)


@pytest.fixture
def deltas() -> Deltas:
    return Deltas(HELD.get, founding)


def test_counts_go_from_one_cluster_to_the_other(deltas: Deltas) -> None:
    deltas.add(image(C, A), image(C, B))
    deltas.close()
    assert [deltas.of(head) for head in deltas.by] == [ClusterDelta(-1), ClusterDelta(1)]
    assert (deltas.founded, deltas.emptied) == (0, set())
    # Somebody else has joined meanwhile.
    assert deltas.of(B).applied(replace(HELD[B], count=5)) == replace(HELD[B], count=6)


def test_a_cluster_gets_empty_and_another_one_is_founded(deltas: Deltas) -> None:
    deltas.add(image(B, B), image(B, C))
    deltas.add(image(C, A), image(C, C))
    deltas.close()
    assert deltas.of(B).applied(HELD[B]) is None
    assert deltas.of(C).applied(None) == ClusterRecord(C, 2, b"new", 9)
    assert (deltas.founded, deltas.emptied) == (1, {B})


def test_a_head_that_stays_has_another_founding_code(deltas: Deltas) -> None:
    deltas.add(image(A, A), image(A, A))
    deltas.close()
    assert deltas.of(A).applied(HELD[A]) == ClusterRecord(A, 2, b"new", 9)
    assert (deltas.founded, deltas.emptied) == (0, set())


@pytest.mark.parametrize(("delta", "cluster"), [(ClusterDelta(1), None), (ClusterDelta(-3), HELD[A])])
def test_what_cannot_be_is_told(delta: ClusterDelta, cluster: ClusterRecord | None) -> None:
    with pytest.raises(ValueError, match="it would have"):
        delta.applied(cluster)
