"""What every store must do with deletes, replays, and the kinds of records that a job must know."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace

import pytest

from core.errors import MismatchError
from core.types import (
    NO_HEAD,
    Cause,
    Cluster,
    ImageId,
    LastVerdict,
    Membership,
    Move,
    Outcome,
    Tombstone,
    Versions,
)
from storage.errors import ContradictionError
from storage.interfaces import ClusterStore
from storage.records import (
    ClusterRecord,
    EmbeddingRecord,
    ImageRecord,
    Mend,
)
from storage.testing.decisions import A, B, C, D, decided, deletes, founds, ignored, is_unscored, joins, put, replays
from storage.testing.model import LOG, REPLAYS


class LifeContract(ABC):
    """The part of `StoreContract` on what becomes of an image after its first verdict."""

    @pytest.fixture
    @abstractmethod
    def store(self) -> Iterator[ClusterStore]: ...

    def test_a_deleted_member_leaves_a_tombstone_and_its_history(self, store: ClusterStore) -> None:
        put(store, founds(0, A), joins(1, B, A), deletes(2, B, A, version=3))
        assert (store.image(B), store.tombstone(B)) == (None, Tombstone(B, 3, 2, 42, "me", "takedown"))
        assert store.members(A, 10).items == (A,)
        assert store.cluster(A) == ClusterRecord(A, 1, b"\x00", 30)
        with store.snapshot() as view:
            assert [each.place for each in view.embeddings()] == [0]
            assert [each.image_id for each in view.tombstones()] == [B]
            entry = next(view.history_from(2))
        assert (entry.number, entry.image_id, entry.old_head, entry.new_head) == (3, B, A, NO_HEAD)
        assert (entry.cause, entry.version, entry.place, entry.offset) == (Cause.DELETED, 1, 1, 2)
        state = store.state()
        assert (state.images, state.clusters, state.deleted, state.tombstones) == (1, 1, 1, 1)
        lookup = store.look_up([A, B])
        assert lookup.memberships.keys() == {A}
        assert lookup.tombstones.keys() == {B}

    def test_a_mend_of_what_is_sound_writes_nothing(self, store: ClusterStore) -> None:
        put(store, founds(0, A), joins(1, B, A))
        before = store.state()
        store.mend([Mend("image", B), Mend("cluster", A), Mend("embeddings", number=1)])
        assert store.state() == before

    def test_a_mended_count_raises_the_revision(self, store: ClusterStore) -> None:
        put(store, founds(0, A))
        before = store.state()
        store.mend([Mend("count", "images", 2)])
        assert store.state() == replace(before, images=3, revision=before.revision + 1)

    def test_a_deleted_singleton_leaves_no_cluster(self, store: ClusterStore) -> None:
        put(store, founds(0, A), deletes(1, A, A))
        assert (store.cluster(A), store.members(A, 10).items) == (None, ())
        assert store.look_up([A]).clusters == {}

    def test_a_deleted_head_names_its_cluster_until_it_is_empty(self, store: ClusterStore) -> None:
        put(store, founds(0, A), joins(1, B, A), joins(2, C, A), deletes(3, A, A))
        assert store.cluster(A) == ClusterRecord(A, 2, b"\x00", 30, head_deleted=True)
        assert store.members(A, 10).items == (B, C)
        lookup = store.look_up([A, B])
        assert lookup.clusters == {A: Cluster(A, 2, b"\x00", head_deleted=True)}
        assert lookup.memberships == {B: Membership(B, 1, 1, A)}
        put(store, joins(4, D, A), deletes(5, B, A), deletes(6, C, A))
        assert store.cluster(A) == ClusterRecord(A, 1, b"\x00", 30, head_deleted=True)
        put(store, founds(7, D, old=A, version=2))
        assert (store.cluster(A), store.members(A, 10).items) == (None, ())
        assert store.look_up([A]).clusters == {}

    def test_a_deleted_head_comes_back_as_the_head_of_its_cluster(self, store: ClusterStore) -> None:
        put(store, founds(0, A), joins(1, B, A), deletes(2, A, A, version=3))
        put(store, decided(3, A, Move(A, None, A, Cause.KEPT), version=4))
        assert store.cluster(A) == ClusterRecord(A, 2, b"\x00", 30)
        assert set(store.members(A, 10).items) == {A, B}
        assert store.tombstone(A) is None
        assert (store.state().images, store.state().tombstones) == (2, 0)

    def test_a_higher_version_is_a_new_life(self, store: ClusterStore) -> None:
        put(store, founds(0, A), deletes(1, A, A, version=5), ignored(2, A, Outcome.SUPERSEDED, 5))
        with pytest.raises(ContradictionError):
            put(store, founds(3, A, version=5))
        put(store, founds(3, A, version=6))
        assert store.tombstone(A) is None
        assert [entry.cause for entry in store.history(0, 9)] == [Cause.FOUNDED, Cause.DELETED, Cause.FOUNDED]

    def test_a_delete_may_come_before_its_image(self, store: ClusterStore) -> None:
        put(store, deletes(0, A, version=2), replace(deletes(1, B), tombstone=None), ignored(2, A, Outcome.SUPERSEDED))
        assert store.look_up([A, B]).tombstones == {A: Tombstone(A, 2, 0, 40, "me", "takedown")}
        assert (store.state().deleted, store.state().tombstones, store.state().history_number) == (0, 1, 0)

    def test_a_replay_that_changes_nothing_only_says_that_it_was_applied(self, store: ClusterStore) -> None:
        put(store, founds(0, A))
        before = store.image(A)
        put(store, replays(1, A, request=70), replays(2, ImageId("unknown"), request=71))
        assert store.image(A) == before
        state = store.state()
        assert (state.replayed, state.requests, state.history_number) == (2, {REPLAYS: 71}, 1)
        assert store.look_up([A]).requests == {REPLAYS: 71}

    def test_a_replay_decides_again_and_keeps_place_times_and_vectors(self, store: ClusterStore) -> None:
        put(store, founds(0, A), joins(1, B, A))
        move = Move(B, A, B, Cause.FOUNDED)
        put(store, replays(2, B, move, place=1, score_code=b"new", versions=Versions("m2", "i1")))
        record = ImageRecord(B, 1, 1, B, None, None, Cause.FOUNDED, 32, 11, 21, Versions("m2", "i1"), 3)
        assert store.image(B) == record
        assert store.cluster(B) == ClusterRecord(B, 1, b"new", 32)
        with store.snapshot() as view:
            assert view.embedding(1) == EmbeddingRecord(1, B, 1, b"new", b"search", b"score")
        assert store.history(2, 1)[0].offset == 2

    def test_a_replay_that_the_index_inserts_moves_the_place(self, store: ClusterStore) -> None:
        put(store, decided(0, A, Move(A, None, A, Cause.UNSCORED), score_code=b""))
        moved = replays(1, A, Move(A, A, A, Cause.FOUNDED), place=1, score_code=b"c", search_vector=b"s")
        put(store, moved)
        with store.snapshot() as view:
            assert view.embedding(0) is None
            assert view.embedding(1) == EmbeddingRecord(1, A, 1, b"c", b"s", b"")
        assert not is_unscored(store, A)

    def test_a_replay_may_only_adopt(self, store: ClusterStore) -> None:
        put(store, founds(0, A), founds(1, B), replays(2, A, Move(B, B, A, Cause.ADOPTED, 0.8, A)))
        assert store.members(A, 10).items == (A, B)

    def test_the_last_verdicts_are_looked_up(self, store: ClusterStore) -> None:
        put(store, founds(0, A), joins(1, B, A))
        assert store.look_up([A], verdicts_of=[B, C]).verdicts == {
            B: LastVerdict(Cause.MATCHED, 0.9, A, Versions("m1", "i1"))
        }
        assert store.look_up([A, B]).verdicts == {}

    def test_a_request_is_applied_once(self, store: ClusterStore) -> None:
        put(store, founds(0, A), replays(1, A, request=7))
        with pytest.raises(ContradictionError, match="applied before"):
            put(store, replays(2, A, request=7))
        repeated = replace(replays(2, C, request=6), outcome=Outcome.DUPLICATE)
        put(store, repeated)
        with pytest.raises(ContradictionError, match="not applied before"):
            put(store, replace(replays(3, A, request=8), outcome=Outcome.DUPLICATE))
        state = store.state()
        assert (state.duplicates, state.replayed, state.requests) == (1, 1, {REPLAYS: 7})

    def test_a_job_must_know_the_kinds_that_are_required(self, store: ClusterStore) -> None:
        with pytest.raises(MismatchError, match="delete"):
            store.require_kinds(["delete"])
        store.apply(LOG, (), -1, 0, ["image", "delete"])
        assert store.state().kinds == {"image", "delete"}
        store.require_kinds(["delete"])
        store.require_kinds(["delete"])
        state = store.state()
        assert (state.required, state.revision) == (frozenset({"delete"}), 1)
        for kinds in ([], ["image"]):
            with pytest.raises(MismatchError, match="delete"):
                store.apply(LOG, [founds(0, A)], -1, 1, kinds)
        assert store.state() == state
        store.apply(LOG, [founds(0, A)], -1, 1, ["image", "delete", "replay"])
        assert store.state().kinds == {"image", "delete", "replay"}
