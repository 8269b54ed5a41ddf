"""The join's state survives its bytes; damaged bytes are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.dead_letters import Provenance
from core.errors import BadInputError
from operators.pairing import ArrivedHalf, PairingState, Side, Waiting
from operators.pairing_codec import decode_half, decode_state, encode_half, encode_state
from operators.sealed_state import StateDamagedError, seal
from tests.support.events import arrived

U64, I64, I32 = st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**31 - 1)
SOURCES = st.builds(Provenance, st.text(max_size=20), I32, I64, I64)
HALVES = st.builds(ArrivedHalf, st.sampled_from(Side), U64, SOURCES, st.binary(), st.binary(max_size=55))
WAITING = st.builds(Waiting, HALVES, I64)
STATES = st.builds(
    PairingState,
    st.lists(WAITING, max_size=4).map(tuple),
    st.lists(st.tuples(U64, I64), max_size=4).map(tuple),
)
STATE = PairingState((Waiting(arrived(Side.SEARCH, 3), 70),), ((1, 50), (2, 60)))


@given(HALVES)
def test_a_half_survives_its_bytes(half: ArrivedHalf) -> None:
    assert decode_half(encode_half(half)) == half


@pytest.mark.parametrize("length", range(len(encode_half(STATE.waiting[0].half)) - len(b"search-3")))
def test_a_truncated_half_is_refused(length: int) -> None:
    with pytest.raises(BadInputError, match="damaged"):
        decode_half(encode_half(STATE.waiting[0].half)[:length])


@given(STATES)
def test_round_trip(state: PairingState) -> None:
    assert decode_state(encode_state(state)) == state


def test_layout_is_stable() -> None:
    assert encode_state(STATE)[:-4].hex() == (
        "03" "0002" "0001"
        "0000000000000001" "0000000000000032"
        "0000000000000002" "000000000000003c"
        "0000000000000046" "00000039"
        "00" "0000000000000003" "0000000000000000" "00000000" "0000000000000000" "0011" "00"
    ) + b"embeddings.searchsearch-3".hex()  # fmt: skip


@pytest.mark.parametrize("length", range(len(encode_state(STATE))))
def test_truncated_bytes_are_refused(length: int) -> None:
    with pytest.raises(StateDamagedError, match="the join's state of an image is damaged"):
        decode_state(encode_state(STATE)[:length])


def test_bytes_too_many_are_refused() -> None:
    with pytest.raises(StateDamagedError, match="damaged"):
        decode_state(encode_state(STATE) + b"\x00")


@given(STATES, st.data())
def test_a_changed_byte_is_refused_and_says_what_to_do(state: PairingState, data: st.DataObject) -> None:
    sealed = bytearray(encode_state(state))
    at = data.draw(st.integers(0, len(sealed) - 1))
    sealed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(StateDamagedError, match="from an older snapshot"):
        decode_state(bytes(sealed))


def test_another_format_is_refused_with_both_numbers() -> None:
    with pytest.raises(StateDamagedError, match="format 2, this version reads format 3"):
        decode_state(seal(b"\x02" + encode_state(STATE)[1:-4]))


@given(st.binary(max_size=120))
def test_other_bytes_raise_nothing_else(data: bytes) -> None:
    for sealed in (data, b"\x03" + data, seal(b"\x03" + data)):
        try:
            decode_state(sealed)
        except StateDamagedError:
            continue
