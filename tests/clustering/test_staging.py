"""Later images of a batch see what the earlier ones changed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clustering.staging import StagedLookup
from core.errors import MismatchError
from core.types import (
    NO_HEAD,
    Cause,
    Cluster,
    Decision,
    ImageId,
    ImageRules,
    LastVerdict,
    LogPosition,
    Lookup,
    Membership,
    Move,
    Outcome,
    Versions,
)

A, B, C, NEW = ImageId("a"), ImageId("b"), ImageId("c"), ImageId("new")


def lookup() -> Lookup:
    """`a` leads `b`; `c` is alone."""
    memberships = {A: Membership(A, 1, 0, A), B: Membership(B, 1, 1, A), C: Membership(C, 1, 2, C)}
    return Lookup(LogPosition("log", 2), 0, memberships, {A: Cluster(A, 2, b"a1"), C: Cluster(C, 1, b"c1")})


def decision(*moves: Move, version: int = 2) -> Decision:
    own = moves[0].image_id
    return Decision(3, 0, Outcome.DECIDED, own, version, 3, moves, score_code=b"code")


def test_nothing_staged_is_the_look_up() -> None:
    staged = StagedLookup(lookup())
    assert staged.membership(B) == Membership(B, 1, 1, A)
    assert staged.membership(NEW) is None
    assert staged.cluster(A) == Cluster(A, 2, b"a1")


def test_a_new_head() -> None:
    staged = StagedLookup(lookup())
    staged.stage(decision(Move(NEW, None, NEW, Cause.FOUNDED)))
    assert staged.membership(NEW) == Membership(NEW, 2, 3, NEW)
    assert staged.cluster(NEW) == Cluster(NEW, 1, b"code")


def test_joining_and_adopting() -> None:
    staged = StagedLookup(lookup())
    staged.stage(decision(Move(NEW, None, A, Cause.MATCHED), Move(C, C, A, Cause.ADOPTED)))
    assert staged.cluster(A) == Cluster(A, 4, b"a1")
    assert staged.membership(C) == Membership(C, 1, 2, A), "an adopted head keeps its version and place"
    with pytest.raises(MismatchError):
        staged.cluster(C)


def test_a_member_that_leaves() -> None:
    staged = StagedLookup(lookup())
    staged.stage(decision(Move(B, A, B, Cause.FOUNDED)))
    assert staged.cluster(A) == Cluster(A, 1, b"a1")
    assert staged.cluster(B) == Cluster(B, 1, b"code")
    assert staged.membership(B) == Membership(B, 2, 3, B)


def test_a_member_that_comes_back() -> None:
    staged = StagedLookup(lookup())
    staged.stage(decision(Move(B, A, A, Cause.MATCHED)))
    assert staged.cluster(A) == Cluster(A, 2, b"a1")


def test_a_singleton_that_founds_anew_takes_the_new_code() -> None:
    staged = StagedLookup(lookup())
    staged.stage(decision(Move(C, C, C, Cause.FOUNDED)))
    assert staged.cluster(C) == Cluster(C, 1, b"code")


@pytest.mark.parametrize("cause", [Cause.KEPT, Cause.UNSCORED])
def test_a_head_with_members_keeps_its_founding_code(cause: Cause) -> None:
    staged = StagedLookup(lookup())
    staged.stage(decision(Move(A, A, A, cause)))
    assert staged.cluster(A) == Cluster(A, 2, b"a1")
    assert staged.membership(A) == Membership(A, 2, 3, A)


def test_a_head_without_a_cluster_is_a_contradiction() -> None:
    torn = Lookup(LogPosition("log", 7), 0, {B: Membership(B, 1, 1, A)}, {})
    with pytest.raises(MismatchError, match=r"offset 7.*'a'.*verify"):
        StagedLookup(torn).cluster(A)


def test_a_move_of_an_unknown_image_is_a_contradiction() -> None:
    staged = StagedLookup(lookup())
    with pytest.raises(MismatchError):
        staged.stage(decision(Move(NEW, None, NEW, Cause.FOUNDED), Move(ImageId("ghost"), None, NEW, Cause.ADOPTED)))


def test_heads_of_images_that_rules_name() -> None:
    rules = {A: ImageRules(forbidden=(C, NEW))}
    staged = StagedLookup(replace(lookup(), rules=rules, rule_heads={NEW: A}))
    assert (staged.has_rules, StagedLookup(lookup()).has_rules) == (True, False)
    assert staged.rules(A) == rules[A]
    assert staged.rules(B) == ImageRules()
    assert (staged.head_of(NEW), staged.head_of(C), staged.head_of(ImageId("ghost"))) == (A, C, None)
    staged.stage(decision(Move(NEW, None, NEW, Cause.FOUNDED), Move(C, C, NEW, Cause.PINNED, None, NEW)))
    assert (staged.head_of(NEW), staged.head_of(C)) == (NEW, NEW), "what was staged counts more"
    staged.stage(decision(Move(NEW, NEW, NO_HEAD, Cause.DELETED)))
    assert staged.head_of(NEW) is None


def test_an_image_that_follows_keeps_its_version_and_that_it_is_unscored() -> None:
    hidden = LastVerdict(Cause.UNSCORED, None, None, Versions(), unscored=True)
    staged = StagedLookup(replace(lookup(), verdicts={B: hidden}))
    staged.stage(decision(Move(NEW, None, NEW, Cause.FOUNDED), Move(B, A, NEW, Cause.PINNED, None, NEW)))
    assert staged.membership(B) == Membership(B, 1, 1, NEW)
    assert staged.cluster(A).count == 1
    assert staged.cluster(NEW).count == 2
    assert staged.verdict(B) == LastVerdict(Cause.PINNED, None, NEW, Versions(), unscored=True)
