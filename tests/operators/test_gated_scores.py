"""Candidates beyond the gate of the model have no score, whatever was known of the gate before the call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import FaultError
from operators.gated_scores import GatedScores, ToScore, gate_of, within
from scoring.serving.scorer_pb2 import PairBlock, ScoreResponse
from search.serving.search_pb2 import Candidates
from tests.support.fake_servers import distance

CODE = b"\x00\x00"


def found(*codes: bytes, measured: bool = True) -> Candidates:
    """These candidates of `CODE`, which must come nearest first."""
    distances = [distance(CODE, code) for code in codes] if measured else []
    assert distances == sorted(distances)
    return Candidates(
        image_ids=[code.hex() for code in codes],
        score_codes=b"".join(codes),
        distances=np.array(distances, "<u2").tobytes(),
    )


NEAR, HALFWAY, FAR = b"\x00\x01", b"\x00\x0f", b"\xff\xff"


@dataclass
class Versions:
    """A scorer whose served model has a gate, which may change. A score is the first byte of a code."""

    gate: int | None = None
    asked: list[list[bytes]] = field(default_factory=list)
    """The candidates of each call."""

    def score(self, blocks: Sequence[PairBlock], version: str) -> ScoreResponse:
        self.asked.append([block.candidate_codes for block in blocks])
        values = [np.frombuffer(block.candidate_codes, np.uint8)[::2].astype("<f4") for block in blocks]
        return ScoreResponse(
            model_version=version or "served", scores=[each.tobytes() for each in values], gate=self.gate
        )


def counts(response: ScoreResponse) -> list[int]:
    return [len(values) // 4 for values in response.scores]


def test_the_first_candidates_are_within_the_gate() -> None:
    candidates = found(NEAR, HALFWAY, HALFWAY, FAR)
    assert [within(candidates, gate) for gate in (0, 1, 3, 4, 15, 16, None)] == [0, 1, 1, 3, 3, 4, 4]
    assert within(found(), 3) == 0


def test_without_distances_all_candidates_are_scored() -> None:
    assert within(found(NEAR, FAR, measured=False), 2) == 2


def test_a_model_without_a_gate_scores_all() -> None:
    scorer = Versions()
    assert counts(GatedScores(scorer.score).of([ToScore(CODE, found(NEAR, FAR))])) == [2]
    assert scorer.asked == [[NEAR + FAR]]


def test_the_gate_holds_from_the_first_answer_on_and_later_calls_send_less() -> None:
    scorer = Versions(gate=4)
    scores = GatedScores(scorer.score)
    images = [ToScore(CODE, found(NEAR, HALFWAY, FAR)), ToScore(CODE, found(FAR)), ToScore(CODE, found())]
    first, second = scores.of(images), scores.of(images)
    assert counts(first) == [2, 0, 0]
    assert first == second
    assert gate_of(second) == 4
    assert scorer.asked == [[NEAR + HALFWAY + FAR, FAR, b""], [NEAR + HALFWAY, b"", b""]]


def test_a_model_that_could_accept_more_scores_again() -> None:
    scorer = Versions(gate=1)
    scores = GatedScores(scorer.score)
    images = [ToScore(CODE, found(NEAR, HALFWAY, FAR))]
    scores.of(images)
    scorer.gate = 4
    assert counts(scores.of(images)) == [2]
    assert len(scorer.asked) == 3
    scorer.gate = None
    assert counts(scores.of(images)) == [3]
    assert scorer.asked[-2:] == [[NEAR + HALFWAY], [NEAR + HALFWAY + FAR]]


def test_a_model_that_accepts_less_needs_no_second_call() -> None:
    scorer = Versions(gate=15)
    scores = GatedScores(scorer.score)
    images = [ToScore(CODE, found(NEAR, HALFWAY, FAR))]
    scores.of(images)
    scorer.gate = 1
    assert counts(scores.of(images)) == [1]
    assert len(scorer.asked) == 2


def test_each_version_has_its_own_gate() -> None:
    scorer = Versions(gate=1)
    scores = GatedScores(scorer.score)
    images = [ToScore(CODE, found(NEAR, FAR))]
    scores.of(images)
    scorer.gate = None
    assert counts(scores.of(images, "older")) == [2]
    scorer.gate = 1
    assert counts(scores.of(images)) == [1]
    assert len(scorer.asked) == 3


@pytest.mark.parametrize("answer", [[], [b"\x00" * 4], [b"\x00" * 8, b""], [b"\x00" * 7]])
def test_an_answer_that_does_not_fit_is_a_fault(answer: list[bytes]) -> None:
    scores = GatedScores(lambda blocks, version: ScoreResponse(scores=answer))
    with pytest.raises(FaultError, match="did not answer all 2 pairs"):
        scores.of([ToScore(CODE, found(NEAR, FAR))])


@given(
    gates=st.lists(st.none() | st.integers(0, 16), min_size=1, max_size=6),
    codes=st.lists(st.lists(st.binary(min_size=2, max_size=2), max_size=5), min_size=1, max_size=3),
)
@settings(max_examples=300)
def test_the_scores_are_those_of_the_gate_that_answered_whatever_was_before(
    gates: list[int | None], codes: list[list[bytes]]
) -> None:
    images = [ToScore(CODE, found(*sorted(each, key=lambda code: distance(CODE, code)))) for each in codes]
    scorer = Versions()
    kept = GatedScores(scorer.score)
    for gate in gates:
        scorer.gate = gate
        fresh = GatedScores(scorer.score).of(images)
        assert kept.of(images) == fresh
        assert gate_of(fresh) == gate
        assert counts(fresh) == [within(image.candidates, gate) for image in images]
