"""Traces: written, read back, cut to their limit; what is no trace is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import BadInputError
from core.scores import shortest
from core.traces import (
    LIMIT_BYTES,
    Choice,
    LossReason,
    Trace,
    TracedAdoption,
    TracedCandidate,
    Why,
    fitted,
    parse_trace,
    trace_json,
    traced_terms,
)
from tests.support.traces import sample_trace

IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80)
SCORES = st.none() | st.floats(0, 1, width=32).map(shortest)
CANDIDATES = st.builds(
    TracedCandidate, image_id=IDS, place=st.integers(0, 2**62), overlap=st.integers(0, 1024), score=SCORES
)


def test_the_sample_is_read_back() -> None:
    assert parse_trace(trace_json(sample_trace())) == sample_trace()


@given(image_id=IDS, candidates=st.lists(CANDIDATES, max_size=20), scores=st.lists(SCORES, max_size=20))
def test_each_trace_is_read_back(image_id: str, candidates: list[TracedCandidate], scores: list[float | None]) -> None:
    adopted = tuple(TracedAdoption(image_id, score) for score in scores)
    trace = sample_trace(image_id=image_id, candidates=tuple(candidates), adopted=adopted)
    assert parse_trace(trace_json(trace)) == trace


@given(
    candidates=st.lists(CANDIDATES, max_size=30),
    adopted=st.lists(st.builds(TracedAdoption, image_id=IDS, score=SCORES), max_size=30),
    limit=st.integers(2_500, 6_000),
)
@settings(max_examples=50)
def test_a_large_trace_loses_its_last_candidates_and_adopted_images(
    candidates: list[TracedCandidate], adopted: list[TracedAdoption], limit: int
) -> None:
    trace = sample_trace(candidates=tuple(candidates), adopted=tuple(adopted))
    raw = trace_json(trace, limit)
    assert len(raw) <= limit
    kept = parse_trace(raw)
    assert list(kept.candidates) == candidates[: len(kept.candidates)]
    assert list(kept.adopted) == adopted[: len(kept.adopted)]
    assert kept.dropped_candidates == len(candidates) - len(kept.candidates)
    assert kept.dropped_adopted == len(adopted) - len(kept.adopted)
    assert replace(kept, candidates=(), adopted=(), dropped_candidates=0, dropped_adopted=0) == replace(
        trace, candidates=(), adopted=()
    )


def test_ten_thousand_candidates_with_the_longest_ids_fit() -> None:
    longest = "\x01" * 256
    one = TracedCandidate(longest, 2**62, 1024, 0.1, longest, 0.1, LossReason.HEAD_UNCODED, "below_adopt", 0.1)
    trace = sample_trace(image_id=longest, candidates=(one,) * 10_000, adopted=(TracedAdoption(longest, 0.1),) * 10_000)
    raw = trace_json(trace)
    assert 0.95 * LIMIT_BYTES < len(raw) <= LIMIT_BYTES
    kept = fitted(trace)
    assert kept.adopted
    assert kept.candidates
    assert kept == parse_trace(raw)


def test_a_trace_of_a_release_without_distances_is_read() -> None:
    fields = json.loads(trace_json(sample_trace()))
    del fields["gate"]
    for one in fields["candidates"]:
        del one["distance"]
    assert parse_trace(json.dumps(fields).encode()) == sample_trace()


def test_fields_and_words_of_a_later_release_are_no_trouble() -> None:
    fields = json.loads(trace_json(sample_trace()))
    fields["weather"] = "rain"
    fields["candidates"][0]["colour"] = 3
    fields["candidates"][0]["lost"] = fields["kind"] = "forbidden"
    read = parse_trace(json.dumps(fields).encode())
    assert read.kind == read.candidates[0].lost == "forbidden"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trace": 2}, "format 2, this release reads 1"),
        ({"version": "1"}, "version: Input should be a valid integer"),
        ({"candidates": [{"image_id": "a"}]}, "candidates.0.place: Field required"),
        ({"steps": None}, "steps: "),
    ],
)
def test_what_is_no_trace_is_refused(changes: dict[str, object], message: str) -> None:
    fields = json.loads(trace_json(sample_trace())) | changes
    with pytest.raises(BadInputError, match=message):
        parse_trace(json.dumps(fields).encode())


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b"\xff", b'{"settlement": "replayed"}'])
def test_other_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(BadInputError, match="not a trace"):
        parse_trace(raw)


def test_scores_are_written_with_the_fewest_digits() -> None:
    score = float(np.float32(0.93))
    raw = trace_json(sample_trace(choice=Choice("a", None, "b", score, score, Why.MATCHED)))
    assert b'"score":0.93,"head_score":0.93,' in raw


def test_terms_are_told_by_count_and_fingerprint() -> None:
    one, other = np.arange(128, dtype="<u4"), np.arange(1, 129, dtype="<u4")
    told = traced_terms(one.tobytes())
    assert told is not None
    assert told.count == 128
    assert told == traced_terms(one.copy().tobytes())
    assert told != traced_terms(other.tobytes())
    assert traced_terms(b"") is None


def test_each_reason_has_a_sentence() -> None:
    for word in (*Why, *LossReason):
        assert word.text[0].islower()
        assert not word.text.endswith(".")


def test_a_trace_keeps_what_it_does_not_have() -> None:
    bare = Trace(
        kind="image", image_id="", version=0, position=4, place=-1, outcome="unreadable", cause=None, reason="unscored"
    )
    fields = json.loads(trace_json(bare))
    assert fields["choice"] is fields["writes"] is fields["terms"] is None
    assert fields["candidates"] == fields["steps"] == []
    assert parse_trace(trace_json(bare)) == bare
