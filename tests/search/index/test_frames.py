"""Frames with payloads that strangers choose: nothing within a frame is taken for a frame."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from search.index.errors import IndexDamagedError
from search.index.frame_log import FrameLog
from search.index.frames import HEADER_BYTES, MAGIC, encode_parts, find_intact_frame, is_intact, kind_and_payload


def first_format(payload: bytes, kind: int = 2) -> bytes:
    """A frame as the first format had it."""
    front = struct.pack("<4sHHI", MAGIC, 1, kind, len(payload))
    return front + struct.pack("<I", crc32c(payload, crc32c(front))) + payload


def second_format(payload: bytes, kind: int = 2) -> bytes:
    """A frame of the second format as an attacker makes it: correct, and not masked."""
    front = struct.pack("<4sHHIII", MAGIC, 2, kind, len(payload), 0, crc32c(payload))
    return front + struct.pack("<I", crc32c(front)) + payload


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """Arbitrary bytes, with whole frames of either format among them, and with the magic cut at any byte."""
    plain = st.binary(max_size=40)
    wrap: list[Callable[[bytes], bytes]] = [first_format, second_format, lambda inner: encode_parts(2, inner)]
    crafted = st.builds(lambda make, inner: make(inner), st.sampled_from(wrap), plain)
    nested = st.builds(lambda make, inner: make(inner), st.sampled_from(wrap), crafted)
    magic = st.integers(1, 4).map(lambda size: MAGIC[:size])
    return b"".join(draw(st.lists(plain | crafted | nested | magic, min_size=1, max_size=4)))


@given(payloads(), st.integers(0, 2**16 - 1))
def test_payloads_come_back_and_the_magic_is_at_the_start_alone(payload: bytes, kind: int) -> None:
    frame = encode_parts(kind, payload)
    found, again = kind_and_payload(frame)
    assert (found, bytes(again)) == (kind, payload)
    assert is_intact(frame)
    assert frame.count(MAGIC) == 1
    assert find_intact_frame(frame, 1) is None


def replayed(content: bytes) -> tuple[list[bytes], bytes]:
    """The frames of a log with this content, and what is left of it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        path.write_bytes(content)
        log = FrameLog(path, sync=False)
        try:
            return list(log.replay()), path.read_bytes()
        finally:
            log.close()


@settings(max_examples=40, deadline=None)
@given(st.lists(payloads(), min_size=1, max_size=2), payloads())
def test_a_frame_torn_at_any_byte_is_cut_off(before: list[bytes], last: bytes) -> None:
    whole = [encode_parts(2, payload) for payload in before]
    acknowledged, torn = b"".join(whole), encode_parts(2, last)
    for kept in range(1, len(torn)):
        for ahead in (b"", bytes(50)):  # with and without the zeros that were written ahead
            if ahead and not any(torn[kept:]):
                continue  # a random mask may make the last bytes zeros; then nothing of the frame is missing
            assert replayed(acknowledged + torn[:kept] + ahead) == (whole, acknowledged)


@settings(max_examples=40, deadline=None)
@given(payloads(), st.data())
def test_a_frame_whose_beginning_never_reached_the_disk_is_cut_off(last: bytes, data: st.DataObject) -> None:
    whole, torn = [encode_parts(2, b"acknowledged")], encode_parts(2, last)
    lost = data.draw(st.integers(1, len(torn)))
    content = whole[0] + bytes(lost) + torn[lost:]
    frames, left = replayed(content)
    assert frames == whole
    assert left == (content if not any(torn[lost:]) else whole[0])


@settings(max_examples=40, deadline=None)
@given(payloads(), payloads(), st.data())
def test_damage_with_a_frame_behind_it_is_refused(damaged: bytes, behind: bytes, data: st.DataObject) -> None:
    first, second = encode_parts(2, damaged), encode_parts(2, behind)
    bit = data.draw(st.integers(0, 8 * len(first) - 1))
    content = bytearray(first + second)
    content[bit // 8] ^= 1 << bit % 8
    with pytest.raises(IndexDamagedError, match=rf"at byte 0 \(intact again from byte {len(first)}\)"):
        replayed(bytes(content))


def test_frames_of_both_formats_follow_each_other() -> None:
    whole = [first_format(b"old"), first_format(b""), encode_parts(2, b"new"), encode_parts(2, MAGIC)]
    assert replayed(b"".join(whole))[0] == whole
    assert len(whole[2]) == HEADER_BYTES + 3
