"""What a plan makes of deletes and replays."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clustering.assignment import Arrival, Deleting, Knowledge, MoreNeed, Replaying, plan
from core.errors import MismatchError
from core.types import (
    NO_HEAD,
    Cause,
    Cluster,
    DeadLetterRecord,
    Decision,
    ImageId,
    LastVerdict,
    Lookup,
    Membership,
    Move,
    Outcome,
    RequestPosition,
    RequestSource,
    Tombstone,
    Versions,
)
from tests.clustering.test_planning import arrival, candidate, knowing, lookup

A, B, X = ImageId("a"), ImageId("b"), ImageId("x")
LANE = RequestSource("topic", 0)
GONE = Tombstone(X, 4, 7, 1_000, "me", "why")
LETTER = DeadLetterRecord(b"x", b"letter")


def deletes(name: str, version: int | None = None, offset: int = 10) -> Arrival:
    """A delete, as the index answers it."""
    asked = replace(arrival(offset, name), place=-1, score_code=b"", thresholds=None, version=0)
    return replace(asked, asks=Deleting(version, 1_000, "me", "why"))


def replays(name: str, found: dict[str, float] | None = None, *, offset: int = 10, place: int = 0) -> Arrival:
    """A replay of version 1, which the index found at place 0."""
    asked = replace(arrival(offset, name, found), place=place)
    return replace(asked, asks=Replaying(False, False, RequestPosition(LANE, offset)))


def asks(one: Arrival, *, force: bool = False, dry_run: bool = False) -> Arrival:
    return replace(one, asks=Replaying(force, dry_run, RequestPosition(LANE, one.offset)))


def said(found: Lookup, name: str, cause: Cause, model: str = "older", unscored: bool = False) -> Lookup:
    """The look-up with the last verdict on an image."""
    verdict = LastVerdict(cause, None, None, Versions(model, "i"), unscored)
    return replace(found, verdicts={**found.verdicts, ImageId(name): verdict})


def decided(knowledge: Knowledge, *batch: Arrival) -> list[Decision]:
    """All of a batch, of which nothing is lacking."""
    planned = plan(batch, knowledge, 5)
    assert len(planned.decisions) == len(batch), planned
    return list(planned.decisions)


def test_a_delete_without_a_version_removes_what_is_there() -> None:
    known = knowing(lookup(a="b"))
    ((decision,)) = decided(known, deletes("b"))
    assert decision.moves == (Move(B, A, NO_HEAD, Cause.DELETED),)
    assert decision.tombstone == Tombstone(B, 1, 10, 1_000, "me", "why")
    assert decision.outcome is Outcome.DELETED


@pytest.mark.parametrize(
    ("version", "there", "kept"),
    [(0, 1, None), (1, 1, 1), (7, 1, 7), (None, None, None), (3, None, 3)],
    ids=["below", "equal", "above", "unknown", "to come"],
)
def test_a_delete_with_a_version_holds_up_to_it(version: int | None, there: int | None, kept: int | None) -> None:
    found = lookup() if there is None else lookup(x="")
    (decision,) = decided(knowing(found, "x"), deletes("x", version))
    assert (None if decision.tombstone is None else decision.tombstone.version) == kept
    assert bool(decision.moves) == (there is not None and kept is not None)


@pytest.mark.parametrize(("version", "kept"), [(None, None), (3, None), (4, None), (5, 5)])
def test_a_deleted_image_is_deleted_again_only_by_a_higher_version(version: int | None, kept: int | None) -> None:
    known = knowing(replace(lookup(), tombstones={X: GONE}), "x")
    (decision,) = decided(known, deletes("x", version))
    assert (None if decision.tombstone is None else decision.tombstone.version) == kept


def test_versions_up_to_a_deleted_one_are_superseded_and_a_higher_one_is_a_new_life() -> None:
    known = knowing(replace(lookup(), tombstones={X: GONE}), "x")
    old, same, new = (arrival(10 + at, "x", version=version) for at, version in enumerate((3, 4, 5)))
    outcomes = [each.outcome for each in decided(known, old, same, new)]
    assert outcomes == [Outcome.SUPERSEDED, Outcome.SUPERSEDED, Outcome.DECIDED]


def test_later_records_of_a_batch_see_a_delete() -> None:
    """`a` names the cluster on; a match in it still leads there; `a` comes back as its head."""
    known = knowing(lookup(a="b"), "y", scores={"ay": 0.9})
    _, joins, returns = decided(known, deletes("a"), arrival(11, "y", {"b": 0.9}), arrival(12, "a", version=2))
    assert joins.moves[0].new_head == A
    assert returns.moves == (Move(A, None, A, Cause.KEPT),)


def test_a_candidate_that_storage_knows_as_deleted_is_none() -> None:
    known = knowing(replace(lookup(), tombstones={X: GONE}), "x", "y")
    (decision,) = decided(known, arrival(10, "y", {"x": 0.9}))
    assert decision.moves[0].cause is Cause.FOUNDED


def test_an_image_and_its_replay_ask_for_pages_of_their_own() -> None:
    """Heads of all matches refuse both, and both have further candidates."""
    found = lookup(a="b")
    both = [replace(arrival(10, "x", {"b": 0.9}), exhausted=False), replays("x", {"b": 0.9}, offset=11, place=10)]
    both[1] = asks(replace(both[1], exhausted=False), force=True)
    planned = plan(both, knowing(found, "x", scores={"ax": 0.1}), 5)
    assert set(planned.more) == {MoreNeed(10, 1, 10), MoreNeed(10, 1, 11)}


def test_a_replay_by_the_versions_of_the_last_verdict_is_passed_unless_it_is_forced() -> None:
    known = knowing(said(lookup(a="b"), "b", Cause.MATCHED, model="m"), scores={"ab": 0.9})
    passed, forced = replays("b", {"a": 0.9}), asks(replays("b", {"a": 0.9}), force=True)
    (decision,) = decided(known, passed)
    assert (decision.outcome, decision.moves, decision.request) == (
        Outcome.REPLAYED,
        (),
        RequestPosition(LANE, 10),
    )
    (decision,) = decided(known, forced)
    assert [(move.new_head, move.cause) for move in decision.moves] == [(A, Cause.MATCHED)]


def test_a_replay_writes_only_what_changes() -> None:
    same = replace(lookup(a="b"), verdicts={B: LastVerdict(Cause.MATCHED, 0.9, A, Versions("m", "older"))})
    (decision,) = decided(knowing(same), replays("b", {"a": 0.9}))
    assert [move.cause for move in decision.moves] == [Cause.MATCHED], "its versions are new"
    assert (decision.place, decision.version) == (0, 1)
    adopts = said(lookup(a="b", s=""), "a", Cause.KEPT, model="m")
    adopts = replace(adopts, verdicts={A: LastVerdict(Cause.KEPT, None, None, Versions("older", "i"))})
    one = replace(replays("a", {"s": 0.9}), versions=Versions("m", "i"))
    (decision,) = decided(knowing(adopts, scores={"as": 0.9}), one)
    assert [move.cause for move in decision.moves] == [Cause.KEPT, Cause.ADOPTED]


def test_a_dry_run_decides_and_writes_nothing() -> None:
    known = knowing(said(lookup(a="", b=""), "b", Cause.FOUNDED))
    one = replace(asks(replays("b", {"a": 0.9}), dry_run=True), dead_letter=LETTER)
    planned = plan([one], known, 5)
    assert planned.decisions[0].moves == ()
    assert planned.decisions[0].dead_letter is None
    assert planned.judgements[10].verdict.moves[0].new_head == A


def test_a_replay_leaves_its_cluster_before_it_is_decided() -> None:
    known = knowing(said(lookup(a="b"), "b", Cause.MATCHED))
    (decision,) = decided(known, replays("b"))
    assert decision.moves == (Move(B, A, B, Cause.FOUNDED),)


@pytest.mark.parametrize("known", [lookup(), replace(lookup(), tombstones={X: GONE})], ids=["unknown", "deleted"])
def test_a_replay_of_what_the_index_cannot_find_changes_nothing(known: Lookup) -> None:
    (decision,) = decided(knowing(known, "x"), replays("x", place=-1))
    assert (decision.outcome, decision.moves) == (Outcome.REPLAYED, ())


def test_a_replay_that_the_index_has_placed_moves_the_place() -> None:
    known = knowing(said(lookup(x=""), "x", Cause.UNSCORED, unscored=True))
    (decision,) = decided(known, replays("x", place=10))
    assert (decision.place, decision.search_vector, decision.moves[0].cause) == (10, b"sv", Cause.FOUNDED)


def test_a_replay_that_cannot_be_scored_changes_nothing_but_a_place() -> None:
    failed = {"unscored": "faulted: no", "scores": (), "candidates": (), "thresholds": None, "dead_letter": LETTER}
    healthy = knowing(said(lookup(x=""), "x", Cause.FOUNDED))
    (decision,) = decided(healthy, replace(replays("x"), **failed))
    assert (decision.moves, decision.dead_letter) == ((), LETTER)
    (decision,) = decided(healthy, replace(replays("x", place=10), **failed))
    assert decision.moves == (), "the index can find it at its old place"
    hidden = knowing(said(lookup(x=""), "x", Cause.UNSCORED, unscored=True))
    (decision,) = decided(hidden, replace(replays("x", place=10), **failed))
    assert (decision.place, decision.moves[0].cause) == (10, Cause.UNSCORED), "so that it is hidden there"


def test_a_repeated_request_is_a_duplicate_unless_the_index_has_placed_the_image() -> None:
    found = replace(said(lookup(x=""), "x", Cause.UNSCORED, unscored=True), requests={LANE: 10})
    (decision,) = decided(knowing(found), replays("x"))
    assert (decision.outcome, decision.request) == (Outcome.DUPLICATE, RequestPosition(LANE, 10))
    (decision,) = decided(knowing(found), replays("x", place=10))
    assert (decision.outcome, decision.request, decision.place) == (Outcome.REPLAYED, None, 10)


def test_the_requests_of_a_batch_are_seen_by_later_ones() -> None:
    known = knowing(said(lookup(x=""), "x", Cause.FOUNDED, model="m"))
    again = replace(replays("x", offset=11), asks=Replaying(False, False, RequestPosition(LANE, 10)))
    assert [each.outcome for each in decided(known, replays("x"), again)] == [Outcome.REPLAYED, Outcome.DUPLICATE]


def test_an_index_that_knows_another_version_does_not_fit() -> None:
    known = knowing(said(lookup(x=""), "x", Cause.FOUNDED))
    with pytest.raises(MismatchError, match=r"has version 3 of the image 'x'.*has version 1"):
        plan([replace(replays("x"), version=3)], known, 5)
    with pytest.raises(MismatchError, match="has no version"):
        plan([replays("y")], knowing(lookup(), "y"), 5)


def test_a_deleted_head_that_comes_back_unscored_is_its_head() -> None:
    flagged = Lookup(
        lookup().position,
        0,
        {B: Membership(B, 1, 1, A)},
        {A: Cluster(A, 1, b"a", head_deleted=True)},
        {A: Tombstone(A, 1, 7, 0)},
    )
    failed = replace(arrival(10, "a", version=2), unscored="faulted: no", thresholds=None)
    (decision,) = decided(Knowledge(flagged, {A, B}, {}), failed)
    assert decision.moves == (Move(A, None, A, Cause.UNSCORED),)
    assert candidate("a").image_id == A


def forgets(name: str, version: int | None = None, offset: int = 10) -> Arrival:
    """A delete that leaves nothing."""
    return replace(deletes(name, offset=offset), asks=Deleting(version, 1_000, "me", "why", forget=True))


@pytest.mark.parametrize(("name", "ended"), [("a", True), ("b", False), ("c", False)])
def test_a_record_that_renames_a_cluster_is_decided_alone(name: str, ended: bool) -> None:
    batch = [forgets(name), arrival(11, "x")]
    planned = plan(batch, knowing(lookup(a="b", c=""), "x"), 5)
    assert (len(planned.decisions), planned.ended) == ((1, True) if ended else (2, False))
    assert planned.decisions[0].forget
    assert planned.decisions[0].tombstone is not None
    before = plan([arrival(10, "x"), forgets(name, offset=11)], knowing(lookup(a="b", c=""), "x"), 5)
    assert (len(before.decisions), before.ended) == ((1, True) if ended else (2, False))


def test_what_was_deleted_before_is_forgotten_too() -> None:
    found = replace(lookup(), tombstones={X: GONE})
    (decision,) = decided(knowing(found, "x"), forgets("x"))
    assert (decision.forget, decision.moves) == (True, ())
    assert decision.tombstone == Tombstone(X, 4, 10, 1_000, "me", "why")
    (plain,) = decided(knowing(found, "x"), deletes("x"))
    assert plain.tombstone is None


@pytest.mark.parametrize("version", [None, 3])
def test_what_is_unknown_or_newer_is_not_forgotten(version: int | None) -> None:
    found = lookup() if version is None else replace(lookup(), tombstones={X: GONE})
    (decision,) = decided(knowing(found, "x"), forgets("x", version))
    assert (decision.forget, decision.tombstone, decision.moves) == (False, None, ())
