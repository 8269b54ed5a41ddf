"""What a store must do with an image that is forgotten: a part of `storage.testing.contract`."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.notifications import MAX_IMAGE_VERSION
from core.overrides import JOB_KINDS, OverrideKind, OverrideRequest, RollbackRequest
from core.pseudonyms import NOBODY
from core.types import NO_HEAD, Cause, DeadLetterRecord, ImageId, Move, Outcome
from storage.erasing import Eraser
from storage.errors import ContradictionError
from storage.interfaces import ClusterStore, StoreView
from storage.records import ErasureState
from storage.testing.decisions import A, B, C, D, decided, deletes, forgets, founds, ignored, joins, put
from storage.verify import verify

__all__ = ["ForgetContract", "assert_erased", "erase_all", "texts_of"]

E = ImageId("e")


def erase_all(store: ClusterStore, records_at_once: int = 2_000) -> int:
    """Erases all that was forgotten; returns how many steps that took."""
    eraser, steps = Eraser(store, waits_for_publisher=False, records_at_once=records_at_once, now_ms=lambda: 777), 0
    while eraser.step():
        steps += 1
    return steps


def texts_of(view: StoreView, *heads: ImageId) -> str:
    """All records of a view as text, with the ended clusters of some heads."""
    records = [
        *view.images(),
        *view.clusters(),
        *view.edges(),
        *view.embeddings(),
        *view.history_from(0),
        *view.tombstones(),
        *view.erasures(),
        *view.dead_letters(),
        *view.deltas(),
        *(ended for head in heads for ended in view.ended_clusters(head, 0)),
        *(number for head in heads for number in view.history_numbers_of(head, 0)),
    ]
    return "\n".join(map(repr, records))


def assert_sound(view: StoreView) -> None:
    """A check of the whole view finds nothing wrong."""
    assert [progress.problems for progress in verify(view)][-1] == ()


def assert_erased(store: ClusterStore, image_id: ImageId) -> None:
    """No record says anything of an image, and the store is sound."""
    with store.snapshot() as view:
        assert repr(str(image_id)) not in texts_of(view, image_id)
        assert list(view.history_of(image_id)) == []
        assert_sound(view)


class ForgetContract:
    """Forgetting."""

    @abstractmethod
    def make(self) -> ClusterStore:
        """A new, empty store."""

    def test_a_forgotten_head_passes_its_name_to_the_oldest_scored_member(self, store: ClusterStore) -> None:
        unscored = decided(1, B, Move(B, None, B, Cause.UNSCORED))
        adopts = decided(2, C, Move(C, None, A, Cause.MATCHED, 0.9, A), Move(B, B, A, Cause.ADOPTED, 0.8, C))
        heard: list[int] = []
        store.on_rename(heard.append)
        put(store, founds(0, A), unscored, adopts, joins(3, D, A), founds(4, E))
        put(store, forgets(5, A, A))
        assert heard == [3]
        assert store.image(A) is None
        assert store.cluster(A) is None
        cluster = store.cluster(C)
        assert cluster is not None
        assert (cluster.count, cluster.founding_code, cluster.head_deleted) == (3, b"\x02", False)
        assert store.members(C, 9).items == (C, B, D)
        moved = [store.image(each) for each in (B, C, D)]
        assert [(each.head, each.cause, each.matched, each.version) for each in moved if each] == [
            (C, Cause.RENAMED, None, 1)
        ] * 3
        assert [(entry.image_id, entry.old_head, entry.new_head, entry.cause) for entry in store.history(6, 9)] == [
            (A, A, NO_HEAD, Cause.DELETED),
            (C, A, C, Cause.RENAMED),
            (B, A, C, Cause.RENAMED),
            (D, A, C, Cause.RENAMED),
        ]
        state = store.state()
        assert (state.images, state.clusters, state.deleted, state.tombstones) == (4, 2, 1, 1)
        with store.snapshot() as view:
            assert_sound(view)

    def test_only_unscored_members_are_led_by_the_oldest(self, store: ClusterStore) -> None:
        unscored = decided(1, B, Move(B, None, B, Cause.UNSCORED), score_code=b"")
        adopts = decided(2, C, Move(C, None, A, Cause.MATCHED, 0.9, A), Move(B, B, A, Cause.ADOPTED, 0.8, C))
        put(store, founds(0, A), unscored, adopts, deletes(3, C, A), forgets(4, A, A))
        cluster = store.cluster(B)
        assert cluster is not None
        assert (cluster.count, cluster.founding_code) == (1, b"")

    def test_a_head_that_was_deleted_before_passes_its_name_too(self, store: ClusterStore) -> None:
        put(store, founds(0, A), joins(1, B, A), joins(2, C, A), deletes(3, A, A), forgets(4, A, None))
        assert store.members(B, 9).items == (B, C)
        assert store.cluster(A) is None
        assert store.state().tombstones == 1
        erase_all(store)
        assert_erased(store, A)

    def test_a_member_and_a_singleton_leave_as_if_deleted(self, store: ClusterStore) -> None:
        put(store, founds(0, A), joins(1, B, A), founds(2, C), forgets(3, B, A), forgets(4, C, C))
        assert store.members(A, 9).items == (A,)
        assert (store.state().images, store.state().clusters) == (1, 1)
        erase_all(store)
        assert_erased(store, B)
        assert_erased(store, C)

    def test_versions_up_to_the_forgotten_one_stay_ignored(self, store: ClusterStore) -> None:
        put(store, founds(0, A, version=3), forgets(1, A, A, version=3))
        for _ in range(2):
            found = store.look_up([A, B])
            assert (found.tombstones[A].image_id, found.tombstones[A].version) == (A, 3)
            assert list(found.tombstones) == [A]
            assert store.heads([A, B]).tombstones == found.tombstones
            put(store, ignored(store.position().offset + 1, A, Outcome.SUPERSEDED, 3))
            with pytest.raises(ContradictionError):
                put(store, founds(store.position().offset + 1, A, version=3))
            erase_all(store)
        assert store.state().superseded == 2

    def test_a_higher_version_is_a_new_life(self, store: ClusterStore) -> None:
        put(store, founds(0, A), joins(1, B, A), forgets(2, A, A))
        put(store, joins(3, A, B, version=2), forgets(4, B, B), founds(5, B, version=2))
        assert store.state().tombstones == 0
        assert store.members(A, 9).items == (A,)
        erase_all(store)
        with store.snapshot() as view:
            assert [entry.number for entry in view.history_of(A)] == [5, 7]
            assert [entry.number for entry in view.history_of(B)] == [8]
            assert_sound(view)
        put(store, deletes(6, A, A, version=2))
        assert store.state().tombstones == 1
        assert store.look_up([A]).tombstones[A].version == 2

    def test_a_refused_image_never_returns(self, store: ClusterStore) -> None:
        put(store, founds(0, A), forgets(1, A, A, version=MAX_IMAGE_VERSION))
        erase_all(store)
        put(store, ignored(2, A, Outcome.SUPERSEDED, MAX_IMAGE_VERSION))
        with pytest.raises(ContradictionError):
            put(store, founds(3, A, version=MAX_IMAGE_VERSION))

    def test_a_delete_after_it_names_nobody(self, store: ClusterStore) -> None:
        put(store, founds(0, A), forgets(1, A, A))
        erase_all(store)
        put(store, deletes(2, A, None, version=7))
        assert store.look_up([A]).tombstones[A].version == 7
        assert store.state().tombstones == 1
        assert_erased(store, A)

    def test_history_keeps_numbered_blanks_and_pseudonyms(self, store: ClusterStore) -> None:
        adopts = decided(2, C, Move(C, None, A, Cause.MATCHED, 0.9, A), Move(B, B, A, Cause.ADOPTED, 0.8, C))
        put(store, founds(0, A), founds(1, B), adopts, joins(3, D, A), forgets(4, A, A), forgets(5, C, B))
        erase_all(store)
        with store.snapshot() as view:
            names = view.pseudonyms()
            assert names is not None
            a, c = names.of(A), names.of(C)
            told = [(each.image_id, each.old_head, each.new_head, each.matched) for each in view.history_from(0)]
            blank = (NOBODY, None, NO_HEAD, None)
            assert told == [
                blank,
                (B, None, B, None),
                blank,
                (B, B, a, c),
                (D, None, a, a),
                blank,
                (B, a, B, None),
                blank,
                (D, a, B, None),
                blank,
            ]
            assert [entry.number for entry in view.history_from(0)] == list(range(1, 11))
            blanks = [entry for entry in view.history_from(0) if entry.image_id == NOBODY]
            assert {(entry.cause, entry.place, entry.version) for entry in blanks} == {(Cause.FORGOTTEN, 0, 0)}
        assert_erased(store, A)
        assert_erased(store, C)

    def test_the_match_of_another_image_gets_the_pseudonym(self, store: ClusterStore) -> None:
        put(store, founds(0, A), joins(1, B, A), decided(2, C, Move(C, None, A, Cause.MATCHED, 0.9, B)))
        put(store, forgets(3, B, A))
        revision = store.state().revision
        erase_all(store)
        image = store.image(C)
        with store.snapshot() as view:
            names = view.pseudonyms()
        assert image is not None
        assert names is not None
        assert image.matched == names.of(B)
        assert store.state().revision == revision + 1

    def test_dead_letters_and_ended_clusters_of_it_go(self, store: ClusterStore) -> None:
        letter = DeadLetterRecord(b"a", b"the image")
        put(store, decided(0, A, Move(A, None, A, Cause.UNSCORED), dead_letter=letter), founds(1, B))
        put(store, founds(2, A, old=A, version=2), forgets(3, A, A, version=2))
        erase_all(store)
        with store.snapshot() as view:
            assert list(view.dead_letters()) == []
            assert list(view.ended_clusters(A, 0)) == []
        assert_erased(store, A)

    def test_erasing_waits_until_the_delete_is_published(self, store: ClusterStore) -> None:
        put(store, founds(0, A), founds(1, B), forgets(2, A, A))
        eraser = Eraser(store, now_ms=lambda: 777)
        store.set_published(2)
        assert not eraser.step()
        store.set_published(3)
        while eraser.step():
            pass
        with store.snapshot() as view:
            (erasure,) = view.erasures()
        assert (erasure.state, erasure.image_id, erasure.erased_at_ms) == (ErasureState.DONE, NO_HEAD, 777)
        assert (erasure.position, erasure.forgotten_at_ms) == (2, 32)
        assert_erased(store, A)

    def test_an_image_forgotten_again_while_it_is_erased_is_erased_again(self, store: ClusterStore) -> None:
        put(store, founds(0, A), joins(1, B, A), forgets(2, A, A))
        eraser = Eraser(store, waits_for_publisher=False, now_ms=lambda: 777)
        for _ in range(3):
            assert eraser.step()
        put(store, joins(3, A, B, version=2), joins(4, C, B, version=1), forgets(5, A, B, version=2))
        while eraser.step():
            pass
        assert_erased(store, A)

    @pytest.mark.parametrize("erased", [False, True])
    def test_a_rollback_brings_back_neither_its_name_nor_that_it_matched(
        self, store: ClusterStore, erased: bool
    ) -> None:
        put(store, founds(0, A), joins(1, B, A), joins(2, C, A), kinds=JOB_KINDS)
        put(store, forgets(3, A, A), founds(4, D), kinds=JOB_KINDS)
        put(store, founds(5, A, version=2), kinds=JOB_KINDS)  # a new life is another image
        if erased:
            erase_all(store)
        back = RollbackRequest(to_change=3)
        store.override(OverrideRequest(OverrideKind.ROLLBACK, rollback=back, author="me"), 99)
        assert store.members(B, 9).items == (B, C)
        assert store.members(A, 9).items == (A,)
        put(store, forgets(6, A, A, version=2), kinds=JOB_KINDS)
        erase_all(store)
        assert_erased(store, A)

    @pytest.mark.parametrize("bad", ["no tombstone", "not deleted"])
    def test_what_cannot_be_forgotten_is_a_contradiction(self, store: ClusterStore, bad: str) -> None:
        put(store, founds(0, A))
        decision = forgets(1, A, A)
        wrong = replace(decision, tombstone=None, moves=()) if bad == "no tombstone" else replace(decision, moves=())
        with pytest.raises(ContradictionError):
            put(store, wrong)

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def test_any_order_with_forgets_stays_sound_and_forgets(self, data: st.DataObject) -> None:
        """A plain model of heads, by which each record is made; whatever was forgotten last is nowhere."""
        store = self.make()
        ids = [A, B, C, D]
        head: dict[ImageId, ImageId] = {}
        version = dict.fromkeys(ids, 0)
        forgotten: set[ImageId] = set()
        try:
            for offset in range(data.draw(st.integers(1, 16), "records")):
                image = data.draw(st.sampled_from(ids), "image")
                kind = data.draw(st.sampled_from(("found", "join", "forget", "erase")), "kind")
                others = sorted(each for each in set(head.values()) if each != image)
                leads = list(head.values()).count(image) > (head.get(image) == image)
                old = head.get(image)
                if kind == "erase":
                    erase_all(store, data.draw(st.integers(1, 3), "records at once"))
                    put(store, ignored(offset, ImageId(""), Outcome.UNREADABLE))
                    continue
                if kind == "forget":
                    if not version[image]:
                        put(store, ignored(offset, ImageId(""), Outcome.UNREADABLE))
                        continue
                    put(store, forgets(offset, image, old, version[image]))
                    head.pop(image, None)
                    members = [each for each, of in head.items() if of == image]
                    heir = min(members, key=lambda each: _place(store, each), default=None)
                    head.update((each, heir) for each in members if heir is not None)
                    forgotten.add(image)
                    continue
                version[image] += 1
                forgotten.discard(image)
                if leads:
                    put(store, decided(offset, image, Move(image, old, image, Cause.KEPT), version=version[image]))
                    head[image] = image
                elif kind == "join" and others:
                    target = data.draw(st.sampled_from(others), "head")
                    put(store, joins(offset, image, target, old=old, version=version[image]))
                    head[image] = target
                else:
                    put(store, founds(offset, image, old=old, version=version[image]))
                    head[image] = image
            erase_all(store)
            with store.snapshot() as view:
                assert {image.image_id: image.head for image in view.images()} == head
                assert_sound(view)
            for image in forgotten:
                assert_erased(store, image)
        finally:
            store.close()


def _place(store: ClusterStore, image_id: ImageId) -> int:
    image = store.image(image_id)
    assert image is not None
    return image.place
