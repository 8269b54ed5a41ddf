"""The tests that every store must pass: the author of a store subclasses `StoreContract` and says how one is made."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import BadInputError, LogGapError, MismatchError, RefusedError, StaleError, UnavailableError
from core.types import (
    NO_HEAD,
    Cause,
    Cluster,
    DeadLetterRecord,
    Decision,
    ImageId,
    LogPosition,
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
    Edge,
    EmbeddingRecord,
    EndedCluster,
    HistoryEntry,
    ImageRecord,
    PublishedMark,
    StoreState,
)
from storage.testing.decisions import (
    EPOCH,
    A,
    B,
    C,
    D,
    assert_holds,
    decided,
    deletes,
    fill,
    founds,
    ignored,
    is_unscored,
    joins,
    put,
    replays,
)
from storage.testing.deltas import DeltaContract
from storage.testing.forgetting import ForgetContract
from storage.testing.life import LifeContract
from storage.testing.model import LOG, Action, StoreModel, actions, seeded_actions
from storage.testing.overrides import OverrideContract
from storage.testing.pages import PagesContract
from storage.testing.rollbacks import RollbackContract
from storage.testing.sweeps import SweepContract


class StoreContract(
    LifeContract, DeltaContract, ForgetContract, OverrideContract, PagesContract, RollbackContract, SweepContract
):
    """What a store must do. A subclass whose name begins with `Test` is found by pytest and runs all of it."""

    @abstractmethod
    def make(self) -> ClusterStore:
        """A new, empty store."""

    @pytest.fixture
    def store(self) -> Iterator[ClusterStore]:
        store = self.make()
        yield store
        store.close()

    def test_a_new_store_is_empty(self, store: ClusterStore) -> None:
        assert store.state() == StoreState()
        assert store.position() == LogPosition()
        assert store.published() == 0
        assert store.image(A) is None
        assert store.cluster(A) is None
        assert store.members(A, 10).items == ()
        assert store.history(0, 10) == ()

    def test_founding_writes_everything(self, store: ClusterStore) -> None:
        assert put(store, founds(0, A)) == LogPosition(LOG, 0, 1000)
        record = ImageRecord(A, 1, 0, A, None, None, Cause.FOUNDED, 30, 10, 20, Versions("m1", "i1"), 1)
        assert store.image(A) == record
        assert store.cluster(A) == ClusterRecord(A, 1, b"\x00", 30)
        assert store.history(0, 10) == (
            HistoryEntry(1, A, None, A, Cause.FOUNDED, None, None, 0, 0, 1, 30, 10, 20, Versions("m1", "i1")),
        )
        with store.snapshot() as view:
            assert list(view.edges()) == [Edge(A, 1, A)]
            assert view.embedding(0) == EmbeddingRecord(0, A, 1, b"\x00", b"search", b"score")
        assert store.state() == StoreState(LogPosition(LOG, 0, 1000), 0, 1, 1, 1)

    def test_joining(self, store: ClusterStore) -> None:
        put(store, founds(0, A), joins(1, B, A))
        image = store.image(B)
        assert image is not None
        assert (image.head, image.score, image.matched, image.cause) == (A, 0.9, A, Cause.MATCHED)
        assert store.members(A, 10).items == (A, B)
        assert store.cluster(A) == ClusterRecord(A, 2, b"\x00", 30)
        assert store.cluster(B) is None

    def test_an_adopted_head_leaves_no_cluster_and_keeps_its_own_times(self, store: ClusterStore) -> None:
        adopts = Move(B, B, A, Cause.ADOPTED, 0.8, C)
        put(store, founds(0, A), founds(1, B), decided(2, C, Move(C, None, A, Cause.MATCHED, 0.9, A), adopts))
        assert store.cluster(B) is None
        assert store.members(A, 10).items == (A, C, B)
        assert store.image(B) == ImageRecord(B, 1, 1, A, 0.8, C, Cause.ADOPTED, 32, 11, 21, Versions("m1", "i1"), 4)
        entry = store.history(3, 1)[0]
        assert (entry.number, entry.image_id, entry.place, entry.offset, entry.arrived_at_ms) == (4, B, 1, 2, 21)
        assert store.state().clusters == 1

    def test_a_new_version_of_a_member_leaves(self, store: ClusterStore) -> None:
        put(store, founds(0, A), joins(1, B, A), founds(2, B, old=A, version=2))
        assert store.members(A, 10).items == (A,)
        assert store.members(B, 10).items == (B,)
        assert store.cluster(A) == ClusterRecord(A, 1, b"\x00", 30)
        assert store.cluster(B) == ClusterRecord(B, 1, b"\x02", 32)
        with store.snapshot() as view:
            assert [embedding.place for embedding in view.embeddings()] == [0, 2]

    def test_a_new_version_of_a_member_that_joins_the_same_head_stays_where_it_was(self, store: ClusterStore) -> None:
        put(store, founds(0, A), joins(1, B, A), joins(2, C, A), joins(3, B, A, old=A, version=2))
        assert store.members(A, 10).items == (A, B, C)
        image = store.image(B)
        assert image is not None
        assert (image.version, image.place, image.edge_sequence) == (2, 3, 2)
        assert store.state().history_number == 4

    def test_a_head_with_members_keeps_its_founding_code(self, store: ClusterStore) -> None:
        kept = decided(2, A, Move(A, A, A, Cause.KEPT), version=2)
        put(store, founds(0, A), joins(1, B, A), kept)
        assert store.cluster(A) == ClusterRecord(A, 2, b"\x00", 30)
        with store.snapshot() as view:
            assert view.embedding(0) is None
            assert view.embedding(2) == EmbeddingRecord(2, A, 2, b"\x02", b"search", b"score")

    def test_clusters_that_end_are_kept_as_they_were(self, store: ClusterStore) -> None:
        put(store, founds(0, A), founds(1, A, old=A, version=2), founds(2, B))
        put(store, joins(3, A, B, old=A, version=3), deletes(4, B, B), deletes(5, A, B, 3))
        with store.snapshot() as view:
            assert list(view.ended_clusters(A, 0)) == [
                EndedCluster(2, ClusterRecord(A, 1, b"\x00", 30)),
                EndedCluster(4, ClusterRecord(A, 1, b"\x01", 31)),
            ]
            assert [each.number for each in view.ended_clusters(A, 2)] == [4]
            assert list(view.ended_clusters(B, 0)) == [EndedCluster(6, ClusterRecord(B, 1, b"\x02", 32, True))]
            assert list(view.ended_clusters(C, 0)) == []

    def test_an_unscored_version_of_a_head_with_members_keeps_it_too(self, store: ClusterStore) -> None:
        unscored = decided(2, A, Move(A, A, A, Cause.UNSCORED), version=2, score_code=b"")
        put(store, founds(0, A), joins(1, B, A), unscored)
        assert store.cluster(A) == ClusterRecord(A, 2, b"\x00", 30)

    def test_an_image_stays_unscored_until_a_new_version_is_scored(self, store: ClusterStore) -> None:
        unscored = decided(0, A, Move(A, None, A, Cause.UNSCORED))
        adopts = decided(2, C, Move(C, None, B, Cause.MATCHED, 0.9, B), Move(A, A, B, Cause.ADOPTED, 0.8, C))
        put(store, unscored, founds(1, B), adopts)
        assert {each: is_unscored(store, each) for each in (A, B, C)} == {A: True, B: False, C: False}
        put(store, joins(3, A, B, old=B, version=2))
        assert not is_unscored(store, A)

    def test_dead_letters_are_there_with_their_decisions_until_they_are_removed(self, store: ClusterStore) -> None:
        one, two = DeadLetterRecord(b"a", b"one", b"trace"), DeadLetterRecord(b"", b"two")
        put(store, decided(0, A, Move(A, None, A, Cause.UNSCORED), dead_letter=one))
        unreadable = Decision(1, 1001, Outcome.UNREADABLE, ImageId(""), 0, 1, dead_letter=two)
        put(store, unreadable, founds(2, B))
        with store.snapshot() as view:
            assert list(view.dead_letters()) == [(0, one), (1, two)]
            assert list(view.dead_letters(after=0)) == [(1, two)]
        with pytest.raises(ContradictionError):
            put(store, decided(3, C, Move(C, B, C, Cause.UNSCORED), dead_letter=one))
        store.remove_dead_letters([0, 7])
        with store.snapshot() as view:
            assert list(view.dead_letters()) == [(1, two)]

    def test_a_singleton_that_founds_anew_takes_the_new_code(self, store: ClusterStore) -> None:
        put(store, founds(0, A), founds(1, A, old=A, version=2))
        assert store.cluster(A) == ClusterRecord(A, 1, b"\x01", 31)
        assert store.members(A, 10).items == (A,)

    def test_a_singleton_may_move_and_its_id_may_found_again(self, store: ClusterStore) -> None:
        put(store, founds(0, A), founds(1, B), joins(2, B, A, old=B, version=2), founds(3, B, old=A, version=3))
        assert store.members(A, 10).items == (A,)
        assert store.members(B, 10).items == (B,)
        assert store.state().clusters == 2

    def test_ignored_records_only_advance(self, store: ClusterStore) -> None:
        put(store, founds(0, A, version=5))
        before = store.image(A)
        put(store, ignored(1, A, Outcome.DUPLICATE, 5), ignored(2, A, Outcome.SUPERSEDED, 4))
        assert store.image(A) == before
        state = store.state()
        assert (state.position.offset, state.duplicates, state.superseded, state.history_number) == (2, 1, 1, 1)

    def test_a_record_that_names_no_image_only_advances(self, store: ClusterStore) -> None:
        put(store, founds(0, A), ignored(1, ImageId(""), Outcome.UNREADABLE), founds(2, B))
        state = store.state()
        assert (state.position.offset, state.images, state.history_number) == (2, 2, 2)

    def test_no_decisions_change_nothing(self, store: ClusterStore) -> None:
        assert put(store) == LogPosition()
        store.apply("another", [founds(0, A)], -1, 0)
        assert store.position().log_id == "another"

    @pytest.mark.parametrize(("offset", "revision"), [(-1, 0), (1, 0), (0, 1), (7, 7)])
    def test_a_write_on_another_basis_is_stale(self, store: ClusterStore, offset: int, revision: int) -> None:
        put(store, founds(0, A))
        with pytest.raises(StaleError) as caught:
            store.apply(LOG, [founds(1, B)], offset, revision)
        assert (caught.value.offset, caught.value.revision) == (0, 0)
        assert store.position().offset == 0

    def test_a_gap_or_another_log_is_refused(self, store: ClusterStore) -> None:
        with pytest.raises(LogGapError) as caught:
            store.apply(LOG, [founds(1, A)], -1, 0)
        assert caught.value.expected == 0
        put(store, founds(0, A))
        with pytest.raises(LogGapError) as caught:
            put(store, founds(1, B), founds(3, C))
        assert caught.value.expected == 2
        with pytest.raises(LogGapError) as caught:
            store.apply("another", [founds(1, B)], 0, 0)
        assert caught.value.expected == 1
        assert store.state().images == 1

    def test_a_renewed_log_goes_on_where_the_last_one_ended(self, store: ClusterStore) -> None:
        put(store, founds(0, A), founds(1, B))
        assert store.renew("second", 2) == LogPosition("second", 1, 1001, base=2)
        revision = store.state().revision
        assert store.renew("second", 2) == store.position()
        assert store.state().revision == revision
        with pytest.raises(LogGapError):
            store.apply(LOG, [founds(2, C)], 1, revision)
        store.apply("second", [founds(2, C)], 1, revision)
        assert store.position() == LogPosition("second", 2, 1002, base=2)
        assert store.state().images == 3

    def test_a_log_is_renewed_again_before_its_first_record(self, store: ClusterStore) -> None:
        put(store, founds(0, A))
        store.renew("second", 1)
        assert store.renew("third", 1) == LogPosition("third", 0, 1000, base=1)

    @pytest.mark.parametrize("base", [0, 1, 3])
    def test_a_log_that_begins_elsewhere_is_refused(self, store: ClusterStore, base: int) -> None:
        put(store, founds(0, A), founds(1, B))
        with pytest.raises(MismatchError, match=f"begins at 2, not at {base}"):
            store.renew("second", base)
        with pytest.raises(RefusedError):
            store.renew("", 2)
        assert store.position() == LogPosition(LOG, 1, 1001)

    @pytest.mark.parametrize(
        "bad",
        [
            pytest.param(founds(4, ImageId("")), id="empty id"),
            pytest.param(founds(4, ImageId("ä" * 129)), id="long id"),
            pytest.param(founds(4, ImageId("\ud800")), id="surrogate"),
            pytest.param(founds(4, D, version=2**64), id="version"),
            pytest.param(founds(4, D, created_at_ms=2**63), id="time"),
            pytest.param(founds(4, D, checksum=-1), id="checksum"),
            pytest.param(founds(4, D, score_code=b"x" * 2049), id="code"),
            pytest.param(founds(4, D, search_vector=b"x" * 65_537), id="vector"),
            pytest.param(founds(4, D, versions=Versions("m" * 1025)), id="model version"),
            pytest.param(decided(4, D, Move(D, None, A, Cause.MATCHED, float("nan"), A)), id="score"),
            pytest.param(founds(4, D, tombstone=Tombstone(D, 2**64, 4, 0)), id="deleted version"),
            pytest.param(deletes(4, D, tombstone=Tombstone(D, 1, 4, 0, "x" * 1025)), id="author"),
            pytest.param(replays(4, D, request=-1), id="request"),
            pytest.param(decided(4, D, Move(D, None, NO_HEAD, Cause.FOUNDED)), id="no head"),
        ],
    )
    def test_malformed_decisions_are_refused_whole(self, store: ClusterStore, bad: Decision) -> None:
        put(store, founds(0, A), joins(1, B, A), founds(2, C))
        with pytest.raises(RefusedError) as caught:
            put(store, founds(3, ImageId("fine")), bad)
        assert caught.value.offset == 4
        assert store.position().offset == 2

    def test_a_log_id_must_be_named(self, store: ClusterStore) -> None:
        with pytest.raises(RefusedError):
            store.apply("", [founds(0, A)], -1, 0)

    @pytest.mark.parametrize(
        "bad",
        [
            pytest.param(decided(4, D), id="no moves"),
            pytest.param(decided(4, D, Move(A, A, A, Cause.KEPT)), id="another image's move"),
            pytest.param(founds(4, D, old=A), id="unknown image has an old head"),
            pytest.param(founds(4, B, version=2), id="known image has no old head"),
            pytest.param(founds(4, B, old=C, version=2), id="another old head"),
            pytest.param(founds(4, C, old=C), id="same version"),
            pytest.param(joins(4, D, B), id="joins a member"),
            pytest.param(joins(4, D, ImageId("unknown")), id="joins an unknown image"),
            pytest.param(joins(4, A, C, old=A, version=2), id="head with members leaves"),
            pytest.param(founds(4, A, old=A, version=2), id="head with members founds"),
            pytest.param(decided(4, C, Move(C, C, C, Cause.KEPT), version=2), id="singleton kept"),
            pytest.param(decided(4, D, Move(D, None, D, Cause.MATCHED)), id="matched itself"),
            pytest.param(decided(4, D, Move(D, None, A, Cause.FOUNDED)), id="founded elsewhere"),
            pytest.param(decided(4, D, Move(D, None, A, Cause.UNSCORED)), id="unscored elsewhere"),
            pytest.param(decided(4, D, Move(D, None, A, Cause.ADOPTED)), id="own move adopted"),
            pytest.param(
                decided(4, D, Move(D, None, C, Cause.MATCHED), Move(B, A, C, Cause.ADOPTED)), id="member adopted"
            ),
            pytest.param(
                decided(4, D, Move(D, None, C, Cause.MATCHED), Move(A, A, C, Cause.ADOPTED)), id="head adopted"
            ),
            pytest.param(
                decided(4, D, Move(D, None, A, Cause.MATCHED), Move(ImageId("e"), None, A, Cause.ADOPTED)),
                id="unknown adopted",
            ),
            pytest.param(
                decided(4, D, Move(D, None, A, Cause.MATCHED), Move(C, C, A, Cause.MATCHED)), id="second move matched"
            ),
            pytest.param(founds(4, D, place=5), id="place to come"),
            pytest.param(founds(4, D, place=-1), id="no place"),
            pytest.param(founds(4, D, place=0), id="place of another image"),
            pytest.param(ignored(4, D, Outcome.DUPLICATE), id="duplicate of an unknown image"),
            pytest.param(ignored(4, A, Outcome.SUPERSEDED, 2), id="superseded by a lower version"),
            pytest.param(
                replace(ignored(4, ImageId(""), Outcome.UNREADABLE), moves=(Move(A, A, A, Cause.KEPT),)),
                id="unreadable with moves",
            ),
            pytest.param(deletes(4, B, C), id="deleted from another head"),
            pytest.param(deletes(4, B), id="deleted and stays"),
            pytest.param(deletes(4, B, A, version=0), id="deleted below its version"),
            pytest.param(deletes(4, D, D), id="unknown image deleted from a head"),
            pytest.param(deletes(4, B, A, tombstone=None), id="deleted without a tombstone"),
            pytest.param(deletes(4, B, A, tombstone=Tombstone(C, 1, 4, 0)), id="tombstone of another image"),
            pytest.param(founds(4, D, tombstone=Tombstone(D, 1, 4, 0)), id="tombstone of a new image"),
            pytest.param(decided(4, C, Move(C, C, NO_HEAD, Cause.DELETED), version=2), id="deleted as decided"),
            pytest.param(replays(4, B, Move(B, A, B, Cause.FOUNDED), version=2, place=1), id="replay of no version"),
            pytest.param(replays(4, B, Move(B, A, B, Cause.FOUNDED), place=2), id="replay at another image's place"),
            pytest.param(replays(4, A, Move(B, A, A, Cause.ADOPTED)), id="replay adopts a member"),
            pytest.param(replays(4, A, Move(A, A, A, Cause.FOUNDED), place=0), id="replayed head founds"),
            pytest.param(replace(ignored(4, A, Outcome.DUPLICATE), moves=(Move(A, A, A, Cause.KEPT),)), id="moves"),
        ],
    )
    def test_contradictions_write_nothing(self, store: ClusterStore, bad: Decision) -> None:
        put(store, founds(0, A), joins(1, B, A), founds(2, C))
        with store.snapshot() as view:
            before = (view.state(), list(view.images()), list(view.edges()), list(view.clusters()))
        with pytest.raises(ContradictionError, match="offset 4"):
            put(store, founds(3, ImageId("fine")), bad)
        with store.snapshot() as view:
            assert (view.state(), list(view.images()), list(view.edges()), list(view.clusters())) == before

    def test_look_up(self, store: ClusterStore) -> None:
        put(store, founds(0, A), joins(1, B, A), founds(2, C))
        lookup = store.look_up([B, B, C, D])
        assert lookup.position == LogPosition(LOG, 2, 1002)
        assert lookup.revision == 0
        assert lookup.memberships == {B: Membership(B, 1, 1, A), C: Membership(C, 1, 2, C)}
        assert lookup.clusters == {A: Cluster(A, 2, b"\x00"), C: Cluster(C, 1, b"\x02")}

    def test_heads(self, store: ClusterStore) -> None:
        put(store, founds(0, A), joins(1, B, A), founds(2, C), deletes(3, C, C))
        found = store.heads([B, D, A, B, C])
        assert (found.position, found.revision) == (LogPosition(LOG, 3, 1003), 0)
        assert found.heads == {A: A, B: A}
        assert found.tombstones == {C: store.tombstone(C)}
        assert store.heads([]).heads == {}

    @pytest.mark.parametrize("text", ["", "x" * 257, "\ud800", "\x00", "a "])
    def test_what_can_be_no_id_is_unknown(self, store: ClusterStore, text: str) -> None:
        put(store, founds(0, A))
        image_id = ImageId(text)
        assert store.look_up([image_id]).memberships == {}
        assert store.heads([image_id]).heads == {}
        assert store.image(image_id) is None
        assert store.cluster(image_id) is None
        for newest_first in (False, True):
            assert store.members(image_id, 1, newest_first=newest_first).items == ()

    def test_a_view_does_not_see_what_comes_later(self, store: ClusterStore) -> None:
        put(store, founds(0, A))
        with store.snapshot() as view:
            put(store, joins(1, B, A))
            assert view.state().position.offset == 0
            assert view.image(B) is None
            assert view.members(A, 5).items == (A,)
            assert [entry.number for entry in view.history(0, 5)] == [1]
            assert view.look_up([A, B]).clusters == {A: Cluster(A, 1, b"\x00")}
            assert view.heads([A, B]).heads == {A: A}
        assert store.members(A, 5).items == (A, B)

    def test_history_is_read_since_any_number(self, store: ClusterStore) -> None:
        put(store, *[founds(n, ImageId(str(n))) for n in range(10)])
        assert [entry.number for entry in store.history(0, 3)] == [1, 2, 3]
        assert [entry.number for entry in store.history(8, 10)] == [9, 10]
        assert store.history(10, 10) == ()
        with store.snapshot() as view:
            assert [entry.number for entry in view.history_from(2)] == list(range(3, 11))

    def test_the_history_of_an_image(self, store: ClusterStore) -> None:
        model = StoreModel()
        fill(store, model, seeded_actions(5, 300, ids=20), 30)
        with store.snapshot() as view:
            entries = list(view.history_from(0))
            for image_id in {entry.image_id for entry in entries}:
                own = [entry for entry in entries if entry.image_id == image_id]
                assert list(view.history_of(image_id)) == own
                assert list(view.history_of(image_id, own[0].number)) == own[1:]
            assert list(view.history_of(ImageId("nobody"))) == []
            assert list(view.history_of(ImageId("x" * 300))) == []
            assert view.history_entry(len(entries)) == entries[-1]
            assert view.history_entry(len(entries) + 1) is None

    def test_an_epoch_begins_with_what_is_published_in_it(self, store: ClusterStore) -> None:
        assert store.epoch() is None
        put(store, founds(0, A), founds(1, B), founds(2, C))
        store.set_published(2)
        store.begin_epoch(EPOCH)
        assert (store.epoch(), store.published()) == (EPOCH, 0)
        store.set_published(3)
        taken_over = replace(EPOCH, created_ms=EPOCH.created_ms + 1, first=4)
        store.begin_epoch(taken_over)
        with store.snapshot() as view:
            assert (view.epoch(), view.published()) == (taken_over, 3)
        for first in (0, 5):
            with pytest.raises(BadInputError):
                store.begin_epoch(replace(EPOCH, first=first))
        assert store.epoch() == taken_over

    def test_published_never_runs_ahead(self, store: ClusterStore) -> None:
        put(store, founds(0, A), founds(1, B))
        store.set_published(2)
        for number in (-1, 3):
            with pytest.raises(BadInputError):
                store.set_published(number)
        assert store.published() == 2
        store.set_published(1)  # the topic lost a message
        assert store.published() == 1

    def test_the_mark_of_what_is_published(self, store: ClusterStore) -> None:
        assert store.published_mark() is None
        put(store, founds(0, A), founds(1, B))
        mark = PublishedMark("topic", 2, 70, 60, 1, -1)
        store.set_published(2, mark)
        with store.snapshot() as view:
            assert (view.published(), view.published_mark()) == (2, mark)
        store.set_published(2)
        assert store.published_mark() is None
        store.set_published(2, mark)
        store.begin_epoch(EPOCH)
        assert store.published_mark() is None

    def test_listeners_hear_of_every_write(self, store: ClusterStore) -> None:
        heard: list[int] = []
        store.on_apply(lambda state: heard.append(state.history_number))
        put(store, founds(0, A), founds(1, B))
        put(store)
        put(store, ignored(2, A, Outcome.DUPLICATE))
        with pytest.raises(StaleError):
            store.apply(LOG, [founds(3, C)], 0, 0)
        assert heard == [2, 2]

    def test_a_closed_store_says_so(self) -> None:
        store = self.make()
        store.close()
        store.close()
        for call in (store.state, lambda: store.look_up([A]), lambda: store.apply(LOG, [founds(0, A)], -1, 0)):
            with pytest.raises(UnavailableError):
                call()

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(steps=st.lists(actions, max_size=40), batch=st.sampled_from([1, 3, 64]))
    def test_it_holds_what_the_model_says(self, steps: list[Action], batch: int) -> None:
        store, model = self.make(), StoreModel()
        try:
            fill(store, model, steps, batch)
            assert_holds(store, model)
        finally:
            store.close()

    def test_a_write_that_is_sent_again_has_no_second_effect(self, store: ClusterStore) -> None:
        """The answer of every fifth write is lost: the caller sends it again, is refused, looks up, goes on."""
        model = StoreModel()
        decisions = [model.decide(action) for action in seeded_actions(7, 300, ids=40)]
        at, writes = -1, 0
        while at < model.offset:
            batch, before, writes = decisions[at + 1 : at + 4], at, writes + 1
            at = store.apply(LOG, batch, before, 0).offset
            if writes % 5 == 0:
                with pytest.raises(StaleError) as refusal:
                    store.apply(LOG, batch, before, 0)
                assert refusal.value.offset == at == store.position().offset
        assert_holds(store, model)

    def test_look_ups_are_of_one_moment_while_the_writer_writes(self, store: ClusterStore) -> None:
        """Each batch moves all members to the other head, so a mixture of two moments would show."""
        ids = [ImageId(f"i{n}") for n in range(20)]
        put(store, founds(0, A), founds(1, B), *[joins(2 + n, each, A) for n, each in enumerate(ids)])
        torn: list[str] = []
        seen: set[int] = set()
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                lookup = store.look_up([A, B, *ids])
                seen.add(lookup.position.offset)
                for head in (A, B):
                    count = sum(membership.head == head for membership in lookup.memberships.values())
                    if lookup.clusters[head].count != count:
                        torn.append(f"{head}: {count} memberships, count {lookup.clusters[head].count}")

        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        try:
            offset, here, there = 21, A, B
            for round_number in range(60):
                batch = [
                    joins(offset + 1 + n, each, there, old=here, version=2 + round_number) for n, each in enumerate(ids)
                ]
                put(store, *batch)
                offset, here, there = offset + len(ids), there, here
        finally:
            done.set()
            for reader in readers:
                reader.join()
        assert torn == []
        assert len(seen) > 1
