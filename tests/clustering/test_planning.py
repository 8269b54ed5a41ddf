"""What a plan decides, what it presumes, and what it says is lacking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from clustering.assignment import Arrival, Knowledge, More, MoreNeed, Plan, pair_need, plan
from clustering.planning import MAX_EXTRA_PAGES
from clustering.rule import PairScore, Placed, Subject, Verdict
from core.errors import MismatchError
from core.types import (
    Candidate,
    Cause,
    Cluster,
    ImageId,
    LogPosition,
    Lookup,
    Membership,
    Move,
    Outcome,
    Thresholds,
    Versions,
)

LIMITS = Thresholds(0.5, 0.6, 0.7)


def arrival(
    offset: int, name: str, found: dict[str, float] | None = None, *, version: int = 1, exhausted: bool = True
) -> Arrival:
    """A record of image `name`, whose code is its name; `found` are its candidates with their scores."""
    found = found or {}
    return Arrival(
        offset=offset,
        checksum=offset + 1000,
        image_id=ImageId(name),
        version=version,
        place=offset,
        score_code=name.encode(),
        candidates=tuple(candidate(other) for other in found),
        scores=tuple(found.values()),
        exhausted=exhausted,
        thresholds=LIMITS,
        versions=Versions("m", "i"),
        unscored="",
        search_vector=b"sv",
        score_vector=b"cv",
        created_at_ms=11,
        arrived_at_ms=12,
    )


def candidate(name: str) -> Candidate:
    return Candidate(ImageId(name), 0, 1, name.encode())


def lookup(**clusters: str) -> Lookup:
    """`a="bc"`: the head `a` with members `b` and `c`; founding codes are the names, versions 1, offset 9."""
    memberships = {
        ImageId(name): Membership(ImageId(name), 1, 0, ImageId(head))
        for head, members in clusters.items()
        for name in head + members
    }
    return Lookup(
        LogPosition("log", 9),
        0,
        memberships,
        {ImageId(h): Cluster(ImageId(h), 1 + len(members), h.encode()) for h, members in clusters.items()},
    )


def knowing(found: Lookup, *more_ids: str, scores: dict[str, float] | None = None) -> Knowledge:
    """`scores`: {"ab": 0.5} is the score of the codes b"a" and b"b"."""
    pairs = {pair_need("m", pair[:1].encode(), pair[1:].encode()): score for pair, score in (scores or {}).items()}
    return Knowledge(found, set(found.memberships) | {ImageId(name) for name in more_ids}, pairs)


def heads(planned: Plan) -> list[tuple[str, str, Cause]]:
    return [(move.image_id, move.new_head, move.cause) for d in planned.decisions for move in d.moves]


def test_without_a_look_up_it_lacks_the_images_and_their_matches() -> None:
    batch = [arrival(10, "x", {"a": 0.9, "b": 0.49}), replace(arrival(11, "y", {"c": 0.9}), unscored="why", scores=())]
    assert plan(batch, Knowledge(), 5) == Plan((), frozenset({ImageId("x"), ImageId("a"), ImageId("y")}), (), ())


def test_an_image_that_was_not_looked_up_is_lacking() -> None:
    planned = plan([arrival(10, "x"), arrival(11, "y")], knowing(lookup(), "y"), 5)
    assert planned == Plan((), frozenset({ImageId("x")}), (), ())


def test_a_decision_carries_all_that_storage_keeps() -> None:
    [decision] = plan([arrival(10, "x")], knowing(lookup(), "x"), now_ms=77).decisions
    assert (decision.offset, decision.checksum, decision.place, decision.version) == (10, 1010, 10, 1)
    assert (decision.score_code, decision.search_vector, decision.score_vector) == (b"x", b"sv", b"cv")
    assert (decision.created_at_ms, decision.arrived_at_ms, decision.decided_at_ms) == (11, 12, 77)
    assert decision.versions == Versions("m", "i")
    assert not decision.truncated
    [of_a_cut_search] = plan([replace(arrival(10, "x"), truncated=True)], knowing(lookup(), "x"), now_ms=77).decisions
    assert of_a_cut_search == replace(decision, truncated=True)


def test_twins_in_one_batch_need_no_call() -> None:
    batch = [arrival(10, "x"), arrival(11, "y", {"x": 0.9}), arrival(12, "z", {"x": 0.8, "y": 0.7})]
    planned = plan(batch, knowing(lookup(), "x", "y", "z"), 5)
    assert heads(planned) == [
        ("x", "x", Cause.FOUNDED),
        ("y", "x", Cause.MATCHED),
        ("z", "x", Cause.MATCHED),
    ]
    assert not planned.ids | set(planned.pairs) | set(planned.more)


def test_the_same_and_lower_versions_are_ignored_also_within_the_batch() -> None:
    known = replace(lookup(), memberships={ImageId("a"): Membership(ImageId("a"), 5, 3, ImageId("a"))})
    known = replace(known, clusters={ImageId("a"): Cluster(ImageId("a"), 1, b"a")})
    batch = [
        arrival(10, "a", version=5),
        arrival(11, "a", version=4),
        arrival(12, "x", version=2),
        arrival(13, "x", version=2),
        arrival(14, "x", version=1),
    ]
    decisions = plan(batch, knowing(known, "x"), 5).decisions
    assert [d.outcome for d in decisions] == [
        Outcome.DUPLICATE,
        Outcome.SUPERSEDED,
        Outcome.DECIDED,
        Outcome.DUPLICATE,
        Outcome.SUPERSEDED,
    ]
    assert [d.place for d in decisions] == [3, 11, 12, 12, 14]
    ignored = decisions[0]
    assert (ignored.moves, ignored.search_vector, ignored.score_vector, ignored.score_code) == (
        (),
        b"",
        b"",
        b"",
    )


def test_a_nameless_record_only_advances_the_position() -> None:
    nameless = replace(arrival(10, "x"), image_id=ImageId(""), place=-1, unscored="unparsable")
    planned = plan([nameless, arrival(11, "y")], knowing(lookup(), "y"), 5)
    assert [d.outcome for d in planned.decisions] == [Outcome.UNREADABLE, Outcome.DECIDED]
    assert planned.decisions[0].moves == ()
    assert plan([nameless], Knowledge(), 5).ids == frozenset()


def test_an_image_that_the_index_skipped_has_its_offset_as_place() -> None:
    skipped = replace(arrival(10, "x"), place=-1, score_code=b"", unscored="refused")
    [decision] = plan([skipped], knowing(lookup(), "x"), 5).decisions
    assert decision.place == 10
    assert decision.moves[0].cause is Cause.UNSCORED


def test_an_image_without_candidates_needs_no_thresholds() -> None:
    planned = plan([replace(arrival(10, "x"), thresholds=None)], knowing(lookup(), "x"), 5)
    assert heads(planned) == [("x", "x", Cause.FOUNDED)]


def test_decisions_end_before_the_first_incomplete_but_needs_are_of_all() -> None:
    batch = [
        arrival(10, "w"),
        arrival(11, "x", {"b": 0.9}),
        arrival(12, "y", {"x": 0.9}),
        arrival(13, "z"),
    ]
    planned = plan(batch, knowing(lookup(a="b"), "w", "x", "y", "z"), 5)
    assert [d.image_id for d in planned.decisions] == ["w"]
    assert set(planned.pairs) == {pair_need("m", b"x", b"a"), pair_need("m", b"y", b"a")}, "x is presumed to join a"


def test_a_presumption_that_was_wrong_is_taken_back() -> None:
    batch = [arrival(11, "x", {"b": 0.9}), arrival(12, "y", {"x": 0.9})]
    knowledge = knowing(lookup(a="b"), "x", "y", scores={"xa": 0.1, "ya": 0.9})
    assert heads(plan(batch, knowledge, 5)) == [("x", "x", Cause.FOUNDED), ("y", "x", Cause.MATCHED)]


def test_a_candidate_that_is_a_code_of_the_head_saves_the_call() -> None:
    batch = [arrival(10, "x", {"b": 0.9, "a": 0.3})]
    planned = plan(batch, knowing(lookup(a="b"), "x"), 5)
    assert planned.pairs == ()
    assert heads(planned) == [("x", "x", Cause.FOUNDED)], "the head is a candidate, with 0.3"


def test_an_image_sees_the_cluster_that_it_left() -> None:
    # b, the only member of a, comes again as version 2 and joins c: a is alone then, and is adopted too.
    again = arrival(10, "b", {"c": 0.9, "a": 0.55}, version=2)
    known = lookup(a="b", c="d")
    planned = plan([again], knowing(known, scores={"ac": 0.8}), 5)
    assert heads(planned) == [("b", "c", Cause.MATCHED), ("a", "c", Cause.ADOPTED)]


def test_a_cluster_with_other_members_is_not_adopted_when_one_leaves() -> None:
    again = arrival(10, "b", {"c": 0.9, "a": 0.55}, version=2)
    planned = plan([again], knowing(lookup(a="be", c="d"), scores={"ac": 0.8}), 5)
    assert heads(planned) == [("b", "c", Cause.MATCHED)]


def test_an_unscored_new_version_leaves_its_cluster_but_a_head_stays() -> None:
    member = replace(arrival(10, "b", version=2), unscored="poison")
    head = replace(arrival(11, "c", version=2), unscored="poison")
    planned = plan([member, head], knowing(lookup(a="b", c="d")), 5)
    assert heads(planned) == [("b", "b", Cause.UNSCORED), ("c", "c", Cause.UNSCORED)]
    assert planned.decisions[0].moves[0].old_head == "a"


def test_a_candidate_unknown_to_storage_is_a_contradiction() -> None:
    with pytest.raises(MismatchError, match=r"'ghost' at place 0.*offset 10.*at offset 9.*rebuild"):
        plan([arrival(10, "x", {"ghost": 0.9})], knowing(lookup(), "x", "ghost"), 5)


def test_an_unknown_candidate_that_is_no_match_is_nobodys_business() -> None:
    planned = plan([arrival(10, "x", {"ghost": 0.4})], knowing(lookup(), "x", "ghost"), 5)
    assert heads(planned) == [("x", "x", Cause.FOUNDED)]


class TestMoreCandidates:
    """x (offset 10) matches b, whose head a refuses it; g leads e, f; there are further pages."""

    BATCH = (arrival(10, "x", {"b": 0.9}, exhausted=False),)
    KNOWN = knowing(lookup(a="b", g="ef"), "x", scores={"xa": 0.1})

    def with_pages(self, *pages: More, **scores: float) -> Plan:
        more = {MoreNeed(10, 1 + n, 10): page for n, page in enumerate(pages)}
        pairs = {pair_need("m", pair[:1].encode(), pair[1:].encode()): score for pair, score in scores.items()}
        return plan(self.BATCH, replace(self.KNOWN, more=more, scores={**self.KNOWN.scores, **pairs}), 5)

    def test_asks_for_the_next_page_when_every_head_refuses(self) -> None:
        planned = self.with_pages()
        assert planned.more == (MoreNeed(10, 1, 10),)
        assert planned.decisions == ()

    def test_asks_for_the_scores_of_a_page(self) -> None:
        planned = self.with_pages(More((candidate("e"),), exhausted=False))
        assert planned.pairs == (pair_need("m", b"x", b"e"),)
        assert planned.more == ()

    def test_joins_a_match_of_a_further_page(self) -> None:
        planned = self.with_pages(More((candidate("e"),), exhausted=False), xe=0.7, xg=0.8)
        assert heads(planned) == [("x", "g", Cause.MATCHED)]
        assert planned.decisions[0].moves[0].score == 0.7

    def test_a_better_match_of_a_further_page_is_tried_first(self) -> None:
        page = More((candidate("f"), candidate("e")), exhausted=True)
        planned = self.with_pages(page, xf=0.7, xe=0.95, xg=0.8)
        assert planned.decisions[0].moves[0].matched == "e"

    def test_a_page_without_matches_leads_to_the_next(self) -> None:
        planned = self.with_pages(More((candidate("e"),), exhausted=False), xe=0.2)
        assert planned.more == (MoreNeed(10, 2, 10),)

    def test_candidates_of_a_page_beyond_the_gate_are_not_scored_and_end_the_search(self) -> None:
        near, far = candidate("e")._replace(distance=4), candidate("f")._replace(distance=5)
        batch = (replace(self.BATCH[0], gate=4),)
        known = replace(self.KNOWN, more={MoreNeed(10, 1, 10): More((near, far), exhausted=False)})
        planned = plan(batch, known, 5)
        assert planned.pairs == (pair_need("m", b"x", b"e"),)
        scored = replace(
            known, scores={**known.scores, pair_need("m", b"x", b"e"): 0.2, pair_need("m", b"x", b"f"): 0.9}
        )
        assert heads(plan(batch, scored, 5)) == [("x", "x", Cause.FOUNDED)]

    def test_the_next_page_follows_all_candidates_of_the_first_also_those_that_do_not_count(self) -> None:
        batch = (replace(self.BATCH[0], given=20),)
        assert plan(batch, self.KNOWN, 5).more == (MoreNeed(10, 20, 10),)

    def test_ends_when_the_candidates_are_exhausted(self) -> None:
        planned = self.with_pages(More((candidate("e"),), exhausted=True), xe=0.2)
        assert heads(planned) == [("x", "x", Cause.FOUNDED)]

    def test_ends_after_the_last_extra_page(self) -> None:
        planned = self.with_pages(*[More((candidate("e"),), exhausted=False)] * MAX_EXTRA_PAGES, xe=0.2)
        assert heads(planned) == [("x", "x", Cause.FOUNDED)]
        one_less = self.with_pages(*[More((candidate("e"),), exhausted=False)] * (MAX_EXTRA_PAGES - 1), xe=0.2)
        assert one_less.more == (MoreNeed(10, MAX_EXTRA_PAGES, 10),)

    def test_matches_of_a_further_page_must_be_looked_up(self) -> None:
        planned = self.with_pages(More((candidate("y"),), exhausted=True), xy=0.9)
        assert planned.ids == {ImageId("y")}
        assert planned.decisions == ()

    def test_no_further_page_while_a_match_is_not_looked_up(self) -> None:
        planned = self.with_pages(More((candidate("y"),), exhausted=False), xy=0.9)
        assert planned.ids == {ImageId("y")}
        assert planned.more == ()

    @pytest.mark.parametrize("accepting", ["head", "nothing found", "exhausted"])
    def test_asks_for_nothing_when_it_need_not(self, accepting: str) -> None:
        known = replace(self.KNOWN, scores={pair_need("m", b"x", b"a"): 0.6 if accepting == "head" else 0.1})
        found = {"b": 0.4} if accepting == "nothing found" else {"b": 0.9}
        planned = plan([arrival(10, "x", found, exhausted=accepting == "exhausted")], known, 5)
        assert planned.more == ()
        assert len(planned.decisions) == 1

    def test_a_page_that_was_fetched_on_a_wrong_presumption_is_not_looked_at(self) -> None:
        accepted = replace(
            self.KNOWN,
            scores={pair_need("m", b"x", b"a"): 0.6, pair_need("m", b"x", b"e"): 0.99},
            more={MoreNeed(10, 1, 10): More((candidate("e"),), exhausted=True)},
        )
        assert heads(plan(self.BATCH, accepted, 5)) == [("x", "a", Cause.MATCHED)]


def best_match_whatever_its_head(subject: Subject, placed: Sequence[Placed], score: PairScore) -> Verdict:
    """Another rule: an image follows its best match, even where the head would refuse it; nothing is adopted."""
    if not placed:
        return Verdict((Move(subject.image_id, subject.old_head, subject.image_id, Cause.FOUNDED),), True, False)
    match, cluster = placed[0].match, placed[0].cluster
    move = Move(subject.image_id, subject.old_head, cluster.head, Cause.MATCHED, match.score, match.candidate.image_id)
    return Verdict((move,), True, False)


def test_another_rule_decides() -> None:
    batch = [arrival(10, "x", {"m": 0.9}), arrival(11, "y", {"x": 0.8})]
    known = knowing(lookup(h="m"), "x", "y", scores={"hx": 0.1, "hy": 0.1})
    assert heads(plan(batch, known, 5))[0] == ("x", "x", Cause.FOUNDED)
    assert heads(plan(batch, known, 5, best_match_whatever_its_head)) == [
        ("x", "h", Cause.MATCHED),
        ("y", "h", Cause.MATCHED),
    ]
