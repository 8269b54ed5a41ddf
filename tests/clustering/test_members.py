"""What a plan makes of rows of a manifest: each result, and what earlier records of the batch change about it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clustering.assignment import Arrival, Deleting, Joining, Knowledge, Plan, plan
from clustering.explain import explain
from clustering.recorded import recorded_judgement
from core.manifest_rows import MemberRow, RowResult
from core.traces import Why
from core.types import (
    Cause,
    Cluster,
    DeadLetterRecord,
    ImageId,
    Lookup,
    Membership,
    Move,
    Outcome,
    Tombstone,
    Written,
)
from tests.clustering.test_overrides import ruled
from tests.clustering.test_planning import arrival, heads, knowing, lookup
from tests.support.cluster_world import MANIFEST

LETTER = DeadLetterRecord(b"x", b"letter")


def member(offset: int, name: str, head: str, *, version: int = 1, matched: str | None = None) -> Arrival:
    """The row of this number, which the index answers without candidates."""
    asks = Joining(ImageId(head), MANIFEST, offset, 0.75, None if matched is None else ImageId(matched))
    return replace(arrival(offset, name, version=version), thresholds=None, asks=asks)


def deletes(offset: int, name: str) -> Arrival:
    gone = replace(arrival(offset, name), place=-1, score_code=b"", thresholds=None, version=0)
    return replace(gone, asks=Deleting(None, 1_000, "me", "why"))


def decided(known: Lookup, *batch: Arrival, looked_up: str = "", scores: dict[str, float] | None = None) -> Plan:
    """The plan of a batch, of which nothing may be lacking."""
    planned = plan(batch, knowing(known, *looked_up, scores=scores), 5)
    assert len(planned.decisions) == len(batch)
    assert not planned.ids
    assert not planned.judgements or not all(isinstance(each.asks, Joining) for each in batch)
    return planned


def results(planned: Plan) -> list[RowResult | None]:
    return [None if each.member is None else each.member.result for each in planned.decisions]


def deleted_head(head: str, *members: str) -> Lookup:
    """A cluster whose head was deleted; without members it has gone too."""
    ids = [ImageId(each) for each in members]
    known = lookup()
    return replace(
        known,
        memberships={each: Membership(each, 1, 0, ImageId(head)) for each in ids},
        clusters={ImageId(head): Cluster(ImageId(head), len(ids), b"h", head_deleted=True)} if ids else {},
        tombstones={ImageId(head): Tombstone(ImageId(head), 1, 3, 4)},
    )


def test_it_needs_the_look_up_of_the_image_and_of_the_head_alone() -> None:
    batch = [member(10, "x", "h"), member(11, "y", "y")]
    assert plan(batch, Knowledge(), 5) == Plan((), frozenset({ImageId("x"), ImageId("h"), ImageId("y")}), (), ())
    planned = plan(batch, knowing(lookup(), "x", "y"), 5)
    assert planned.decisions == ()
    assert planned.ids == {ImageId("h")}


def test_it_joins_the_cluster_where_the_head_is_now() -> None:
    planned = decided(lookup(a="hb"), member(10, "x", "h"), looked_up="x")
    assert planned.decisions[0].moves == (
        Move(ImageId("x"), None, ImageId("a"), Cause.BOOTSTRAPPED, 0.75, ImageId("h")),
    )
    assert planned.decisions[0].member == MemberRow(MANIFEST, 10, RowResult.JOINED)
    assert planned.decisions[0].score_code == b"x"


def test_the_match_of_the_row_goes_before_its_head() -> None:
    planned = decided(
        lookup(a=""), member(10, "x", "a", matched="m"), member(11, "y", "y", matched="m"), looked_up="xy"
    )
    assert [each.moves[0].matched for each in planned.decisions] == ["m", "m"]


def test_a_row_that_names_itself_founds() -> None:
    planned = decided(lookup(), member(10, "x", "x"), looked_up="x")
    assert planned.decisions[0].moves == (Move(ImageId("x"), None, ImageId("x"), Cause.BOOTSTRAPPED, 0.75, None),)
    assert results(planned) == [RowResult.FOUNDED]


def test_head_and_members_may_come_in_one_batch() -> None:
    planned = decided(lookup(), member(10, "h", "h"), member(11, "x", "h"), member(12, "y", "x"), looked_up="hxy")
    assert heads(planned) == [(each, "h", Cause.BOOTSTRAPPED) for each in "hxy"]
    assert results(planned) == [RowResult.FOUNDED, RowResult.JOINED, RowResult.JOINED]


def test_a_head_that_an_earlier_record_of_the_batch_moves_is_followed() -> None:
    """An image adopts the singleton h, and a row names h."""
    batch = [arrival(10, "n", {"a": 0.9, "h": 0.8}), member(11, "x", "h")]
    planned = decided(lookup(a="b", h=""), *batch, looked_up="nx", scores={"an": 0.9, "ah": 0.9})
    assert heads(planned) == [("n", "a", Cause.MATCHED), ("h", "a", Cause.ADOPTED), ("x", "a", Cause.BOOTSTRAPPED)]


def test_a_head_that_is_deleted_in_the_batch_names_its_cluster_while_there_are_members() -> None:
    batch = [deletes(10, "h"), member(11, "x", "h"), deletes(12, "m"), deletes(13, "x"), member(14, "y", "h")]
    planned = decided(lookup(h="m"), *batch, looked_up="xy")
    assert results(planned) == [None, RowResult.JOINED, None, None, RowResult.ELSEWHERE_HEAD_GONE]
    assert heads(planned)[-1] == ("y", "y", Cause.FOUNDED)


def test_a_deleted_head_that_still_names_a_cluster_takes_members() -> None:
    planned = decided(deleted_head("h", "m"), member(10, "x", "h"), looked_up="xh")
    assert (heads(planned), results(planned)) == ([("x", "h", Cause.BOOTSTRAPPED)], [RowResult.JOINED])


def test_the_last_member_of_a_deleted_head_stays_in_its_cluster() -> None:
    planned = decided(deleted_head("h", "x"), member(10, "x", "h", version=2), looked_up="h")
    assert planned.decisions[0].moves[0].old_head == planned.decisions[0].moves[0].new_head == "h"


@pytest.mark.parametrize("known", [lookup(), deleted_head("h")], ids=["unknown", "deleted"])
def test_without_the_head_it_founds(known: Lookup) -> None:
    planned = decided(known, member(10, "x", "h"), looked_up="xh")
    assert planned.decisions[0].moves == (Move(ImageId("x"), None, ImageId("x"), Cause.FOUNDED),)
    assert results(planned) == [RowResult.ELSEWHERE_HEAD_GONE]


def test_a_version_that_has_a_verdict_keeps_it_and_a_lower_one_is_ignored() -> None:
    known = replace(lookup(a="", h=""), memberships={**lookup(h="").memberships, **_version("a", 5)})
    batch = [member(10, "a", "h", version=5), member(11, "a", "h", version=4), member(12, "g", "h")]
    known = replace(known, tombstones={ImageId("g"): Tombstone(ImageId("g"), 1, 3, 4)})
    planned = decided(known, *batch, looked_up="g")
    assert [each.outcome for each in planned.decisions] == [
        Outcome.DUPLICATE,
        Outcome.SUPERSEDED,
        Outcome.SUPERSEDED,
    ]
    assert results(planned) == [RowResult.KEPT, RowResult.SUPERSEDED, RowResult.SUPERSEDED]
    assert heads(planned) == []


def _version(name: str, version: int) -> dict[ImageId, Membership]:
    return {ImageId(name): Membership(ImageId(name), version, 3, ImageId(name))}


def test_a_repeated_record_keeps_the_verdict_of_the_first() -> None:
    planned = decided(lookup(h=""), member(10, "x", "h"), replace(member(11, "x", "h"), place=10), looked_up="x")
    assert results(planned) == [RowResult.JOINED, RowResult.KEPT]
    assert [each.place for each in planned.decisions] == [10, 10]


def test_a_new_version_leaves_its_cluster_and_founds_with_its_own_code() -> None:
    planned = decided(lookup(a="x", h=""), member(10, "x", "h", version=2), member(11, "x", "x", version=3))
    assert [each.moves[0] for each in planned.decisions] == [
        Move(ImageId("x"), ImageId("a"), ImageId("h"), Cause.BOOTSTRAPPED, 0.75, ImageId("h")),
        Move(ImageId("x"), ImageId("h"), ImageId("x"), Cause.BOOTSTRAPPED, 0.75, None),
    ]


@pytest.mark.parametrize(
    ("head", "result"), [("h", RowResult.STAYS_HEAD), ("x", RowResult.FOUNDED), ("m", RowResult.JOINED)]
)
def test_a_head_that_has_members_stays_one(head: str, result: RowResult) -> None:
    planned = decided(lookup(x="m", h=""), member(10, "x", head, version=2))
    assert (heads(planned), results(planned)) == ([("x", "x", Cause.KEPT)], [result])
    returned = decided(deleted_head("x", "m"), member(10, "x", "x", version=2), looked_up="x")
    assert returned.decisions[0].moves == (Move(ImageId("x"), None, ImageId("x"), Cause.KEPT),)


def test_what_the_index_refused_founds_and_keeps_its_dead_letter() -> None:
    refused = replace(member(10, "x", "h"), unscored="refused: why", place=-1, score_code=b"", dead_letter=LETTER)
    planned = decided(lookup(h=""), refused, looked_up="x")
    assert planned.decisions[0].moves == (Move(ImageId("x"), None, ImageId("x"), Cause.UNSCORED),)
    assert (planned.decisions[0].dead_letter, results(planned)) == (LETTER, [RowResult.UNSCORED])


class TestOverrides:
    """People outrank a manifest."""

    def test_a_pin_goes_first(self) -> None:
        planned = decided(ruled(lookup(h="", a="t"), {"x": "t"}), member(10, "x", "h"), looked_up="x")
        assert planned.decisions[0].moves == (Move(ImageId("x"), None, ImageId("a"), Cause.PINNED, None, ImageId("t")),)
        assert results(planned) == [RowResult.ELSEWHERE_PINNED]

    def test_a_pin_to_where_the_row_says_is_no_contradiction(self) -> None:
        planned = decided(ruled(lookup(h="t"), {"x": "t"}), member(10, "x", "h"), looked_up="x")
        assert (heads(planned), results(planned)) == ([("x", "h", Cause.PINNED)], [RowResult.JOINED])

    def test_a_pin_holds_for_a_target_of_the_same_batch(self) -> None:
        known = ruled(lookup(h="", a=""), {"x": "t"})
        batch = [member(10, "t", "a"), member(11, "x", "h")]
        planned = decided(known, *batch, looked_up="tx")
        assert heads(planned) == [("t", "a", Cause.BOOTSTRAPPED), ("x", "a", Cause.PINNED)]

    def test_a_pin_to_an_image_that_is_not_there_waits(self) -> None:
        planned = decided(ruled(lookup(h=""), {"x": "t"}), member(10, "x", "h"), looked_up="xt")
        assert results(planned) == [RowResult.JOINED]

    def test_a_target_that_was_not_looked_up_is_lacking(self) -> None:
        planned = plan([member(10, "x", "h")], knowing(ruled(lookup(h=""), {"x": "t"}, t="a"), "x"), 5)
        assert planned.decisions == ()
        assert planned.ids == {ImageId("t")}

    def test_a_forbidden_cluster_is_not_joined(self) -> None:
        planned = decided(ruled(lookup(h="e"), forbids=("xe",)), member(10, "x", "h"), looked_up="x")
        assert planned.decisions[0].moves == (Move(ImageId("x"), None, ImageId("x"), Cause.FOUNDED),)
        assert results(planned) == [RowResult.ELSEWHERE_FORBIDDEN]

    def test_nor_is_one_to_which_the_other_came_in_the_same_batch(self) -> None:
        known = ruled(lookup(h="", a=""), forbids=("xe",))
        batch = [member(10, "e", "h"), member(11, "x", "h")]
        planned = decided(known, *batch, looked_up="ex")
        assert results(planned) == [RowResult.JOINED, RowResult.ELSEWHERE_FORBIDDEN]

    def test_nor_one_that_the_forbidden_image_names_though_it_was_deleted(self) -> None:
        planned = decided(ruled(deleted_head("h", "m"), forbids=("xh",)), member(10, "x", "m"), looked_up="xh")
        assert results(planned) == [RowResult.ELSEWHERE_FORBIDDEN]

    def test_images_that_are_pinned_to_it_follow(self) -> None:
        planned = decided(ruled(lookup(h="", f=""), {"f": "x"}), member(10, "x", "h"), looked_up="x")
        assert heads(planned) == [("x", "h", Cause.BOOTSTRAPPED), ("f", "h", Cause.PINNED)]


def test_it_is_explained_by_its_row() -> None:
    pinned = ruled(lookup(h="", a="t"), {"x": "t"})
    for known, one, why in (
        (lookup(h=""), member(10, "x", "h"), Why.BOOTSTRAPPED),
        (lookup(), member(10, "x", "h"), Why.NOT_BOOTSTRAPPED),
        (pinned, member(10, "x", "h"), Why.PINNED),
        (lookup(x="m"), member(10, "x", "h", version=2), Why.KEPT),
        (lookup(), replace(member(10, "x", "h"), unscored="why"), Why.UNSCORED),
    ):
        [decision] = decided(known, one, looked_up="xh").decisions
        told = explain(one, decision, None)
        assert told.choice is not None
        own = decision.moves[0]
        assert (told.choice.head, told.choice.matched, told.choice.score) == (own.new_head, own.matched, own.score)
        assert (told.choice.why, told.candidates, told.exhausted) == (why, (), True)
        assert recorded_judgement(one, Written(lookup(), 1, decision.moves)) is None


def test_a_row_that_changed_nothing_is_not_explained() -> None:
    one = member(10, "h", "h")
    [decision] = decided(lookup(h=""), one).decisions
    assert explain(one, decision, None).choice is None
