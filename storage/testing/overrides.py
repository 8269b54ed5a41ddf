"""What every store must do with what people say: keep it, move what it says, and refuse contradictions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import pytest

from core.errors import BadInputError, ConflictError, MismatchError, StaleError
from core.overrides import (
    JOB_KINDS,
    MAX_FORBIDDEN,
    MAX_IMAGES,
    OVERRIDE_KIND,
    OverrideKind,
    OverrideMove,
    OverrideOutcome,
    OverrideRequest,
)
from core.types import Cause, ImageId, ImageRules, Move, Trigger
from storage.interfaces import ClusterStore
from storage.testing.decisions import A, B, C, D, decided, deletes, forgets, founds, joins, put
from storage.testing.model import LOG
from storage.verify import verify

E = ImageId("e")

JOB = (OVERRIDE_KIND,)


def ids(count: int) -> tuple[ImageId, ...]:
    """Images that have not come."""
    return tuple(ImageId(f"i{number}") for number in range(count))


def say(
    store: ClusterStore, kind: OverrideKind, *images: ImageId, target: ImageId | None = None, **fields: Any
) -> OverrideOutcome:
    """Somebody says an override at the time 99."""
    dry_run = fields.pop("dry_run", False)
    return store.override(OverrideRequest(kind, images, target, author="me", **fields), 99, dry_run=dry_run)


def heads(store: ClusterStore) -> dict[str, str]:
    """The head of each image; the store must be sound."""
    with store.snapshot() as view:
        assert [progress.problems for progress in verify(view)][-1] == ()
        return {image.image_id: image.head for image in view.images()}


class OverrideContract(ABC):
    """The part of `StoreContract` on overrides."""

    @pytest.fixture
    @abstractmethod
    def store(self) -> Iterator[ClusterStore]: ...

    @pytest.fixture
    def town(self, store: ClusterStore) -> ClusterStore:
        """a with its members b and c; d with its member e."""
        put(store, founds(0, A), joins(1, B, A), joins(2, C, A), founds(3, D), joins(4, E, D), kinds=JOB)
        return store

    def test_a_forbidden_member_leaves_its_head_at_once(self, town: ClusterStore) -> None:
        revision = town.state().revision
        said = say(town, OverrideKind.FORBID, B, target=A, reason="another shirt")
        assert said.moves == (OverrideMove(B, A, B),)
        assert (said.created, said.override.number, said.override.applied_after) == (True, 1, 4)
        assert heads(town) == {A: A, B: B, C: A, D: D, E: D}
        state = town.state()
        assert state.revision > revision
        assert (state.overrides, state.clusters) == (1, 3)
        image, cluster = town.image(B), town.cluster(B)
        assert image is not None
        assert cluster is not None
        assert (image.cause, image.matched, image.score, image.decided_at_ms) == (Cause.PARTED, A, None, 99)
        assert (cluster.count, cluster.founding_code, cluster.founded_at_ms) == (1, b"\x01", 99)
        (entry,) = town.history(5, 10)
        assert (entry.trigger, entry.reference, entry.offset) == (Trigger.OVERRIDE, 1, 4)
        assert (entry.old_head, entry.new_head, entry.cause) == (A, B, Cause.PARTED)

    def test_of_two_forbidden_members_the_younger_leaves(self, town: ClusterStore) -> None:
        assert say(town, OverrideKind.FORBID, B, target=C).moves == (OverrideMove(C, A, C),)
        assert say(town, OverrideKind.FORBID, D, target=E).moves == (OverrideMove(E, D, E),)

    def test_a_pinned_image_goes_and_a_pinned_head_takes_its_cluster(self, town: ClusterStore) -> None:
        assert say(town, OverrideKind.PIN, C, target=E).moves == (OverrideMove(C, A, D),)
        assert heads(town) == {A: A, B: A, C: D, D: D, E: D}
        assert set(say(town, OverrideKind.PIN, D, target=B).moves) == {OverrideMove(x, D, A) for x in (E, C, D)}
        assert set(heads(town).values()) == {A}
        assert town.cluster(D) is None
        assert town.members(A, 10).items[:2] == (A, B)
        assert set(town.members(A, 10).items) == {A, B, C, D, E}
        image = town.image(D)
        assert image is not None
        assert (image.cause, image.matched) == (Cause.PINNED, B)

    def test_a_merge_names_any_members(self, town: ClusterStore) -> None:
        said = say(town, OverrideKind.MERGE, E, target=C)
        assert (said.override.images, said.override.target) == ((D,), A)
        assert set(heads(town).values()) == {A}
        for image, target in ((D, A), (E, C)):  # what it became, and what was asked
            again = say(town, OverrideKind.MERGE, image, target=target)
            assert (again.created, again.override) == (False, said.override)

    def test_a_split_follows_its_oldest_image(self, town: ClusterStore) -> None:
        said = say(town, OverrideKind.SPLIT, C, B, target=A)
        assert said.override.images == (B, C)
        assert said.moves == (OverrideMove(B, A, B), OverrideMove(C, A, B))
        assert heads(town) == {A: A, B: B, C: B, D: D, E: D}
        rules = town.look_up([A, B, C, D]).rules
        assert rules == {A: ImageRules(None, (B, C)), B: ImageRules(None, (A,), (C,)), C: ImageRules(B, (A,))}

    def test_a_split_from_a_member_is_known_when_it_comes_again(self, town: ClusterStore) -> None:
        said = say(town, OverrideKind.SPLIT, C, target=B)
        assert (said.override.images, said.override.target) == ((C,), A)
        assert say(town, OverrideKind.SPLIT, C, target=B).override == said.override

    def test_a_deleted_head_still_names_its_cluster_to_a_forbid(self, town: ClusterStore) -> None:
        say(town, OverrideKind.FORBID, D, target=A)
        put(town, deletes(5, A, A), kinds=JOB)
        for kind, image in ((OverrideKind.PIN, D), (OverrideKind.MERGE, E)):
            with pytest.raises(ConflictError, match="the override 1 "):
                say(town, kind, image, target=B)

    def test_a_pin_of_a_deleted_head_waits(self, town: ClusterStore) -> None:
        put(town, deletes(5, A, A), kinds=JOB)
        assert say(town, OverrideKind.PIN, A, target=E).moves == ()
        assert heads(town) == {B: A, C: A, D: D, E: D}

    def test_of_two_members_the_one_that_no_pin_holds_leaves(self, town: ClusterStore) -> None:
        say(town, OverrideKind.PIN, C, target=A)
        assert say(town, OverrideKind.FORBID, B, target=C).moves == (OverrideMove(B, A, B),)

    def test_the_target_of_a_head_does_not_leave_it(self, town: ClusterStore) -> None:
        say(town, OverrideKind.PIN, A, target=C)
        assert say(town, OverrideKind.FORBID, B, target=C).moves == (OverrideMove(B, A, B),)
        say(town, OverrideKind.PIN, E, target=D)
        with pytest.raises(ConflictError, match="the override 3 "):
            say(town, OverrideKind.SPLIT, E, target=D)

    def test_members_of_a_deleted_head_are_split_from_its_name(self, town: ClusterStore) -> None:
        put(town, deletes(5, A, A), kinds=JOB)
        assert say(town, OverrideKind.SPLIT, C, target=A).moves == (OverrideMove(C, A, C),)
        assert heads(town) == {B: A, C: C, D: D, E: D}

    @pytest.mark.parametrize(("image", "target"), [(B, A), (A, B)])
    def test_members_of_a_deleted_head_are_forbidden_to_it(
        self, town: ClusterStore, image: ImageId, target: ImageId
    ) -> None:
        put(town, deletes(5, A, A), kinds=JOB)
        assert say(town, OverrideKind.FORBID, image, target=target).moves == (OverrideMove(B, A, B),)
        assert heads(town) == {B: B, C: A, D: D, E: D}

    def test_what_follows_an_image_leaves_with_it(self, town: ClusterStore) -> None:
        say(town, OverrideKind.PIN, C, target=B)
        assert say(town, OverrideKind.FORBID, B, target=A).moves == (OverrideMove(B, A, B), OverrideMove(C, A, B))
        assert heads(town) == {A: A, B: B, C: B, D: D, E: D}

    def test_a_look_up_brings_rules_and_the_heads_that_matter(self, town: ClusterStore) -> None:
        unseen = ImageId("unseen")
        say(town, OverrideKind.FORBID, C, unseen, target=E)
        say(town, OverrideKind.PIN, unseen, target=B)
        found = town.look_up([E, unseen, D])
        assert found.rules == {E: ImageRules(None, (C, unseen)), unseen: ImageRules(B, (E,))}
        assert found.rule_heads == {C: A, B: A, E: D}
        assert town.look_up([D]).rules == {}

    def test_a_look_up_leaves_out_what_cannot_be_met(self, town: ClusterStore) -> None:
        unseen = ImageId("unseen")
        say(town, OverrideKind.FORBID, B, E, unseen, target=D)
        for others, met in (((), ()), ((A,), (B,)), ((C,), (B,)), ((E,), (E,)), ((unseen,), (unseen,))):
            assert town.look_up([D, *others]).rules[D].forbidden == met

    def test_a_dry_run_writes_nothing(self, town: ClusterStore) -> None:
        before = town.state()
        said = say(town, OverrideKind.MERGE, D, target=A, dry_run=True)
        assert (said.created, len(said.moves)) == (False, 2)
        assert (town.state(), town.overrides(0, 10), town.look_up([D]).rules) == (before, [], {})

    def test_an_undo_ends_the_rules_and_moves_nothing(self, town: ClusterStore) -> None:
        say(town, OverrideKind.FORBID, B, target=A)
        say(town, OverrideKind.FORBID, B, C, target=A)
        say(town, OverrideKind.UNDO, undoes=1)
        rules = {A: ImageRules(None, (B, C)), B: ImageRules(None, (A,)), C: ImageRules(None, (A,))}
        assert town.look_up([A, B, C]).rules == rules
        said = say(town, OverrideKind.UNDO, undoes=2)
        assert (said.moves, town.look_up([A, B, C]).rules) == ((), {})
        assert heads(town) == {A: A, B: B, C: C, D: D, E: D}
        assert not say(town, OverrideKind.UNDO, undoes=2).created
        listed = town.overrides(0, 10)
        assert [(each.override.kind, each.undone_by) for each in listed] == [
            (OverrideKind.FORBID, 3),
            (OverrideKind.FORBID, 4),
            (OverrideKind.UNDO, None),
            (OverrideKind.UNDO, None),
        ]
        assert [each.override.number for each in town.overrides(0, 10, C)] == [2, 4]
        assert [each.override.number for each in town.overrides(1, 2)] == [2, 3]

    def test_saying_it_again_after_an_undo_counts(self, town: ClusterStore) -> None:
        say(town, OverrideKind.FORBID, B, target=A)
        assert not say(town, OverrideKind.FORBID, B, target=A).created
        say(town, OverrideKind.UNDO, undoes=1)
        assert say(town, OverrideKind.FORBID, B, target=A).override.number == 3

    @pytest.mark.parametrize(
        ("before", "then", "named"),
        [
            (("pin", (C,), B), ("forbid", (B,), C), 1),
            (("forbid", (B,), C), ("pin", (C,), B), 1),
            (("pin", (C,), B), ("pin", (C,), A), 1),
            (("pin", (C,), B), ("pin", (B,), C), 1),
            (("pin", (C,), B), ("split", (C,), A), 1),
            (("forbid", (B,), E), ("merge", (D,), A), 1),
            (("forbid", (B,), E), ("pin", (B,), D), 1),
            (("pin", (B,), C), ("forbid", (B,), A), 1),
        ],
    )
    def test_contradictions_name_the_other_override(
        self, town: ClusterStore, before: Any, then: Any, named: int
    ) -> None:
        say(town, OverrideKind(before[0]), *before[1], target=before[2])
        state, held = town.state(), heads(town)
        with pytest.raises(ConflictError, match=f"the override {named} "):
            say(town, OverrideKind(then[0]), *then[1], target=then[2])
        assert (town.state(), heads(town), len(town.overrides(0, 10))) == (state, held, 1)

    @pytest.mark.parametrize(
        ("kind", "images", "target"),
        [
            ("pin", (A,), ImageId("unseen")),
            ("pin", (A,), A),
            ("pin", (), A),
            ("pin", (A,), None),
            ("pin", (ImageId("x" * 257),), A),
            ("split", (A,), A),
            ("split", (D,), A),
            ("split", (ImageId("unseen"),), A),
            ("merge", (B,), A),
            ("merge", (ImageId("unseen"),), A),
            ("undo", (), None),
            ("pin", ids(MAX_IMAGES + 1), A),
            ("forbid", ids(MAX_FORBIDDEN + 1), A),
            ("pin", ids(MAX_FORBIDDEN + 1), B),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, town: ClusterStore, kind: str, images: Any, target: Any) -> None:
        before = town.state()
        with pytest.raises(BadInputError):
            say(town, OverrideKind(kind), *images, target=target)
        assert town.state() == before

    def test_an_image_is_forbidden_a_thousand_others_at_most(self, town: ClusterStore) -> None:
        say(town, OverrideKind.FORBID, *ids(MAX_FORBIDDEN), target=A)
        with pytest.raises(BadInputError, match="more than 1000 other images"):
            say(town, OverrideKind.FORBID, ImageId("one more"), target=A)

    def test_of_more_than_a_thousand_forbidden_images_one_of_each_near_cluster_comes(self, town: ClusterStore) -> None:
        followers, x, y = ids(MAX_FORBIDDEN), ImageId("x"), ImageId("y")
        one, other, third, *_ = followers

        def met(*asked: ImageId) -> tuple[ImageId, ...]:
            found = town.look_up([A, *asked])
            named = found.rules[A].forbidden
            with town.snapshot() as view:
                heads = view.heads(named).heads
            assert heads.items() <= found.rule_heads.items()
            return named

        say(town, OverrideKind.FORBID, D, target=A)
        say(town, OverrideKind.PIN, *followers, target=D)
        say(town, OverrideKind.FORBID, *followers, target=A)
        assert (met(), met(E), met(third)) == ((), (D,), (third, D))  # which it is pinned to
        put(town, founds(5, one), joins(6, x, one), kinds=JOB_KINDS)  # a follower may lie elsewhere
        assert (met(), met(E), met(x), met(one, x)) == ((), (D,), (one,), (one, D))
        put(town, joins(7, other, D), founds(8, y), joins(9, third, y), kinds=JOB_KINDS)
        assert (met(E), met(y), met(D), met(D, other)) == ((D,), (third,), (D, other), (D, other))
        put(town, deletes(10, D, D), kinds=JOB_KINDS)
        assert (met(E), met(x), met(y)) == ((D, other), (one,), (third,))
        put(town, founds(11, third, old=y, version=2), kinds=JOB_KINDS)
        assert (met(E), met(y), met(third)) == ((D, other), (), (third,))
        put(town, forgets(12, D), kinds=JOB_KINDS)
        assert (met(E), met(y), met(third)) == ((other,), (), (third,))
        put(town, deletes(13, other, E), kinds=JOB_KINDS)
        assert met(E) == ()

    def test_a_look_up_brings_no_followers_of_a_head_that_has_thousands(self, town: ClusterStore) -> None:
        followers = ids(MAX_FORBIDDEN + 1)
        say(town, OverrideKind.PIN, *followers, target=A)
        found = town.look_up([A, followers[7]])
        assert found.rules == {A: ImageRules(), followers[7]: ImageRules(A)}
        assert found.rule_heads == {A: A}
        with pytest.raises(BadInputError, match="pinned to a head alone, and 'b' has the head 'a'"):
            say(town, OverrideKind.PIN, *(ImageId(f"other {each}") for each in followers), target=B)

    def test_a_member_that_many_follow_stays_a_target_of_few(self, town: ClusterStore) -> None:
        followers = ids(MAX_FORBIDDEN)
        say(town, OverrideKind.PIN, *followers, target=B)
        with pytest.raises(BadInputError, match="pinned to a head alone"):
            say(town, OverrideKind.PIN, ImageId("one more"), target=B)
        assert town.look_up([B]).rules[B].followers == followers

    def test_an_undo_of_an_undo_is_refused(self, town: ClusterStore) -> None:
        say(town, OverrideKind.FORBID, B, target=A)
        say(town, OverrideKind.UNDO, undoes=1)
        for number in (2, 7):
            with pytest.raises(BadInputError):
                say(town, OverrideKind.UNDO, undoes=number)

    def test_decisions_that_rest_on_less_are_stale(self, town: ClusterStore) -> None:
        state = town.state()
        say(town, OverrideKind.FORBID, B, target=A)
        with pytest.raises(StaleError):
            town.apply(LOG, [joins(5, ImageId("f"), A)], 4, state.revision, JOB)

    def test_a_job_that_does_not_know_overrides_is_refused(self, store: ClusterStore) -> None:
        put(store, founds(0, A), joins(1, B, A))
        with pytest.raises(MismatchError, match="override"):
            say(store, OverrideKind.FORBID, B, target=A)
        assert store.overrides(0, 10) == []
        put(store, founds(2, C), kinds=JOB)
        say(store, OverrideKind.FORBID, B, target=A)
        with pytest.raises(MismatchError):
            put(store, founds(3, D))

    def test_the_stream_obeys_by_moves_of_its_own(self, town: ClusterStore) -> None:
        say(town, OverrideKind.PIN, C, ImageId("f"), target=D)
        put(town, decided(5, ImageId("f"), Move(ImageId("f"), None, D, Cause.PINNED, None, D)), kinds=JOB)
        follow = Move(E, D, ImageId("g"), Cause.PINNED, None, ImageId("g"))
        put(town, decided(6, ImageId("g"), Move(ImageId("g"), None, ImageId("g"), Cause.FOUNDED), follow), kinds=JOB)
        assert heads(town) == {A: A, B: A, C: D, D: D, "f": D, "g": "g", E: "g"}

    def test_undos_are_marked_when_their_images_are_queued(self, town: ClusterStore) -> None:
        say(town, OverrideKind.FORBID, B, target=A)
        say(town, OverrideKind.UNDO, undoes=1)
        revision = town.state().revision
        town.set_requeued(2)
        assert (town.state().requeued, town.state().revision) == (2, revision)
        with pytest.raises(BadInputError):
            town.set_requeued(3)
