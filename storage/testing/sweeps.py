"""What every store must do when old history is swept: remove all that is kept of it, and nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace

import pytest

from core.errors import BadInputError
from core.types import Cause, Move
from storage.interfaces import ClusterStore, StoreView
from storage.records import StoreState
from storage.testing.decisions import EPOCH, A, B, C, D, assert_holds, decided, deletes, fill, founds, joins, put
from storage.testing.model import StoreModel, seeded_actions
from storage.verify import verify


class SweepContract(ABC):
    """The part of `StoreContract` on old history."""

    @pytest.fixture
    @abstractmethod
    def store(self) -> Iterator[ClusterStore]: ...

    @pytest.fixture
    def lived(self, store: ClusterStore) -> ClusterStore:
        """Five entries, all published: a, b with a, c alone, c goes to a, b is deleted."""
        put(store, founds(0, A), joins(1, B, A), founds(2, C), joins(3, C, A, old=C, version=2), deletes(4, B, A))
        store.set_published(5)
        return store

    def test_the_oldest_entries_go_and_the_rest_stays(self, lived: ClusterStore) -> None:
        before, kept = lived.state(), lived.history(3, 10)
        with lived.snapshot() as view:
            heads, edges = {each.image_id: each.head for each in view.images()}, list(view.edges())
            assert [each.number for each in view.ended_clusters(C, 0)] == [4]
        assert lived.sweep_history(4, 100) == 3
        assert lived.state() == replace(before, history_first=4)
        with lived.snapshot() as view:
            assert tuple(view.history_from(0)) == kept
            assert [list(view.history_numbers_of(each, 0)) for each in (A, B, C)] == [[], [5], [4]]
            assert view.history_entry(3) is None
            assert ({each.image_id: each.head for each in view.images()}, list(view.edges())) == (heads, edges)
            assert [each.number for each in view.ended_clusters(C, 0)] == [4]
            assert _sound(view)
        assert lived.sweep_history(5, 100) == 1
        with lived.snapshot() as view:
            assert list(view.ended_clusters(C, 0)) == []
            assert _sound(view)

    def test_the_last_published_entry_stays(self, store: ClusterStore) -> None:
        put(store, founds(0, A), founds(1, B), founds(2, C))
        assert store.sweep_history(3, 100) == 0
        store.set_published(2)
        assert store.sweep_history(100, 100) == 1
        assert [each.number for each in store.history(0, 10)] == [2, 3]
        store.set_published(3)
        assert store.sweep_history(3, 100) == 1
        assert store.sweep_history(100, 100) == 0
        assert [each.number for each in store.history(0, 10)] == [3]

    def test_a_sweep_takes_as_many_as_it_may(self, lived: ClusterStore) -> None:
        assert [lived.sweep_history(5, 3), lived.sweep_history(5, 3), lived.sweep_history(5, 3)] == [3, 1, 0]
        assert lived.sweep_history(0, 1) == 0
        for limit in (0, -1):
            with pytest.raises(BadInputError, match="at least 1 entry"):
                lived.sweep_history(5, limit)
        assert lived.state().history_first == 5

    def test_a_new_store_has_nothing_to_sweep(self, store: ClusterStore) -> None:
        assert store.sweep_history(100, 100) == 0
        assert store.state() == StoreState()

    def test_what_is_not_kept_is_not_to_be_published_again(self, lived: ClusterStore) -> None:
        lived.sweep_history(4, 100)
        lived.set_published(3)
        with pytest.raises(BadInputError, match="entries 4 to 5"):
            lived.set_published(2)
        with pytest.raises(BadInputError, match="entries 4 to 5"):
            lived.begin_epoch(replace(EPOCH, first=3))
        lived.begin_epoch(replace(EPOCH, first=4))
        assert lived.published() == 3

    def test_listeners_hear_of_a_sweep(self, lived: ClusterStore) -> None:
        heard: list[int] = []
        lived.on_apply(lambda state: heard.append(state.history_first))
        lived.sweep_history(3, 100)
        lived.sweep_history(3, 100)
        assert heard == [3]

    def test_a_store_goes_on_after_a_sweep(self, lived: ClusterStore) -> None:
        lived.sweep_history(5, 100)
        put(lived, joins(5, D, A), founds(6, B, version=2), deletes(7, A, A))
        with lived.snapshot() as view:
            assert [each.number for each in view.history_from(0)] == [5, 6, 7, 8]
            assert _sound(view)
            assert view.changes(A, 10).items == view.history(7, 1)

    def test_where_unscored_images_were_placed_stays_known(self, store: ClusterStore) -> None:
        put(store, decided(0, A, Move(A, None, A, Cause.UNSCORED)), founds(1, B))
        put(store, decided(2, C, Move(C, None, C, Cause.UNSCORED)), founds(3, A, old=A, version=2), founds(4, D))
        store.set_published(5)
        store.sweep_history(2, 100)
        with store.snapshot() as view:
            assert list(view.swept_unscored(-1)) == [(0, 0)]
        store.sweep_history(5, 100)
        with store.snapshot() as view:
            assert list(view.swept_unscored(-1)) == [(0, 0), (2, 2)]
            assert list(view.swept_unscored(0)) == [(2, 2)]
            assert list(view.swept_unscored(2)) == []
            assert _sound(view)

    def test_whatever_happened_before_the_rest_holds(self, store: ClusterStore) -> None:
        model = StoreModel()
        fill(store, model, seeded_actions(23, 200, ids=20), 16)
        store.set_published(len(model.history))
        while store.sweep_history(len(model.history) - 20, 7):
            pass
        assert store.state().history_first == len(model.history) - 20
        fill(store, model, seeded_actions(24, 100, ids=20), 16)
        assert_holds(store, model)


def _sound(view: StoreView) -> bool:
    return [progress.problems for progress in verify(view)][-1] == ()
