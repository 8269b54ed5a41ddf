"""What records wrote, told from the history. `tests/clustering/test_recorded.py` does it with random lives."""

from __future__ import annotations

from core.types import Cause, Cluster, ImageId, Membership, Move, Outcome, Written
from storage.memory import MemoryStore
from storage.testing.decisions import A, B, C, decided, deletes, founds, ignored, joins, put
from storage.written import COUNTED, look_up_before, written_at


def told(store: MemoryStore, image_id: ImageId, offset: int, *others: ImageId) -> Written:
    with store.snapshot() as view:
        return written_at(view, image_id, offset, others)


def adopting(store: MemoryStore) -> None:
    """`a` and `b` found clusters, then `c` joins `a` and takes `b` along."""
    put(store, founds(0, A), founds(1, B))
    put(store, decided(2, C, Move(C, None, A, Cause.MATCHED, 0.9, A), Move(B, B, A, Cause.ADOPTED, 0.8, C)))


def test_the_moves_of_a_record_and_what_was_so_before() -> None:
    store = MemoryStore()
    adopting(store)
    put(store, deletes(3, A, A))
    written = told(store, C, 2, A, B)
    assert (written.first_number, written.place) == (3, 2)
    assert [(move.image_id, move.old_head, move.new_head) for move in written.moves] == [(C, None, A), (B, B, A)]
    assert written.before.memberships == {A: Membership(A, 1, 0, A), B: Membership(B, 1, 1, B)}
    assert {head: cluster.count for head, cluster in written.before.clusters.items()} == {A: 1, B: 1}


def test_a_record_that_moved_nothing_tells_of_now() -> None:
    store = MemoryStore()
    put(store, founds(0, A), ignored(1, A, Outcome.DUPLICATE))
    written = told(store, A, 1)
    assert (written.first_number, written.moves) == (0, ())
    assert written.before.memberships == {A: Membership(A, 1, 0, A)}


def test_a_record_that_moved_only_others() -> None:
    store = MemoryStore()
    adopting(store)
    written = told(store, A, 2, B)
    assert (written.first_number, [move.image_id for move in written.moves]) == (4, [B])


def test_members_are_counted_as_far_as_the_rule_asks() -> None:
    store = MemoryStore()
    put(store, founds(0, A), *[joins(number, ImageId(f"m{number}"), A) for number in range(1, 9)])
    with store.snapshot() as view:
        counts = [look_up_before(view, [A], number).clusters[A].count for number in range(2, 9)]
    assert counts == [min(each, COUNTED) for each in range(1, 8)]


def test_before_the_first_entry_nothing_is_known() -> None:
    store = MemoryStore()
    put(store, founds(0, A))
    with store.snapshot() as view:
        before = look_up_before(view, [A, B], 1)
    assert (before.memberships, before.clusters) == ({}, {})


def test_a_deleted_head_names_its_cluster() -> None:
    store = MemoryStore()
    put(store, founds(0, A), joins(1, B, A), deletes(2, A, A))
    with store.snapshot() as view:
        before = look_up_before(view, [A, B], 4)
    assert before.memberships == {B: Membership(B, 1, 1, A)}
    cluster = before.clusters[A]
    assert (cluster.head, cluster.head_deleted) == (A, True)
    assert isinstance(cluster, Cluster)
