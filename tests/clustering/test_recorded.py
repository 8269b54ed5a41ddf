"""A verdict that is told from the history is the one that was given, whatever was decided since."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from clustering.assignment import Arrival, assign
from clustering.explain import Explanation, explain
from clustering.planning import Judgement
from clustering.recorded import recorded_judgement
from core.traces import Adoption, LossReason, TracedCandidate
from core.types import Decision
from storage.memory import MemoryStore
from storage.written import written_at
from tests.clustering.test_assignment_on_store import StorePorts
from tests.clustering.test_assignment_properties import BUSY_WORLDS, WORLDS
from tests.support.cluster_world import World
from tests.support.reference_store import ReferenceStore


@dataclass(frozen=True)
class Told:
    """One record that wrote something, and how it was explained."""

    arrival: Arrival
    decision: Decision
    explanation: Explanation


def decided(world: World, store: MemoryStore, choices: random.Random) -> list[Told]:
    """Every record of a world, in batches of any size."""
    world.narrowed = False  # an image that is traced keeps all its candidates
    told: list[Told] = []

    def committed(one: Arrival, decision: Decision | None, judgement: Judgement | None) -> None:
        assert decision is not None
        told.append(Told(one, decision, explain(one, decision, judgement)))

    while (start := store.position().offset + 1) < len(world.log):
        batch = world.arrivals(start, min(len(world.log), start + choices.choice([1, 5, 64])))
        assign(batch, StorePorts(world, ReferenceStore(), memory=store), now_ms=5, committed=committed)
    return told


@settings(max_examples=200, deadline=None)
@given(world=WORLDS | BUSY_WORLDS, choices=st.randoms(use_true_random=False))
def test_it_is_the_verdict_that_was_given(world: World, choices: random.Random) -> None:
    store, number = MemoryStore(), 1
    for each in decided(world, store, choices):
        arrival, moves = each.arrival, each.decision.moves
        if not arrival.image_id:
            continue
        with store.snapshot() as view:
            matched = [match.candidate.image_id for match in arrival.matches]
            written = written_at(view, arrival.image_id, arrival.offset, matched)
            told = [entry for entry in view.history_from(number - 1) if entry.offset == arrival.offset]
        first, number = number, number + len(told)
        assert written.moves == moves
        if not moves:
            continue
        assert written.first_number == first
        again = explain(arrival, each.decision, recorded_judgement(arrival, written))
        if moves[0].image_id != arrival.image_id:
            assert again.choice is None  # a replay that changed only others
            continue
        _check(each.explanation, again)


def _check(first: Explanation, again: Explanation) -> None:
    assert again.adopted == first.adopted
    if first.choice is None or again.choice is None:
        assert first.choice is again.choice
        return
    if first.pages:  # what further pages brought is not known again
        assert (again.choice.head, again.choice.matched) == (first.choice.head, first.choice.matched)
        return
    assert replace(again.choice, head_score=None) == replace(first.choice, head_score=None)
    assert len(again.candidates) == len(first.candidates)
    for one, before in zip(again.candidates, first.candidates, strict=True):
        _check_candidate(one, before)


def _check_candidate(one: TracedCandidate, before: TracedCandidate) -> None:
    assert (one.image_id, one.score, one.head) == (before.image_id, before.score, before.head)
    if one.head_score is not None:
        assert one.head_score == before.head_score
    if one.lost != before.lost:
        # After the match that decided, only a score tells that a head would have refused. And codes of deleted images
        # are gone.
        assert before.lost is LossReason.HEAD_REFUSED or one.lost is LossReason.HEAD_UNCODED
        assert one.head_score is None
    if one.adoption is Adoption.ADOPTED or before.adoption is Adoption.ADOPTED:
        assert (one.adoption, one.adopt_score) == (before.adoption, before.adopt_score)
