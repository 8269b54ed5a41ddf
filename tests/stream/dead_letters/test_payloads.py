"""Payloads are decoded as far as they go: whole, cut off anywhere, damaged, or of another message."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.dead_letters import BadRecord, DeadLetter, Provenance, Reason, dead_letter, parse_dead_letter
from core.protos.joined_pb2 import JoinedImage, JoinedRecord
from neardup.events_pb2 import FLOAT16, FLOAT32, EmbeddingNotification
from stream.dead_letters.payloads import DecodedPayload, decode_payload
from stream.dead_letters.wire import read_as_far_as_it_goes

VECTOR = np.arange(20, dtype="<f4")
WHOLE = EmbeddingNotification(
    image_id="cät",
    image_version=7,
    embedding="net",
    model_version="1",
    element_type=FLOAT32,
    vector=VECTOR.tobytes(),
    created_at_ms=5,
)


def dead(payload: bytes, topic: str = "search", limit: int | None = None) -> DeadLetter:
    return parse_dead_letter(
        dead_letter(BadRecord(Reason.UNPARSABLE, "why"), Provenance(topic, 0, 1, 2), payload, limit)
    )


def decoded(payload: bytes, topic: str = "search") -> DecodedPayload:
    return decode_payload(dead(payload, topic), ("search", "score"), "joined", "replay")


def test_a_whole_notification() -> None:
    found = decoded(WHOLE.SerializeToString())
    assert (found.form, found.problem) == ("EmbeddingNotification", "")
    vector = found.fields["vector"]
    assert {name: value for name, value in found.fields.items() if name != "vector"} == {
        "image_id": "cät",
        "image_version": 7,
        "embedding": "net",
        "model_version": "1",
        "element_type": "FLOAT32",
        "created_at_ms": 5,
    }
    assert (vector["elements"], vector["not_finite"], vector["min"], vector["max"]) == (20, 0, 0.0, 19.0)
    assert vector["norm"] == pytest.approx(math.sqrt(sum(n * n for n in range(20))), abs=1e-6)
    assert vector["first"] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]


def test_numbers_that_json_lacks_are_words() -> None:
    bad = EmbeddingNotification(element_type=FLOAT16, vector=np.array([1, np.nan, -np.inf], "<f2").tobytes())
    vector = decoded(bad.SerializeToString()).fields["vector"]
    assert (vector["not_finite"], vector["first"], vector["norm"]) == (2, [1.0, "nan", "-inf"], 1.0)


def test_a_cut_vector_shows_the_fields_before_it() -> None:
    raw = WHOLE.SerializeToString(deterministic=True)
    found = decoded(raw[: raw.index(VECTOR.tobytes()) + 8])
    assert (found.fields["image_id"], found.fields["image_version"]) == ("cät", 7)
    assert "vector has 80 bytes, of which 8 are there" in found.problem
    assert found.fields["rest"]["bytes"] == 8 + 2  # its tag and its length too


def test_a_record_of_the_order() -> None:
    image = JoinedImage(image_id="a", image_version=3, score_type=FLOAT16, score_vector=np.ones(4, "<f2").tobytes())
    found = decoded(JoinedRecord(image=image).SerializeToString(), "joined")
    assert (found.form, found.problem) == ("JoinedRecord", "")
    assert found.fields["image"]["image_id"] == "a"
    assert found.fields["image"]["score_vector"]["norm"] == 2.0


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (b"\x00\x00", "no field has the number 0"),
        (b"\x0b", "image_id has the wire type 3"),
        (b"\x08\x01", "image_id has the wire type 0, expected 2"),
        (b"\x10" + b"\xff" * 10, "a number is longer than 10 bytes"),
        (b"\x10\x80", "the bytes end within a number"),
        (b"not a message", "wire type"),
    ],
)
def test_bytes_that_are_no_message(payload: bytes, problem: str) -> None:
    found = decoded(payload)
    assert problem in found.problem
    assert found.fields["rest"]["first"] == payload[:32].hex()


def test_fields_that_this_release_does_not_know() -> None:
    found = decoded(WHOLE.SerializeToString() + b"\x98\x06\x05" + b"\xa2\x06\x02hi")
    assert (found.fields["field 99"], found.fields["field 100"]) == (5, {"bytes": 2, "first": b"hi".hex()})
    assert found.problem == ""


def test_a_record_of_a_topic_that_is_not_ours() -> None:
    found = decoded(b"x", "other")
    assert (found.form, found.fields) == ("bytes", {"bytes": 1, "first": "78"})
    assert decoded(b"").form == "nothing"


def test_a_request_to_decide_again() -> None:
    found = decoded(b'{"request": "r", "image_id": 3, "x": NaN}', "replay")
    assert (found.form, found.fields) == ("ReplayRequest", {"request": "r", "image_id": 3, "x": "NaN"})
    cut = decoded(b'{"request": "r", "ima\xff', "replay")
    assert cut.fields == {"bytes": 22, "begins": '{"request": "r", "ima\\xff'}
    assert cut.problem.startswith("no JSON")
    assert decoded(b"[]", "replay").problem == "no JSON object"


@given(data=st.binary(max_size=200) | st.integers(0, 200).map(lambda n: WHOLE.SerializeToString()[:n]))
def test_no_bytes_fail_and_all_is_json(data: bytes) -> None:
    for topic in ("search", "joined", "replay", "other"):
        found = decoded(data, topic).as_json()
        assert json.loads(json.dumps(found, allow_nan=False)) == found


numbers: dict[str, Any] = {
    "image_id": st.text(max_size=20),
    "image_version": st.integers(0, 2**64 - 1),
    "element_type": st.sampled_from([FLOAT16, FLOAT32]),
    "vector": st.binary(max_size=40),
    "created_at_ms": st.integers(-(2**63), 2**63 - 1),
    "trace": st.booleans(),
}


@given(st.fixed_dictionaries(numbers))
def test_what_protobuf_wrote_is_read(values: dict[str, Any]) -> None:
    found = read_as_far_as_it_goes(
        EmbeddingNotification(**values).SerializeToString(), EmbeddingNotification.DESCRIPTOR
    )
    names = {FLOAT16: "FLOAT16", FLOAT32: "FLOAT32"}
    expected = {name: names[value] if name == "element_type" else value for name, value in values.items() if value}
    assert (found.fields, found.problem) == (expected, "")
