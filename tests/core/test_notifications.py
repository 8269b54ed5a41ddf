"""Every bad record becomes a value with its reason; every good one comes out as it went in; nothing raises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.dead_letters import BadRecord, Provenance, Reason
from core.errors import BadInputError
from core.notifications import (
    LATEST_TIME_MS,
    MAX_PAYLOAD_BYTES,
    MAX_WORDS_BYTES,
    RECORD_KINDS,
    EmbeddingSpec,
    Half,
    decode,
    decode_joined,
    encode_member,
    image_id,
    image_id_of,
    joined_record,
    placed_image,
)
from core.protos.joined_pb2 import (
    HalfOrigin,
    JoinedDelete,
    JoinedImage,
    JoinedMember,
    JoinedRecord,
    JoinedReplay,
    Origin,
)
from neardup.events_pb2 import FLOAT16, FLOAT32
from tests.support.events import (
    SCORE_SPEC,
    SEARCH_SPEC,
    BadPayload,
    bad_payloads,
    half,
    joined,
    notification,
    vector_bytes,
)

FIRST, SECOND = Provenance("search", 1, 20, 900), Provenance("score", 2, 30, 800)

BAD = bad_payloads(SEARCH_SPEC, MAX_PAYLOAD_BYTES)


@pytest.mark.parametrize("bad", BAD, ids=[bad.name for bad in BAD])
def test_bad_notification_has_its_reason(bad: BadPayload) -> None:
    decoded = decode(bad.payload, SEARCH_SPEC)

    assert isinstance(decoded, BadRecord)
    assert decoded.reason is bad.reason
    assert decoded.detail


def test_every_reason_of_decoding_has_an_example() -> None:
    later = {
        Reason.DEGENERATE,
        Reason.UNUSUAL_NORM,
        Reason.VERSION_TOO_HIGH,
        Reason.UNKNOWN_RECORD,
        Reason.MISSING_SEARCH_HALF,
        Reason.MISSING_SCORE_HALF,
        Reason.TOO_MANY_VERSIONS,
        Reason.REFUSED,
        Reason.FAULTED,
        Reason.LOST,
    }
    assert {bad.reason for bad in BAD} == set(Reason) - later
    assert len(set(Reason) - later) >= 12


@pytest.mark.parametrize(
    ("fields", "found", "expected"),
    [
        ({"embedding": "other-net"}, "other-net", "search-net"),
        ({"model_version": "2.0"}, "2.0", "'1'"),
        ({"vector": b"1234"}, "4 bytes", "32"),
    ],
)
def test_detail_names_what_was_found_and_expected(fields: dict[str, object], found: str, expected: str) -> None:
    decoded = decode(notification(SEARCH_SPEC, **fields), SEARCH_SPEC)

    assert isinstance(decoded, BadRecord)
    assert found in decoded.detail
    assert expected in decoded.detail


def test_detail_stays_short_and_printable() -> None:
    decoded = decode(notification(SEARCH_SPEC, embedding="\n\x00" * 50_000), SEARCH_SPEC)

    assert isinstance(decoded, BadRecord)
    assert len(decoded.detail) < 250
    assert decoded.detail.isprintable()


def test_position_of_a_bad_number_is_named() -> None:
    values = np.ones(SEARCH_SPEC.dimension, "<f4")
    values[11] = np.inf
    decoded = decode(notification(SEARCH_SPEC, element_type=FLOAT32, vector=values.tobytes()), SEARCH_SPEC)

    assert decoded == BadRecord(Reason.INFINITE, "vector[11] is infinite")


def test_tombstone_is_an_empty_record() -> None:
    decoded = decode(None, SEARCH_SPEC)
    assert isinstance(decoded, BadRecord)
    assert decoded.reason is Reason.EMPTY_PAYLOAD
    joined_decoded = decode_joined(None)
    assert isinstance(joined_decoded, BadRecord)
    assert joined_decoded.reason is Reason.EMPTY_PAYLOAD


@given(
    text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64),
    version=st.integers(0, 2**64 - 1),
    seed=st.integers(0, 99),
    created=st.integers(0, LATEST_TIME_MS),
    trace=st.booleans(),
    element_type=st.sampled_from([FLOAT16, FLOAT32]),
)
def test_good_notification_comes_out_as_it_went_in(
    text: str, version: int, seed: int, created: int, trace: bool, element_type: int
) -> None:
    vector = vector_bytes(SEARCH_SPEC, seed, element_type)  # type: ignore[arg-type]
    payload = notification(
        SEARCH_SPEC, text, version, vector=vector, element_type=element_type, created_at_ms=created, trace=trace
    )

    assert decode(payload, SEARCH_SPEC) == Half(image_id(text), version, element_type, vector, created, trace)


@given(st.binary(max_size=300))
def test_no_bytes_raise(data: bytes) -> None:
    assert isinstance(decode(data, SEARCH_SPEC), Half | BadRecord)
    assert isinstance(decode_joined(data), JoinedImage | BadRecord)


@given(cut=st.integers(0, 200), at=st.integers(0, 200), flip=st.integers(0, 255))
def test_no_damage_raises(cut: int, at: int, flip: int) -> None:
    for payload in (notification(SEARCH_SPEC), joined()):
        damaged = bytearray(payload)
        damaged[at % len(damaged)] ^= flip
        damaged = damaged[: len(damaged) - cut % len(damaged)]
        assert isinstance(decode(bytes(damaged), SEARCH_SPEC), Half | BadRecord)
        assert isinstance(decode_joined(bytes(damaged)), JoinedImage | BadRecord)


@given(st.lists(st.floats(width=16), min_size=4, max_size=4))
def test_a_vector_passes_only_if_finite_and_not_zero(numbers: list[float]) -> None:
    spec = EmbeddingSpec("net", "1", 4)
    decoded = decode(notification(spec, vector=np.array(numbers, "<f2").tobytes()), spec)

    sound = all(np.isfinite(number) for number in numbers) and any(numbers)
    assert isinstance(decoded, Half if sound else BadRecord)


@pytest.mark.parametrize("text", ["", "i" * 257, "é" * 129, "\ud800"])
def test_image_id_refuses(text: str) -> None:
    with pytest.raises(BadInputError):
        image_id(text)


@pytest.mark.parametrize("text", ["i", "i" * 256, "é" * 128, "a/b?c#d e"])
def test_image_id_takes(text: str) -> None:
    assert image_id(text) == text


def test_joined_record_carries_both_halves() -> None:
    search = half(SEARCH_SPEC, "a", 3, created_at_ms=500, trace=True)
    score = half(SCORE_SPEC, "a", 3, created_at_ms=400)

    image = decode_joined(joined_record(search, score, FIRST, SECOND))

    assert image == JoinedImage(
        image_id="a",
        image_version=3,
        search_type=FLOAT16,
        search_vector=search.vector,
        score_type=FLOAT16,
        score_vector=score.vector,
        created_at_ms=400,
        arrived_at_ms=900,
        trace=True,
        search_origin=HalfOrigin(partition=1, offset=20, arrived_at_ms=900),
        score_origin=HalfOrigin(partition=2, offset=30, arrived_at_ms=800),
    )


@pytest.mark.parametrize(("one", "other", "created"), [(0, 0, 0), (0, 7, 7), (9, 0, 9), (9, 7, 7)])
def test_creation_is_the_earliest_time_that_a_half_tells(one: int, other: int, created: int) -> None:
    search, score = half(SEARCH_SPEC, created_at_ms=one), half(SCORE_SPEC, created_at_ms=other)

    image = decode_joined(joined_record(search, score, FIRST, SECOND))

    assert isinstance(image, JoinedImage)
    assert image.created_at_ms == created


def test_joined_record_is_the_same_bytes_each_time() -> None:
    assert len({joined("a", 2, seed=5) for _ in range(5)}) == 1


@pytest.mark.parametrize(("image", "version"), [("b", 1), ("a", 2)])
def test_halves_of_different_image_versions_are_not_joined(image: str, version: int) -> None:
    with pytest.raises(BadInputError, match="cannot be joined"):
        joined_record(half(SEARCH_SPEC, "a", 1), half(SCORE_SPEC, image, version), FIRST, SECOND)


def _joined_with(**fields: object) -> bytes:
    image = decode_joined(joined())
    assert isinstance(image, JoinedImage)
    for name, value in fields.items():
        setattr(image, name, value)
    return JoinedRecord(image=image).SerializeToString()


def _deletes(**fields: Any) -> bytes:
    return JoinedRecord(delete=JoinedDelete(**{"image_id": "a", **fields})).SerializeToString()


def _replays(**fields: Any) -> bytes:
    return JoinedRecord(replay=JoinedReplay(**{"image_id": "a", **fields})).SerializeToString()


def _member(**fields: Any) -> JoinedMember:
    image = JoinedImage(image_id="a", image_version=2, search_vector=b"1", score_vector=b"2", arrived_at_ms=4)
    return JoinedMember(**{"image": image, "head": "h", "manifest_id": "0f" * 16, **fields})


def _members(**fields: Any) -> bytes:
    return JoinedRecord(member=_member(**fields)).SerializeToString()


def test_the_kinds_are_those_of_the_record() -> None:
    assert tuple(field.name for field in JoinedRecord.DESCRIPTOR.fields) == RECORD_KINDS


def test_deletes_and_replays_are_read() -> None:
    origin = Origin(topic_id="topic", partition=0, offset=7, request_id="request")
    delete = JoinedDelete(image_id="a", image_version=3, author="me", reason="takedown", requested_at_ms=5)
    image = decode_joined(joined("a"))
    assert isinstance(image, JoinedImage)
    replay = JoinedReplay(origin=origin, image_id="a", force=True, requested_at_ms=5, image=image)
    assert decode_joined(JoinedRecord(delete=delete).SerializeToString()) == delete
    assert decode_joined(JoinedRecord(replay=replay).SerializeToString()) == replay
    assert [image_id_of(each) for each in (image, delete, replay)] == ["a", "a", "a"]
    assert [placed_image(each) for each in (image, delete, replay)] == [image, None, None]


@pytest.mark.parametrize("more", [{}, {"score": 0.0}, {"score": 1.0, "matched": "m", "model_version": "7", "row": 9}])
def test_rows_of_manifests_are_written_and_read(more: dict[str, Any]) -> None:
    member = _member(**more)
    assert decode_joined(encode_member(member)) == member
    assert encode_member(member) == encode_member(_member(**more))
    assert image_id_of(member) == "a"
    assert placed_image(member) == member.image


@pytest.mark.parametrize(
    ("wrong", "detail"),
    [
        ({"row": -1}, "row -1"),
        ({"head": ""}, "id of the head is empty"),
        ({"manifest_id": "0F" * 16}, "no id of a manifest"),
        ({"image": JoinedImage(image_id="a", search_vector=bytes(1_048_576))}, "the limit is"),
    ],
)
def test_a_row_that_nobody_would_read_is_not_written(wrong: dict[str, Any], detail: str) -> None:
    with pytest.raises(BadInputError, match=detail):
        encode_member(_member(**wrong))


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", Reason.EMPTY_PAYLOAD),
        (b"\xff\xff", Reason.UNPARSABLE),
        (b"\x2a\x00", Reason.UNKNOWN_RECORD),
        (joined() + b"\x12\x80\x80\x40" + bytes(1_048_576), Reason.OVERSIZED_PAYLOAD),
        (_joined_with(image_id=""), Reason.MISSING_ID),
        (_joined_with(created_at_ms=-5), Reason.NEGATIVE_TIME),
        (_joined_with(arrived_at_ms=LATEST_TIME_MS + 1), Reason.TIME_TOO_LATE),
        (_deletes(image_id=""), Reason.MISSING_ID),
        (_deletes(requested_at_ms=-1), Reason.NEGATIVE_TIME),
        (_deletes(author="a" * (MAX_WORDS_BYTES + 1)), Reason.UNPARSABLE),
        (_deletes(reason="a" * (MAX_WORDS_BYTES + 1)), Reason.UNPARSABLE),
        (_replays(image_id="a" * 257), Reason.ID_TOO_LONG),
        (_replays(requested_at_ms=LATEST_TIME_MS + 1), Reason.TIME_TOO_LATE),
        (_replays(model_version="a" * (MAX_WORDS_BYTES + 1)), Reason.UNPARSABLE),
        (_replays(origin=Origin(topic_id="a" * (MAX_WORDS_BYTES + 1))), Reason.UNPARSABLE),
        (_replays(origin=Origin(topic_id="topic", offset=-1)), Reason.UNPARSABLE),
        (_replays(origin=Origin(topic_id="topic", partition=-1)), Reason.UNPARSABLE),
        (_replays(image=JoinedImage(image_id="another")), Reason.UNPARSABLE),
        (_replays(image=JoinedImage(image_id="a", created_at_ms=-1)), Reason.NEGATIVE_TIME),
        (_members(image=JoinedImage()), Reason.MISSING_ID),
        (_members(image=JoinedImage(image_id="a", arrived_at_ms=-1)), Reason.NEGATIVE_TIME),
        (_members(head=""), Reason.MISSING_ID),
        (_members(head="a" * 257), Reason.ID_TOO_LONG),
        (_members(matched="a" * 257), Reason.ID_TOO_LONG),
        (_members(manifest_id=""), Reason.UNPARSABLE),
        (_members(manifest_id="0f" * 17), Reason.UNPARSABLE),
        (_members(row=-1), Reason.UNPARSABLE),
        (_members(score=1.25), Reason.UNPARSABLE),
        (_members(score=-0.5), Reason.UNPARSABLE),
        (_members(score=float("nan")), Reason.UNPARSABLE),
        (_members(model_version="a" * (MAX_WORDS_BYTES + 1)), Reason.UNPARSABLE),
    ],
)
def test_bad_joined_record_has_its_reason(payload: bytes, reason: Reason) -> None:
    decoded = decode_joined(payload)

    assert isinstance(decoded, BadRecord)
    assert decoded.reason is reason
