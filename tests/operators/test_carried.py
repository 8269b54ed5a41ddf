"""What leaves score is what the cluster rule can use: dropping the rest changes no verdict, and no trace."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clustering.arrivals import Arrival
from operators.carried import drop_losers
from operators.in_flight_pb2 import InFlight, Scores
from operators.responses import arrival, content_of
from search.serving.search_pb2 import Answer, Candidates
from tests.support.events import joined

LEVELS = (0.0, 0.125, 0.25, 0.5, 0.75, 1.0)


def in_flight(
    scores: list[float], accept: float = 0.5, head_accept: float = 0.25, *, beyond: int = 0, **fields: object
) -> InFlight:
    """A scored record: candidate n has the code (n, n), place 10 n, overlap n; the last `beyond` have no score."""
    count = len(scores) + beyond
    found = Candidates(
        image_ids=[f"candidate-{row}" for row in range(count)],
        overlaps=np.arange(count, dtype="<u2").tobytes(),
        places=(10 * np.arange(count, dtype="<i8")).tobytes(),
        score_codes=b"".join(bytes([row, row]) for row in range(count)),
        distances=np.arange(1, count + 1, dtype="<u2").tobytes(),
        postings=9,
    )
    scored = Scores(
        model_version="m",
        accept=accept,
        head_accept=head_accept,
        adopt=0.75,
        values=np.array(scores, "<f4").tobytes(),
        gate=len(scores) if beyond else None,
    )
    answer = Answer(offset=7, place=7, score_code=b"\xaa\xaa", candidates=found)
    return InFlight(offset=7, record=joined("cat"), answer=answer, scores=scored, **fields)  # type: ignore[arg-type]


def narrowed(one: InFlight) -> InFlight:
    other = copy.deepcopy(one)
    drop_losers(other)
    return other


def read(one: InFlight) -> Arrival:
    return arrival(one, content_of(one))


def test_candidates_below_both_limits_are_dropped_from_every_column() -> None:
    one = narrowed(in_flight([0.75, 0.0, 0.25, 0.125, 0.5], beyond=2))
    kept = read(one)
    assert [(c.image_id, c.place, c.overlap, c.score_code, c.distance) for c in kept.candidates] == [
        ("candidate-0", 0, 0, b"\x00\x00", 1),
        ("candidate-2", 20, 2, b"\x02\x02", 3),
        ("candidate-4", 40, 4, b"\x04\x04", 5),
    ]
    assert kept.scores == (0.75, 0.25, 0.5)
    assert (kept.next_candidate, kept.gate, kept.beyond_gate) == (7, 5, ())
    assert one.answer.candidates.postings == 9


def test_an_image_without_matches_carries_little_beside_its_record() -> None:
    one = in_flight([0.125] * 20)
    one.answer.score_code = bytes(640)
    one.answer.candidates.score_codes = bytes(20 * 640)
    assert narrowed(one).ByteSize() < len(one.record) + 640 + 100


def test_a_limit_of_heads_above_that_of_matches_drops_no_match() -> None:
    assert read(narrowed(in_flight([0.5, 0.25], accept=0.25, head_accept=0.75))).scores == (0.5, 0.25)


@pytest.mark.parametrize("fields", [{"traced": "flag"}, {"traced": "sampled"}])
def test_a_traced_image_keeps_all(fields: dict[str, object]) -> None:
    one = in_flight([0.75, 0.0], beyond=1, **fields)
    kept = read(narrowed(one))
    assert kept.candidates == read(one).candidates
    assert [each.image_id for each in kept.beyond_gate] == ["candidate-2"]
    assert kept.next_candidate == 3


def test_an_image_whose_search_was_truncated_gets_a_trace_and_keeps_all() -> None:
    one = in_flight([0.75, 0.0])
    one.answer.candidates.truncated = True
    assert len(read(narrowed(one)).candidates) == 2


def test_an_unscored_image_carries_no_candidates() -> None:
    one = in_flight([0.75])
    one.ClearField("scores")
    one.unscored = "faulted: no"
    other = narrowed(one)
    assert list(other.answer.candidates.image_ids) == []
    assert not other.HasField("scores")
    assert read(other).candidates == read(one).candidates == ()


def test_a_record_without_candidates_stays_as_it_is() -> None:
    one = in_flight([])
    assert narrowed(one) == one


@given(
    scores=st.lists(st.sampled_from(LEVELS), max_size=6),
    limits=st.tuples(st.sampled_from(LEVELS[1:]), st.sampled_from(LEVELS[1:])),
    beyond=st.integers(0, 2),
)
def test_matches_and_the_scores_of_heads_that_accept_are_the_same(
    scores: list[float], limits: tuple[float, float], beyond: int
) -> None:
    whole = in_flight(scores, *limits, beyond=beyond)
    before, after = read(whole), read(narrowed(whole))
    assert after.matches == before.matches
    assert (after.next_candidate, after.exhausted, after.gate) == (before.next_candidate, before.exhausted, before.gate)
    assert after.known_scores.items() <= before.known_scores.items()
    missing = before.known_scores.keys() - after.known_scores.keys()
    assert all(before.known_scores[code] < min(limits) for code in missing)
    assert narrowed(whole).ByteSize() <= whole.ByteSize() + 2  # how many there were
