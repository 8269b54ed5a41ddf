"""One example per clause of the cluster rule."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from clustering.rule import Match, Placed, Subject, judge, matches, unscored_move
from core.types import Candidate, Cause, Cluster, ImageId, Move, Thresholds

LIMITS = Thresholds(accept=0.5, head_accept=0.6, adopt=0.7)
IMAGE = ImageId("image")


@dataclass
class Table:
    """Scores by pair of codes; counts as not known what is not in it, and remembers what was asked."""

    scores: dict[frozenset[bytes], float] = field(default_factory=dict)
    asked: list[tuple[bytes, bytes]] = field(default_factory=list)

    def __call__(self, one: bytes, other: bytes) -> float | None:
        self.asked.append((one, other))
        return self.scores.get(frozenset((one, other)))


def table(**scores: float) -> Table:
    """`a_b=0.5`: the score of the codes b"a" and b"b"."""
    return Table({frozenset(part.encode() for part in pair.split("_")): score for pair, score in scores.items()})


def subject(home: Cluster | None = None) -> Subject:
    return Subject(IMAGE, b"x", LIMITS, home)


def match(name: str, score: float, head: str | None = None, count: int = 1, founding: bytes | None = None) -> Placed:
    """A match whose code is its name, in the cluster of `head` (itself without), whose founding code is its name."""
    head = head or name
    cluster = Cluster(ImageId(head), count, head.encode() if founding is None else founding)
    return Placed(Match(candidate(name), score), cluster)


def candidate(name: str, place: int = 1, overlap: int = 1) -> Candidate:
    return Candidate(ImageId(name), place, overlap, name.encode())


def test_match_is_a_candidate_from_the_threshold_on() -> None:
    scored = [Match(candidate("below"), 0.49), Match(candidate("at"), 0.5), Match(candidate("above"), 0.51)]
    assert [m.candidate.image_id for m in matches(IMAGE, scored, 0.5)] == ["above", "at"]


def test_matches_are_tried_by_score_then_overlap_then_age() -> None:
    scored = [
        Match(candidate("young", place=9, overlap=2), 0.8),
        Match(candidate("old", place=3, overlap=2), 0.8),
        Match(candidate("few terms", place=1, overlap=1), 0.8),
        Match(candidate("best", place=20, overlap=1), 0.9),
    ]
    assert [m.candidate.image_id for m in matches(IMAGE, scored, 0.5)] == ["best", "old", "young", "few terms"]


def test_an_image_never_matches_itself() -> None:
    assert matches(IMAGE, [Match(candidate("image"), 1.0)], 0.5) == []


def test_a_score_that_is_not_a_number_is_no_match() -> None:
    assert matches(IMAGE, [Match(candidate("a"), float("nan"))], 0.5) == []


def test_without_matches_it_founds() -> None:
    verdict = judge(subject(), [], table())
    assert verdict.moves == (Move(IMAGE, None, IMAGE, Cause.FOUNDED),)
    assert (verdict.complete, verdict.refused) == (True, False)


def test_joins_the_head_of_its_best_match() -> None:
    verdict = judge(subject(), [match("a", 0.9, "h", 3), match("b", 0.8, "g", 2)], table(h_x=0.6, g_x=0.9))
    assert verdict.moves == (Move(IMAGE, None, ImageId("h"), Cause.MATCHED, 0.9, ImageId("a")),)
    assert verdict.complete


def test_a_match_whose_head_refuses_is_passed_over() -> None:
    verdict = judge(subject(), [match("a", 0.9, "h", 3), match("b", 0.8, "g", 2)], table(h_x=0.59, g_x=0.6))
    assert verdict.moves == (Move(IMAGE, None, ImageId("g"), Cause.MATCHED, 0.8, ImageId("b")),)


def test_if_every_head_refuses_it_founds() -> None:
    verdict = judge(subject(), [match("a", 0.9, "h", 3), match("b", 0.8, "g", 2)], table(h_x=0.1, g_x=0.2))
    assert verdict.moves == (Move(IMAGE, None, IMAGE, Cause.FOUNDED),)
    assert (verdict.complete, verdict.refused) == (True, True)


def test_a_head_that_is_the_match_is_checked_with_the_score_it_came_with() -> None:
    scores = table()
    joins = judge(subject(), [match("a", 0.6)], scores)
    refused = judge(subject(), [match("a", 0.59)], table(a_x=1.0))
    assert joins.moves[0].new_head == "a"
    assert scores.asked == []
    assert refused.moves[0].new_head == IMAGE


def test_head_check_uses_the_founding_code_not_the_code_of_today() -> None:
    placed = [match("h", 0.9, founding=b"f")]
    assert judge(subject(), placed, table(f_x=0.1, h_x=0.9)).moves[0].new_head == IMAGE
    assert judge(subject(), placed, table(f_x=0.6, h_x=0.1)).moves[0].new_head == "h"


def test_single_heads_among_the_matches_move_to_the_chosen_head() -> None:
    placed = [match("a", 0.9, "h", 3), match("single", 0.8), match("far", 0.7)]
    verdict = judge(subject(), placed, table(h_x=0.9, h_single=0.7, h_far=0.69))
    assert verdict.moves[1:] == (Move(ImageId("single"), ImageId("single"), ImageId("h"), Cause.ADOPTED, 0.7, IMAGE),)


def test_single_heads_move_to_an_image_that_founds() -> None:
    verdict = judge(subject(), [match("single", 0.55)], table(single_x=0.7))
    assert verdict.moves == (
        Move(IMAGE, None, IMAGE, Cause.FOUNDED),
        Move(ImageId("single"), ImageId("single"), IMAGE, Cause.ADOPTED, 0.7, IMAGE),
    )


def test_the_chosen_head_members_and_heads_with_members_do_not_move() -> None:
    placed = [match("chosen", 0.9), match("member", 0.8, "h", 2), match("big", 0.7, "big", 2)]
    verdict = judge(subject(), placed, table(chosen_h=1.0, chosen_big=1.0, chosen_member=1.0))
    assert [move.image_id for move in verdict.moves] == [IMAGE]


def test_a_new_version_of_a_head_with_members_keeps_it_and_still_adopts() -> None:
    home = Cluster(IMAGE, 2, b"f")
    verdict = judge(subject(home), [match("h", 0.99, "h", 5), match("single", 0.9)], table(f_single=0.7, h_x=1.0))
    assert verdict.moves == (
        Move(IMAGE, IMAGE, IMAGE, Cause.KEPT),
        Move(ImageId("single"), ImageId("single"), IMAGE, Cause.ADOPTED, 0.7, IMAGE),
    )
    assert not verdict.refused


def test_a_deleted_head_comes_back_to_its_cluster() -> None:
    home = Cluster(IMAGE, 1, b"f", head_deleted=True)
    verdict = judge(subject(home), [match("h", 0.99, "h", 5), match("single", 0.9)], table(f_single=0.7, h_x=1.0))
    assert verdict.moves == (
        Move(IMAGE, None, IMAGE, Cause.KEPT),
        Move(ImageId("single"), ImageId("single"), IMAGE, Cause.ADOPTED, 0.7, IMAGE),
    )


def test_the_last_member_of_a_cluster_whose_head_was_deleted_is_no_singleton() -> None:
    placed = Placed(Match(candidate("m"), 0.9), Cluster(ImageId("h"), 1, b"h", head_deleted=True))
    verdict = judge(subject(), [placed], table(h_x=1.0, h_m=1.0))
    assert verdict.moves == (Move(IMAGE, None, ImageId("h"), Cause.MATCHED, 0.9, ImageId("m")),)


def test_a_new_version_of_a_single_head_is_decided_anew() -> None:
    home = Cluster(IMAGE, 1, b"founding")
    assert judge(subject(home), [], table()).moves == (Move(IMAGE, IMAGE, IMAGE, Cause.FOUNDED),)
    assert judge(subject(home), [match("h", 0.9)], table()).moves == (
        Move(IMAGE, IMAGE, ImageId("h"), Cause.MATCHED, 0.9, ImageId("h")),
    )


def test_a_new_version_of_a_member_is_decided_anew() -> None:
    home = Cluster(ImageId("old"), 4, b"old")
    assert judge(subject(home), [], table()).moves == (Move(IMAGE, ImageId("old"), IMAGE, Cause.FOUNDED),)


@pytest.mark.parametrize("head_count", [1, 3])
def test_a_head_without_a_code_refuses_and_is_not_adopted(head_count: int) -> None:
    scores = Table()
    verdict = judge(subject(), [match("h", 0.99, "h", head_count, founding=b"")], scores)
    assert verdict.moves == (Move(IMAGE, None, IMAGE, Cause.FOUNDED),)
    assert (verdict.refused, scores.asked) == (True, [])


def test_nobody_is_adopted_by_a_head_without_a_code() -> None:
    scores = Table()
    verdict = judge(subject(Cluster(IMAGE, 2, b"")), [match("single", 0.99)], scores)
    assert (len(verdict.moves), scores.asked) == (1, [])


def test_lacking_scores_make_a_presumption_and_are_all_asked_at_once() -> None:
    placed = [
        match("a", 0.9, "h", 3),
        match("b", 0.85, "h", 3),
        match("c", 0.8, "g", 2),
        match("single", 0.7),
        match("d", 0.65, "late", 2),
    ]
    scores = table()

    verdict = judge(subject(), placed, scores)

    assert not verdict.complete
    assert not verdict.refused
    assert verdict.moves[0].new_head == "h", "the best match is presumed"
    assert scores.asked == [(b"x", b"h"), (b"x", b"g"), (b"single", b"h")], (
        "heads up to the first that accepts, each once"
    )


def test_a_known_refusal_moves_the_presumption_on() -> None:
    verdict = judge(subject(), [match("a", 0.9, "h", 3), match("c", 0.8, "g", 2)], table(h_x=0.1))
    assert verdict.moves[0].new_head == "g"
    assert not verdict.complete


def test_an_acceptance_after_an_unknown_head_is_not_final() -> None:
    verdict = judge(subject(), [match("a", 0.9, "h", 3), match("c", 0.8, "g", 2)], table(g_x=0.9))
    assert verdict.moves[0].new_head == "h"
    assert not verdict.complete


def test_an_unknown_head_after_an_acceptance_does_not_matter() -> None:
    scores = table(h_x=0.9)
    verdict = judge(subject(), [match("a", 0.9, "h", 3), match("c", 0.8, "g", 2)], scores)
    assert verdict.complete
    assert scores.asked == [(b"x", b"h")]


def test_a_lacking_score_for_adopting_leaves_the_verdict_open() -> None:
    verdict = judge(subject(), [match("a", 0.9, "h", 3), match("single", 0.8)], table(h_x=0.9))
    assert len(verdict.moves) == 1
    assert not verdict.complete


@pytest.mark.parametrize(
    ("home", "old_head"), [(None, None), (Cluster(ImageId("h"), 3, b"h"), "h"), (Cluster(IMAGE, 2, b"x"), IMAGE)]
)
def test_an_unscored_image_is_its_own_head(home: Cluster | None, old_head: str | None) -> None:
    assert unscored_move(subject(home)) == Move(IMAGE, old_head and ImageId(old_head), IMAGE, Cause.UNSCORED)


def test_a_match_that_vouches_makes_its_head_accept() -> None:
    vouching = match("b", 0.8, "h", 3)._replace(vouched=True)
    scores = table(h_x=0.1)
    verdict = judge(subject(), [match("a", 0.9, "h", 3), vouching, match("c", 0.7, "g", 2)], scores)
    assert verdict.moves == (Move(IMAGE, None, ImageId("h"), Cause.MATCHED, 0.8, ImageId("b")),)
    assert verdict.complete
    assert scores.asked == [(b"x", b"h")], "the head is asked for the match that does not vouch alone"


def test_a_match_vouches_from_the_threshold_of_heads_on() -> None:
    near, far = (match("b", score, "h", 3)._replace(vouched=True) for score in (0.6, 0.59))
    assert judge(subject(), [near], table()).moves[0].new_head == "h"
    assert judge(subject(), [far], table(h_x=0.1)).refused
    assert judge(subject(), [far], table(h_x=0.6)).moves[0].new_head == "h", "the founding code still counts"
