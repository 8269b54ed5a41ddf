"""An explanation names the verdict that `plan` gave, and says of every other candidate why it lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given, settings

from clustering.assignment import Arrival, Joining, assign
from clustering.explain import Explanation, explain
from clustering.planning import Judgement
from core.traces import Adoption, LossReason, TracedAdoption, TracedCandidate, Why
from core.types import Cause, Cluster, Decision, ImageId, Move, Outcome, Thresholds
from tests.clustering.test_assignment_properties import BUSY_WORLDS, WORLDS
from tests.support.cluster_world import Record, World, WorldPorts
from tests.support.reference_store import ReferenceStore


@dataclass(frozen=True)
class Told:
    """What was told of one record."""

    arrival: Arrival
    decision: Decision
    explanation: Explanation
    clusters: dict[ImageId, Cluster]
    """Of each image that storage knew, before the decision."""
    moves: Sequence[Move]
    """What was decided: a replay writes only what changes."""


def explained(world: World) -> list[Told]:
    """Every record of a world, decided one by one."""
    world.narrowed = False  # an image that is traced keeps all its candidates
    store = ReferenceStore()
    told: list[Told] = []
    for arrival in world.arrivals():
        known = store.look_up(store.heads)
        clusters = {image: known.clusters[member.head] for image, member in known.memberships.items()}

        def committed(
            one: Arrival,
            decision: Decision | None,
            judgement: Judgement | None,
            clusters: dict[ImageId, Cluster] = clusters,
        ) -> None:
            assert decision is not None
            moves = () if decision.outcome is Outcome.DELETED else decision.moves
            moves = moves if judgement is None else judgement.verdict.moves
            told.append(Told(one, decision, explain(one, decision, judgement), clusters, moves))

        assert assign([arrival], WorldPorts(world, store), 7, committed=committed) == 1
    return told


@given(world=WORLDS | BUSY_WORLDS)
@settings(max_examples=300)
def test_it_names_the_verdict(world: World) -> None:
    for each in explained(world):
        choice, moves = each.explanation.choice, each.moves
        if not moves:
            assert choice is None
            continue
        assert choice is not None
        own = moves[0]
        assert (choice.head, choice.old_head, choice.matched, choice.score) == (
            own.new_head,
            own.old_head,
            own.matched,
            own.score,
        )
        assert each.explanation.adopted == tuple(TracedAdoption(move.image_id, move.score) for move in moves[1:])
        won = [one.image_id for one in each.explanation.candidates if one.lost is None]
        assert won == ([own.matched] if own.cause is Cause.MATCHED else [])


@given(world=WORLDS | BUSY_WORLDS)
@settings(max_examples=300)
def test_each_reason_holds(world: World) -> None:
    for each in explained(world):
        if isinstance(each.arrival.asks, Joining):
            _check_row(each)
        elif each.moves and not each.arrival.unscored:
            assert world.thresholds == each.arrival.thresholds
            _check_choice(each)
            for one in each.explanation.candidates:
                _check_loss(world, each, one)
                _check_adoption(world, each, one)


def _check_row(each: Told) -> None:
    assert not each.explanation.candidates
    assert (each.explanation.choice is None) is (not each.moves)
    whys = {
        Cause.BOOTSTRAPPED: Why.BOOTSTRAPPED,
        Cause.FOUNDED: Why.NOT_BOOTSTRAPPED,
        Cause.KEPT: Why.KEPT,
        Cause.UNSCORED: Why.UNSCORED,
    }
    for move in each.moves[:1]:
        assert each.explanation.choice is not None
        assert each.explanation.choice.why is whys[move.cause]


def _check_choice(each: Told) -> None:
    choice, candidates = each.explanation.choice, each.explanation.candidates
    assert choice is not None
    assert {one.image_id for one in candidates} >= {one.image_id for one in each.arrival.candidates}
    losses = {one.lost for one in candidates}
    no_match = {LossReason.BELOW_ACCEPT, LossReason.BEYOND_GATE}
    expected = {
        Why.MATCHED: lambda: None in losses,
        Why.KEPT: lambda: losses <= {LossReason.KEPT, *no_match},
        Why.NO_CANDIDATES: lambda: not candidates,
        Why.NO_MATCH: lambda: losses and losses <= no_match,
        Why.ALL_REFUSED: lambda: (
            losses & {LossReason.HEAD_REFUSED, LossReason.HEAD_UNCODED}
            and losses <= {LossReason.HEAD_REFUSED, LossReason.HEAD_UNCODED, *no_match}
        ),
    }
    assert expected[Why(choice.why)](), (choice, losses)


def _check_loss(world: World, each: Told, one: TracedCandidate) -> None:
    limits, code = world.thresholds, each.arrival.score_code
    codes = {entry.image_id: entry.code for entry in world.entries if entry.place == one.place}
    if world.distance_of is not None:
        assert one.distance == world.distance_of(code, codes[ImageId(one.image_id)])
    if one.lost is LossReason.BEYOND_GATE:
        assert world.gate is not None
        assert one.distance is not None
        assert one.distance > world.gate
        assert one.score is None
        return
    assert one.score is not None
    assert one.score == world.score(each.arrival.versions.model, code, codes[ImageId(one.image_id)])
    if one.lost is LossReason.BELOW_ACCEPT:
        assert one.score < limits.accept
        assert one.head is None
        return
    cluster = each.clusters[ImageId(one.image_id)]
    assert one.score >= limits.accept
    assert one.head == cluster.head
    refuses = (
        bool(cluster.founding_code)
        and world.score(each.arrival.versions.model, code, cluster.founding_code) < limits.head_accept
    )
    choice = each.explanation.choice
    assert choice is not None
    if one.head_score is not None:
        assert one.head_score == world.score(each.arrival.versions.model, code, cluster.founding_code)
    match one.lost:
        case None:
            assert not refuses
            assert one.head == choice.head
            assert one.head_score == choice.head_score
        case LossReason.HEAD_REFUSED:
            assert refuses
        case LossReason.HEAD_UNCODED:
            assert not cluster.founding_code
        case LossReason.SAME_HEAD:
            assert one.head == choice.head
        case LossReason.WORSE:
            assert one.head != choice.head
            winner = next(each for each in each.explanation.candidates if each.lost is None)
            assert each.explanation.candidates.index(winner) < each.explanation.candidates.index(one)
        case LossReason.KEPT:
            assert choice.why is Why.KEPT
        case _:
            raise AssertionError(one.lost)


def _check_adoption(world: World, each: Told, one: TracedCandidate) -> None:
    if one.adoption is None:
        return
    cluster = each.clusters[ImageId(one.image_id)]
    assert one.lost not in (LossReason.BELOW_ACCEPT, LossReason.BEYOND_GATE)
    assert one.image_id == cluster.head
    if one.adoption is Adoption.UNCODED:
        assert one.adopt_score is None
        return
    assert one.adopt_score is not None
    assert (one.adopt_score >= world.thresholds.adopt) == (one.adoption is Adoption.ADOPTED)


def scored(pairs: dict[str, float]) -> World:
    """Images `a`, `b`, ... whose codes are their names; other pairs score 0."""

    def score(one: bytes, other: bytes) -> float:
        low, high = sorted((one.decode(), other.decode()))
        return pairs.get(low + high, 0.0)

    log = [Record(name, code=name.encode()) for name in sorted({name for pair in pairs for name in pair})]
    return World(log, score, Thresholds(0.5, 0.4, 0.7), k=3, overlap_of=lambda one, other: 1)


def last(world: World) -> Explanation:
    """Of the last record."""
    return explained(world)[-1].explanation


def test_the_reasons_of_one_verdict() -> None:
    """`b` joined `a`; `d` matches `b` best, whose head refuses it, then `c`, which accepts it."""
    explanation = last(scored({"ab": 0.9, "bd": 0.9, "ad": 0.1, "cd": 0.6}))
    assert explanation.choice is not None
    assert (explanation.choice.why, explanation.choice.head, explanation.choice.head_score) == (Why.MATCHED, "c", 0.6)
    assert [(one.image_id, one.lost, one.head_score) for one in explanation.candidates] == [
        ("b", LossReason.HEAD_REFUSED, 0.1),
        ("c", None, 0.6),
        ("a", LossReason.BELOW_ACCEPT, None),
    ]


def test_singletons_that_move_and_that_stay() -> None:
    """`d` joins `a`; `b` is near enough to `a`, `c` is not."""
    explanation = last(scored({"ad": 0.9, "bd": 0.8, "cd": 0.7, "ab": 0.49, "ac": 0.4}))
    assert [(one.image_id, one.adoption, one.adopt_score) for one in explanation.candidates] == [
        ("a", None, None),
        ("b", Adoption.BELOW_ADOPT, 0.49),
        ("c", Adoption.BELOW_ADOPT, 0.4),
    ]
    apart = scored({"ad": 0.9, "bd": 0.8, "ab": 0.75, "cd": 0.0})
    apart.overlap_of = lambda one, other: int({one, other} != {b"a", b"b"})
    moved = last(apart)
    assert moved.adopted == (TracedAdoption("b", 0.75),)
    assert [(one.image_id, one.lost, one.adoption, one.adopt_score) for one in moved.candidates] == [
        ("a", None, None, None),
        ("b", LossReason.WORSE, Adoption.ADOPTED, 0.75),
        ("c", LossReason.BELOW_ACCEPT, None, None),
    ]


def test_pages_are_counted() -> None:
    """`f` matches `a` to `d` of one cluster, whose head refuses it, on two pages, and `e` on the second."""
    pairs = {f"a{other}": 0.9 for other in "bcd"} | {f"{other}f": 0.9 for other in "bcd"} | {"af": 0.0, "ef": 0.8}
    explanation = last(scored(pairs))
    assert explanation.choice is not None
    assert (explanation.choice.head, explanation.pages, explanation.exhausted) == ("e", 1, True)
    assert [one.image_id for one in explanation.candidates] == ["b", "c", "d", "e", "a"]


def test_an_image_that_was_not_scored() -> None:
    world = World([Record("a", fate="faulted")], lambda one, other: 1.0)
    explanation = last(world)
    assert explanation.choice is not None
    assert (explanation.choice.why, explanation.candidates) == (Why.UNSCORED, ())


def test_a_duplicate_has_candidates_and_no_choice() -> None:
    world = World([Record("a"), Record("b", code=b"b"), Record("b", code=b"b")], lambda one, other: 0.25)
    world.overlap_of = lambda one, other: 1
    explanation = last(world)
    assert explanation.choice is None
    assert [one.lost for one in explanation.candidates] == [LossReason.BELOW_ACCEPT]


def test_candidates_beyond_the_gate_come_last_and_have_no_score() -> None:
    """`a` and `c` would match, but `c` is too far away; `b` is near and scores too low."""
    world = scored({"ad": 0.9, "bd": 0.25, "cd": 0.9})
    world.distance_of = lambda one, other: {b"a": 5, b"b": 7, b"c": 8}.get(min(one, other), 0)
    world.gate = 7
    explanation = last(world)
    assert [(one.image_id, one.score, one.distance, one.lost) for one in explanation.candidates] == [
        ("a", 0.9, 5, None),
        ("b", 0.25, 7, LossReason.BELOW_ACCEPT),
        ("c", None, 8, LossReason.BEYOND_GATE),
    ]
