"""The policy of the entrance: what has the right form may still be refused, and only there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.dead_letters import BadRecord, Reason
from core.entrance import PADDING_BYTES, Admitted, admit
from core.notifications import MAX_IMAGE_VERSION, MAX_PAYLOAD_BYTES, Half, decode
from core.vector_limits import NormBand, VectorLimits
from tests.support.events import SEARCH_SPEC, BadPayload, bad_payloads, notification

LIMITS = VectorLimits(SEARCH_SPEC)

UNKNOWN_FIELD = b"\x9a\x06"
"""Field 99, with a length."""


def padded(padding: int, **fields: object) -> bytes:
    """A good notification with so many bytes of an unknown field, its tag and length included."""
    inner = padding - 4
    return notification(SEARCH_SPEC, **fields) + UNKNOWN_FIELD + bytes([inner & 0x7F | 0x80, inner >> 7]) + bytes(inner)


@given(version=st.integers(0, MAX_IMAGE_VERSION), image=st.text(st.characters(codec="utf-8"), min_size=1, max_size=60))
def test_a_good_notification_is_admitted_with_the_half_that_decode_gives(version: int, image: str) -> None:
    payload = notification(SEARCH_SPEC, image, version)
    assert admit(payload, LIMITS) == Admitted(_half(payload), NormBand.USUAL)


@pytest.mark.parametrize("bad", bad_payloads(SEARCH_SPEC, MAX_PAYLOAD_BYTES), ids=lambda bad: bad.name)
def test_what_decode_refuses_is_refused_with_its_reason(bad: BadPayload) -> None:
    assert admit(bad.payload, LIMITS) == decode(bad.payload, SEARCH_SPEC)


@pytest.mark.parametrize("version", [MAX_IMAGE_VERSION + 1, 2**63, 2**64 - 1])
def test_a_version_that_json_readers_would_round_is_refused(version: int) -> None:
    refused = admit(notification(SEARCH_SPEC, version=version), LIMITS)
    assert isinstance(refused, BadRecord)
    assert refused.reason is Reason.VERSION_TOO_HIGH
    assert str(version) in refused.detail
    assert str(2**53 - 1) in refused.detail


def test_fields_of_later_versions_are_admitted_and_padding_is_not() -> None:
    assert isinstance(admit(padded(PADDING_BYTES), LIMITS), Admitted)
    for padding in (2 * PADDING_BYTES, 16_000):
        refused = admit(padded(padding), LIMITS)
        assert isinstance(refused, BadRecord)
        assert refused.reason is Reason.OVERSIZED_PAYLOAD


def test_a_field_that_is_repeated_is_padding_too() -> None:
    payload = notification(SEARCH_SPEC)
    assert isinstance(decode(payload * 40, SEARCH_SPEC), Half)
    refused = admit(payload * 40, LIMITS)
    assert isinstance(refused, BadRecord)
    assert refused.reason is Reason.OVERSIZED_PAYLOAD


def test_long_ids_are_no_padding() -> None:
    assert isinstance(admit(padded(PADDING_BYTES, image_id="é" * 128), LIMITS), Admitted)


def test_what_was_accepted_before_is_still_decoded() -> None:
    """Halves that wait in the join, and records of the order, are not judged by the policy."""
    tiny = np.full(SEARCH_SPEC.dimension, 6e-8, "<f2").tobytes()
    for payload in (
        notification(SEARCH_SPEC, version=2**64 - 1),
        padded(16_000),
        notification(SEARCH_SPEC, vector=tiny),
    ):
        assert isinstance(admit(payload, LIMITS), BadRecord)
        assert isinstance(decode(payload, SEARCH_SPEC), Half)


@given(st.binary(max_size=300))
def test_no_bytes_raise(data: bytes) -> None:
    assert isinstance(admit(data, LIMITS), Admitted | BadRecord)


def _half(payload: bytes) -> Half:
    half = decode(payload, SEARCH_SPEC)
    assert isinstance(half, Half)
    return half
