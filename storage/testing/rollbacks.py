"""What every store must do when somebody rolls back: heads as they were, wherever they stand by now."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import pytest

from core.errors import BadInputError
from core.overrides import ChangeFilter, NewImages, OverrideKind, OverrideMove, OverrideOutcome, RollbackRequest
from core.types import Cause, ImageId, Move, Trigger, Versions
from storage.interfaces import ClusterStore
from storage.testing.decisions import A, B, C, D, decided, deletes, founds, joins, put
from storage.testing.overrides import JOB, E, heads, say

F = ImageId("f")


def roll_back(store: ClusterStore, change: int, **fields: Any) -> OverrideOutcome:
    """Somebody rolls back to a change."""
    dry_run = fields.pop("dry_run", False)
    fields.setdefault("new", NewImages.KEEP)
    return say(store, OverrideKind.ROLLBACK, rollback=RollbackRequest(to_change=change, **fields), dry_run=dry_run)


class RollbackContract(ABC):
    """The part of `StoreContract` on rollbacks."""

    @pytest.fixture
    @abstractmethod
    def store(self) -> Iterator[ClusterStore]: ...

    @pytest.fixture
    def street(self, store: ClusterStore) -> ClusterStore:
        """After change 3: a with its member b; c. Then c joins a, and b leaves, is joined by d, and e founds."""
        put(store, founds(0, A), joins(1, B, A), founds(2, C), kinds=JOB)
        bad = Versions("bad", "i1")
        put(store, joins(3, C, A, old=C, version=2, versions=bad), founds(4, B, old=A, version=2), kinds=JOB)
        put(store, joins(5, D, B, versions=bad), founds(6, E), kinds=JOB)
        return store

    def test_heads_go_back_to_a_change(self, street: ClusterStore) -> None:
        revision = street.state().revision
        said = roll_back(street, 3)
        assert set(said.moves) == {OverrideMove(B, B, A), OverrideMove(C, A, C), OverrideMove(D, B, A)}
        assert heads(street) == {A: A, B: A, C: C, D: A, E: E}
        assert (said.created, street.state().revision > revision, street.state().clusters) == (True, True, 3)
        image = street.image(B)
        assert image is not None
        assert (image.cause, image.matched, image.score, image.version) == (Cause.MATCHED, A, 0.9, 2)
        entries = street.history(7, 10)
        assert {(each.trigger, each.reference, each.offset) for each in entries} == {(Trigger.ROLLBACK, 1, 6)}

    def test_a_founding_code_comes_back(self, street: ClusterStore) -> None:
        roll_back(street, 3)
        cluster = street.cluster(C)
        assert cluster is not None
        assert (cluster.founding_code, cluster.founded_at_ms, cluster.count) == (b"\x02", 32, 1)

    def test_a_code_that_was_replaced_comes_back_to_a_head_that_stays(self, store: ClusterStore) -> None:
        put(store, founds(0, A), founds(1, A, old=A, version=2), joins(2, B, A), kinds=JOB)
        assert roll_back(store, 1).moves == (OverrideMove(A, A, A),)
        cluster = store.cluster(A)
        assert cluster is not None
        assert (cluster.founding_code, cluster.count) == (b"\x00", 2)
        say(store, OverrideKind.UNDO, undoes=1)
        again = store.cluster(A)
        assert again is not None
        assert again.founding_code == b"\x01"

    def test_new_images_become_their_own_heads_to_be_decided_again(self, street: ClusterStore) -> None:
        roll_back(street, 3, new=NewImages.DECIDE)
        assert heads(street) == {A: A, B: A, C: C, D: D, E: E}
        image, cluster = street.image(D), street.cluster(D)
        assert image is not None
        assert cluster is not None
        assert (image.cause, cluster.founding_code) == (Cause.PARTED, b"\x05")

    def test_only_what_a_model_changed_goes_back(self, street: ClusterStore) -> None:
        roll_back(street, 3, where=ChangeFilter(model="bad"), new=NewImages.DECIDE)
        assert heads(street) == {A: A, B: B, C: C, D: D, E: E}

    def test_only_what_a_head_or_a_cause_is_about_goes_back(self, street: ClusterStore) -> None:
        for where in (ChangeFilter(head=C), ChangeFilter(cause=Cause.MATCHED)):
            roll_back(street, 3, where=where)
            assert heads(street) == {A: A, B: B, C: C, D: B, E: E}
            say(street, OverrideKind.UNDO, undoes=street.state().overrides)
            assert heads(street) == {A: A, B: B, C: A, D: B, E: E}

    def test_it_goes_back_to_the_end_of_a_write(self, store: ClusterStore) -> None:
        adopts = decided(2, C, Move(C, None, A, Cause.MATCHED, 0.9, A), Move(B, B, A, Cause.ADOPTED, 0.8, C))
        put(store, founds(0, A), founds(1, B), adopts, founds(3, C, old=A, version=2), kinds=JOB)
        roll_back(store, 3)
        assert heads(store) == {A: A, B: A, C: A}

    def test_a_target_that_went_elsewhere_is_followed(self, store: ClusterStore) -> None:
        put(store, founds(0, A), founds(1, B), joins(2, C, B), founds(3, C, old=B, version=2), kinds=JOB)
        say(store, OverrideKind.MERGE, B, target=A)
        roll_back(store, 3, where=ChangeFilter(cause=Cause.FOUNDED))
        assert heads(store) == {A: A, B: A, C: A}

    def test_an_override_that_stands_outranks_it(self, street: ClusterStore) -> None:
        say(street, OverrideKind.PIN, B, target=E)
        assert heads(street) == {A: A, B: E, C: A, D: E, E: E}
        roll_back(street, 3)
        assert heads(street) == {A: A, B: E, C: C, D: E, E: E}

    def test_of_two_images_that_must_not_meet_again_the_younger_stays_away(self, street: ClusterStore) -> None:
        say(street, OverrideKind.FORBID, B, target=A)
        roll_back(street, 3)
        assert heads(street) == {A: A, B: B, C: C, D: B, E: E}

    def test_what_was_deleted_stays_deleted_and_names_its_cluster(self, store: ClusterStore) -> None:
        put(store, founds(0, A), joins(1, B, A), founds(2, B, old=A, version=2), deletes(3, A, A), kinds=JOB)
        roll_back(store, 2)
        assert heads(store) == {B: A}
        cluster = store.cluster(A)
        assert cluster is not None
        assert (cluster.count, cluster.head_deleted, cluster.founding_code) == (1, True, b"\x00")

    def test_it_goes_back_before_everything(self, street: ClusterStore) -> None:
        roll_back(street, 0, new=NewImages.DECIDE)
        assert heads(street) == {each: each for each in (A, B, C, D, E)}

    def test_a_rollback_can_be_undone(self, street: ClusterStore) -> None:
        roll_back(street, 3, new=NewImages.DECIDE)
        put(street, joins(7, F, D), kinds=JOB)
        said = say(street, OverrideKind.UNDO, undoes=1)
        assert said.created
        assert heads(street) == {A: A, B: B, C: A, D: B, E: E, F: B}
        assert not say(street, OverrideKind.UNDO, undoes=1).created

    def test_the_same_rollback_may_be_said_again(self, street: ClusterStore) -> None:
        roll_back(street, 3)
        put(street, joins(7, F, E), founds(8, F, old=E, version=2), kinds=JOB)
        assert roll_back(street, 11).override.number == 2
        assert heads(street) == {A: A, B: A, C: C, D: A, E: E, F: E}

    def test_a_dry_run_tells_the_moves(self, street: ClusterStore) -> None:
        before = street.state()
        said = roll_back(street, 3, dry_run=True)
        assert (said.created, len(said.moves), street.state()) == (False, 3, before)

    @pytest.mark.parametrize(
        "asked",
        [
            None,
            RollbackRequest(),
            RollbackRequest(to_ms=5, to_change=3),
            RollbackRequest(to_change=8),
            RollbackRequest(to_change=-1),
        ],
    )
    def test_what_makes_no_sense_is_refused_as_a_rollback(self, street: ClusterStore, asked: Any) -> None:
        before = street.state()
        with pytest.raises(BadInputError):
            say(street, OverrideKind.ROLLBACK, rollback=asked)
        with pytest.raises(BadInputError):
            say(street, OverrideKind.PIN, B, target=A, rollback=RollbackRequest(to_change=3))
        assert street.state() == before
