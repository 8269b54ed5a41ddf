"""The bytes of the index log: there and back, every damage seen, other formats refused."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from core.errors import MismatchError
from core.types import ImageId
from search.index.codec import AppliedBatch, Effect, Hidden, decode_frame, encode_frame
from search.index.errors import IndexDamagedError
from search.index.frames import HEADER_BYTES, find_intact_frame, is_intact, kind_and_payload


@st.composite
def batches(draw: st.DrawFn) -> AppliedBatch:
    effects = draw(st.lists(st.sampled_from(list(Effect)), min_size=1, max_size=6))
    groups, code_bytes = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    inserts = effects.count(Effect.INSERTED)
    largest = draw(st.sampled_from([255, 256, 65_535, 65_536, 2**24 - 1]))
    term = st.integers(0, largest)
    placed = [effect is not Effect.PASSED for effect in effects]
    number = st.integers(0, 2**32 - 1)
    return AppliedBatch(
        log_id=draw(st.text(min_size=1, max_size=20)),
        first_offset=draw(st.integers(0, 2**62)),
        effects=np.array(effects, np.uint8),
        checksums=np.array([draw(number) for _ in effects], np.uint32),
        versions=np.array([draw(st.integers(0, 2**64 - 1)) if one else 0 for one in placed], np.uint64),
        image_ids=tuple(ImageId(draw(st.text(min_size=1, max_size=30)) if one else "") for one in placed),
        terms=np.array(draw(st.lists(term, min_size=inserts * groups, max_size=inserts * groups)), np.uint32).reshape(
            -1, groups
        ),
        codes=np.frombuffer(
            draw(st.binary(min_size=inserts * code_bytes, max_size=inserts * code_bytes)), np.uint8
        ).reshape(-1, code_bytes),
    )


@given(batches())
def test_batches_come_back(batch: AppliedBatch) -> None:
    frame = encode_frame(batch)
    assert is_intact(frame)
    again = decode_frame(frame)
    assert isinstance(again, AppliedBatch)
    assert (again.log_id, again.first_offset, again.image_ids) == (batch.log_id, batch.first_offset, batch.image_ids)
    for name in ("effects", "checksums", "versions", "terms", "codes"):
        there, back = getattr(batch, name), getattr(again, name)
        assert there.dtype == back.dtype
        assert np.array_equal(there, back), name
        assert there.shape == back.shape


PLACES = st.integers(0, 2**63 - 1)


@given(st.lists(PLACES, min_size=1).map(tuple), PLACES)
def test_hides_come_back(places: tuple[int, ...], hidden_from: int) -> None:
    assert decode_frame(encode_frame(Hidden(places, hidden_from))) == Hidden(places, hidden_from)


@given(batches(), st.data())
def test_any_changed_bit_is_seen(batch: AppliedBatch, data: st.DataObject) -> None:
    frame = bytearray(encode_frame(batch))
    bit = data.draw(st.integers(0, 8 * len(frame) - 1))
    frame[bit // 8] ^= 1 << bit % 8
    assert not is_intact(bytes(frame))


@given(st.binary(max_size=60), batches(), st.binary(max_size=60))
def test_an_intact_frame_is_found_in_rubbish(before: bytes, batch: AppliedBatch, behind: bytes) -> None:
    frame = encode_frame(batch)
    assert find_intact_frame(before + frame + behind, 0) == len(before)
    assert find_intact_frame(before + frame[:-1], 0) is None


@given(st.binary(max_size=200))
def test_rubbish_is_no_frame(data: bytes) -> None:
    assert not is_intact(data)
    assert find_intact_frame(data, 0) is None


def frame_with(payload: bytes, kind: int = 1, version: int = 1) -> bytes:
    header = struct.pack("<4sHHI", b"NDLG", version, kind, len(payload))
    return header + struct.pack("<I", crc32c(payload, crc32c(header))) + payload


def test_another_format_is_refused() -> None:
    with pytest.raises(MismatchError, match="format 3"):
        decode_frame(frame_with(bytes(16), version=3))


@given(batches())
def test_frames_of_the_first_format_are_read(batch: AppliedBatch) -> None:
    first = frame_with(bytes(kind_and_payload(encode_frame(batch))[1]))
    assert is_intact(first)
    again = decode_frame(first)
    assert isinstance(again, AppliedBatch)
    assert again.image_ids == batch.image_ids
    assert again.codes.tobytes() == batch.codes.tobytes()


def test_intact_frames_without_sense_are_refused() -> None:
    payload = encode_frame(
        AppliedBatch(
            "log",
            0,
            np.array([Effect.INSERTED], np.uint8),
            np.array([1], np.uint32),
            np.array([1], np.uint64),
            (ImageId("a"),),
            np.array([[1, 2]], np.uint32),
            np.array([[3]], np.uint8),
        )
    )[HEADER_BYTES:]
    assert isinstance(decode_frame(frame_with(payload)), AppliedBatch)
    effect = payload.index(b"log") + 3
    for bad in (
        b"",
        payload[:-1],
        payload + b"\0",
        payload[:effect] + b"\x00" + payload[effect + 1 :],
        payload[:effect] + b"\x07" + payload[effect + 1 :],
        payload[:20] + b"\x03" + payload[21:],  # term bytes
    ):
        with pytest.raises(IndexDamagedError):
            decode_frame(frame_with(bad))
    with pytest.raises(IndexDamagedError, match="kind 9"):
        decode_frame(frame_with(payload, kind=9))
    for bad in (b"", b"123", bytes(8), bytes(17)):
        with pytest.raises(IndexDamagedError):
            decode_frame(frame_with(bad, kind=2))
