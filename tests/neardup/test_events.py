"""Notifications as the service decodes them, and records of `assignments` as storage writes them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike

from core.notifications import EmbeddingSpec, Half, decode
from core.types import Cause, ImageId, Versions
from neardup.events import Assignment, ElementType, EmbeddingNotification, notification, record_headers, record_key
from storage.records import FirstLoad, HistoryEntry
from storage.serving.assignments import load_message, message_of
from storage.testing.decisions import EPOCH

SPEC = EmbeddingSpec("net", "2", 3)


def sent(vector: ArrayLike, image_id: str = "cat/ä", **fields: Any) -> bytes:
    return notification(image_id, vector, embedding="net", model_version="2", **fields)


@pytest.mark.parametrize(
    ("vector", "kind", "dtype"),
    [
        (np.array([1, -2, 0.5], np.float16), ElementType.FLOAT16, "<f2"),
        (np.array([1, -2, 0.5], ">f2"), ElementType.FLOAT16, "<f2"),
        (np.array([1, -2, 0.5], np.float32), ElementType.FLOAT32, "<f4"),
        (np.array([1, -2, 0.5], ">f4"), ElementType.FLOAT32, "<f4"),
        (np.array([1, -2, 0.5], np.float64), ElementType.FLOAT32, "<f4"),
        ([1, -2, 0.5], ElementType.FLOAT32, "<f4"),
    ],
)
def test_the_service_reads_what_was_sent(vector: ArrayLike, kind: int, dtype: str) -> None:
    half = decode(sent(vector, image_version=2**53 - 1, created_at_ms=5, trace=True), SPEC)
    wanted = np.array([1, -2, 0.5], dtype).tobytes()
    assert half == Half(ImageId("cat/ä"), 2**53 - 1, ElementType.ValueType(kind), wanted, 5, True)


def test_equal_arguments_give_equal_bytes() -> None:
    assert sent([1, 2, 3]) == sent(np.array([1, 2, 3], np.float32))


@pytest.mark.parametrize(
    ("image_id", "vector", "fields", "said"),
    [
        ("", [1.0], {}, "1 to 256 bytes"),
        ("ä" * 129, [1.0], {}, "has 258"),
        ("a", [], {}, "shape"),
        ("a", [[1.0]], {}, "shape"),
        ("a", [1.0], {"image_version": -1}, "0 to 9007199254740991"),
        ("a", [1.0], {"image_version": 2**53}, "0 to 9007199254740991"),
    ],
)
def test_what_cannot_be_sent_is_refused(image_id: str, vector: ArrayLike, fields: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        sent(vector, image_id, **fields)


def test_keys_and_headers() -> None:
    assert record_key("ä") == b"\xc3\xa4"
    assert dict(record_headers()) == {"content-type": b"application/x-protobuf", "schema-version": b"1"}
    assert dict(record_headers("00-ab-cd-01"))["traceparent"] == b"00-ab-cd-01"


def test_the_schema_version_is_that_of_the_proto() -> None:
    version = dict(record_headers())["schema-version"].decode()
    assert EmbeddingNotification.DESCRIPTOR.file.package == f"neardup.events.v{version}"


ENTRY = HistoryEntry(
    number=7,
    image_id=ImageId("cat-2"),
    old_head=ImageId("cat-2"),
    new_head=ImageId("cat-1"),
    cause=Cause.ADOPTED,
    score=0.75,
    matched=ImageId("cat-3"),
    place=1,
    offset=2,
    version=3,
    decided_at_ms=6,
    created_at_ms=4,
    arrived_at_ms=5,
    versions=Versions("m", "i"),
    truncated=True,
)


def test_a_record_of_assignments_is_read_whole() -> None:
    value = message_of(ENTRY, EPOCH).value
    assert asdict(Assignment.from_json(value)) == json.loads(value)


def test_the_record_of_a_first_load_is_read_whole() -> None:
    value = load_message(FirstLoad("4f0c", "s3://old", "a.json", 3, 3, 2, 1_000, 2_000), EPOCH).value
    assert asdict(Assignment.from_json(value)) == json.loads(value)


@pytest.mark.parametrize("truncated", [True, False])
def test_records_of_release_0_1_are_read(truncated: bool) -> None:
    older = json.loads(message_of(ENTRY, EPOCH).value)
    for name in ("truncated", "epoch", "store_id", "override", "load"):
        del older[name]
    read = Assignment.from_json(json.dumps({**older, "cut": truncated}))
    assert read.truncated is truncated
    assert read.order == (0, ENTRY.number) < Assignment.from_json(message_of(ENTRY, EPOCH).value).order


def test_new_keys_do_no_harm() -> None:
    value = message_of(ENTRY, EPOCH).value
    newer = json.dumps({**json.loads(value), "trigger": "replay"})
    assert Assignment.from_json(newer) == Assignment.from_json(value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"", "no record of assignments"),
        (b"[]", "no record of assignments"),
        (b"\xff", "no record of assignments"),
        (b"{}", "'history_number' is missing"),
        (json.dumps({**json.loads(message_of(ENTRY, EPOCH).value), "history_number": "x"}), "invalid literal"),
        (json.dumps({**json.loads(message_of(ENTRY, EPOCH).value), "versions": None}), "no record of assignments"),
    ],
)
def test_other_values_are_refused(value: bytes | str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Assignment.from_json(value)
