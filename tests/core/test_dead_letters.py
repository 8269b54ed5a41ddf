"""A dead letter can be read back, and replayed unless it was cut."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.dead_letters import (
    PAYLOAD_LIMIT_BYTES,
    BadRecord,
    DeadLetter,
    Provenance,
    Reason,
    dead_letter,
    parse_dead_letter,
)
from core.errors import BadInputError

SOURCE = Provenance("embeddings.search", 1, 42, 1_700_000_000_000)
BAD = BadRecord(Reason.ALL_ZERO, "all 16 numbers are zero")


def test_fields() -> None:
    assert json.loads(dead_letter(BAD, SOURCE, b"\x00\xff")) == {
        "reason": "all_zero",
        "detail": "all 16 numbers are zero",
        "topic": "embeddings.search",
        "partition": 1,
        "offset": 42,
        "timestamp_ms": 1_700_000_000_000,
        "payload": "AP8=",
        "payload_bytes": 2,
        "truncated": False,
    }


@given(
    reason=st.sampled_from(Reason),
    detail=st.text(),
    topic=st.text(),
    numbers=st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1), st.integers(-(2**63), 2**63 - 1)),
    payload=st.binary(max_size=200),
)
def test_round_trip(reason: Reason, detail: str, topic: str, numbers: tuple[int, int, int], payload: bytes) -> None:
    source = Provenance(topic, *numbers)

    parsed = parse_dead_letter(dead_letter(BadRecord(reason, detail), source, payload))

    assert parsed == DeadLetter(reason, detail, source, payload, len(payload), truncated=False)


@pytest.mark.parametrize(("length", "kept"), [(PAYLOAD_LIMIT_BYTES, PAYLOAD_LIMIT_BYTES), (65_537, 65_536)])
def test_payload_is_whole_up_to_the_limit(length: int, kept: int) -> None:
    parsed = parse_dead_letter(dead_letter(BAD, SOURCE, b"x" * length))

    assert len(parsed.payload) == kept
    assert parsed.payload_bytes == length
    assert parsed.truncated == (kept < length)


def test_a_record_that_was_valid_stays_whole() -> None:
    payload = b"x" * 200_000
    assert parse_dead_letter(dead_letter(BAD, SOURCE, payload, limit_bytes=None)).payload == payload


def test_tombstone() -> None:
    parsed = parse_dead_letter(dead_letter(BAD, SOURCE, None))
    assert (parsed.payload, parsed.payload_bytes, parsed.truncated) == (b"", 0, False)


@pytest.mark.parametrize(
    "change",
    [
        {"reason": "bad_mood"},
        {"reason": 5},
        {"payload": "no base64!"},
        {"payload": "é"},
        {"payload_bytes": 1},
        {"payload_bytes": 3},
        {"payload_bytes": "2"},
        {"payload_bytes": True},
        {"truncated": 0},
        {"truncated": True},
        {"offset": None},
        {"topic": 7},
    ],
)
def test_changed_letters_are_refused(change: dict[str, object]) -> None:
    fields = json.loads(dead_letter(BAD, SOURCE, b"\x00\xff"))

    with pytest.raises(BadInputError):
        parse_dead_letter(json.dumps({**fields, **change}).encode())


@pytest.mark.parametrize("missing", ["reason", "detail", "topic", "partition", "offset", "payload", "truncated"])
def test_missing_fields_are_refused(missing: str) -> None:
    fields = json.loads(dead_letter(BAD, SOURCE, b"\x00\xff"))
    del fields[missing]

    with pytest.raises(BadInputError, match=missing):
        parse_dead_letter(json.dumps(fields).encode())


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b"{}", b"\xff\xfe", b"[" * 100_000])
def test_other_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(BadInputError):
        parse_dead_letter(raw)


@given(st.binary(max_size=100))
def test_parsing_raises_nothing_else(raw: bytes) -> None:
    with pytest.raises(BadInputError):
        parse_dead_letter(raw)
