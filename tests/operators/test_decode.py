"""Decoding of notifications on fake Flink: every record has one way out."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from core.dead_letters import Provenance, Reason, parse_dead_letter
from core.notifications import MAX_IMAGE_VERSION, MAX_PAYLOAD_BYTES, EmbeddingSpec
from core.vector_limits import MeasuredVectors, VectorLimits
from neardup.events_pb2 import FLOAT32
from operators.decode import DecodeFunction
from operators.pairing import ArrivedHalf, Side
from operators.pairing_codec import decode_half, encode_half
from tests.support.events import SEARCH_SPEC, BadPayload, bad_payloads, notification
from tests.support.fake_flink import Harness
from tests.support.record_batches import packed

LIMITS = VectorLimits(SEARCH_SPEC)

TOPIC = "embeddings.search"

BAD = bad_payloads(SEARCH_SPEC, MAX_PAYLOAD_BYTES)


TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def harness() -> Harness:
    return Harness(DecodeFunction(Side.SEARCH, TOPIC, LIMITS))


def test_a_good_notification_is_keyed_by_its_image() -> None:
    decode = harness()
    payload = notification(SEARCH_SPEC, "cat/1 é", MAX_IMAGE_VERSION)
    decode.send(packed(payload, timestamp_ms=5_000))
    source = Provenance("embeddings.search", 1, 7, 5_000)
    assert [tuple(row) for row in decode.main] == [
        ("cat/1 é", encode_half(ArrivedHalf(Side.SEARCH, MAX_IMAGE_VERSION, source, payload))),
    ]
    assert decode.context.metric("decoded_total") == 1
    assert decode.context.metric("norms_total{band=usual}") == 1


def test_the_trace_context_is_handed_on_with_halves_and_dead_letters() -> None:
    decode = harness()
    decode.send(packed(notification(SEARCH_SPEC), traceparent=TRACE))
    decode.send(packed(b"garbage", traceparent=TRACE))
    assert decode_half(decode.main[0][1]).traceparent == TRACE
    assert decode.side["dead-letters"][0][2] == TRACE


@pytest.mark.parametrize("header", [None, b"", TRACE + b"0", TRACE.upper(), b"\xff" * 55, bytes(100_000)])
def test_a_header_that_is_no_trace_context_is_dropped(header: bytes | None) -> None:
    decode = harness()
    decode.send(packed(notification(SEARCH_SPEC), traceparent=header))
    assert decode_half(decode.main[0][1]).traceparent == b""


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_a_bad_notification_goes_to_the_dead_letters_with_its_place(bad: BadPayload) -> None:
    decode = harness()
    decode.send(packed(bad.payload, 11, timestamp_ms=6_000))
    assert decode.main == []
    (row,) = decode.side["dead-letters"]
    dead_letter = parse_dead_letter(row[1])
    assert dead_letter.reason is bad.reason
    assert dead_letter.source == Provenance("embeddings.search", 1, 11, 6_000)
    assert bad.payload.startswith(dead_letter.payload)
    assert dead_letter.truncated == (len(dead_letter.payload) < len(bad.payload))
    assert decode.context.metric(f"bad_total{{reason={bad.reason}}}") == 1
    assert decode.context.metric("truncated_total") == dead_letter.truncated


def test_at_least_twelve_kinds_of_bad_records_are_told_apart() -> None:
    assert len({bad.reason for bad in BAD}) >= 12


def test_a_tombstone_without_a_timestamp_is_a_bad_record() -> None:
    decode = harness()
    decode.send(packed(None))
    (row,) = decode.side["dead-letters"]
    dead_letter = parse_dead_letter(row[1])
    assert dead_letter.reason is Reason.EMPTY_PAYLOAD
    assert dead_letter.source.timestamp_ms == 0


def test_survives_a_pickle_round_trip() -> None:
    again = Harness(pickle.loads(pickle.dumps(DecodeFunction(Side.SEARCH, TOPIC, LIMITS))))
    again.send(packed(notification(SEARCH_SPEC), timestamp_ms=1))
    assert len(again.main) == 1


def measured_limits(dimension: int) -> VectorLimits:
    """Of an embedding whose norms are 8 to 16, with a centre far away."""
    spread = np.array([8.0, 9.0, 12.0, 15.0, 16.0])
    measured = MeasuredVectors(np.full(dimension, 9.0, np.float32), spread, spread, spread / 2)
    return VectorLimits(EmbeddingSpec("net", "1", dimension), measured)


@pytest.mark.parametrize(
    ("scale", "reason"), [(50.0, Reason.UNUSUAL_NORM), (1e-30, Reason.DEGENERATE), (0.1, Reason.UNUSUAL_NORM)]
)
def test_a_vector_that_is_refused_stays_whole_in_its_dead_letter(scale: float, reason: Reason) -> None:
    limits = measured_limits(16_384)
    decode = Harness(DecodeFunction(Side.SEARCH, TOPIC, limits))
    vector = np.random.default_rng(6).standard_normal(16_384)
    vector *= 12.0 / np.linalg.norm(vector)
    good, bad = (
        notification(limits.spec, element_type=FLOAT32, vector=(vector * each).astype("<f4").tobytes())
        for each in (1.0, scale)
    )
    decode.send(packed(good, timestamp_ms=1))
    decode.send(packed(bad, timestamp_ms=2))
    assert len(decode.main) == 1
    (row,) = decode.side["dead-letters"]
    dead_letter = parse_dead_letter(row[1])
    assert dead_letter.reason is reason
    assert dead_letter.payload == bad
    assert not dead_letter.truncated
    assert decode.context.metric(f"bad_total{{reason={reason}}}") == 1


def test_norms_are_counted_by_their_band() -> None:
    limits = measured_limits(64)
    decode = Harness(DecodeFunction(Side.SEARCH, TOPIC, limits))
    vector = np.random.default_rng(7).standard_normal(64)
    for norm in (7.0, 12.0, 13.0, 20.0, 21.0, 22.0):
        scaled = (vector * (norm / np.linalg.norm(vector))).astype("<f4")
        decode.send(packed(notification(limits.spec, element_type=FLOAT32, vector=scaled.tobytes()), timestamp_ms=1))
    counts = {band: decode.context.metric(f"norms_total{{band={band}}}") for band in ("low", "usual", "high")}
    assert counts == {"low": 1, "usual": 2, "high": 3}


def test_the_records_of_a_batch_leave_in_order_and_a_bad_one_hinders_none() -> None:
    decode = harness()
    names = [f"image-{number}" for number in range(4)]
    records = [
        packed(notification(SEARCH_SPEC, name), offset, timestamp_ms=offset) for offset, name in enumerate(names)
    ]
    decode.send(b"".join([*records[:2], packed(b"garbage", 9), *records[2:]]))
    assert [row[0] for row in decode.main] == names
    assert [decode_half(row[1]).source.offset for row in decode.main] == [0, 1, 2, 3]
    assert len(decode.side["dead-letters"]) == 1
    assert decode.context.metric("decoded_total") == 4
    assert decode.context.metric("norms_total{band=usual}") == 4
