"""Tokens come back for their own listing and for no other."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import BadInputError
from core.types import ImageId
from storage.tokens import OtherIdError, decode_token, encode_token

heads = st.text(min_size=1, max_size=20).map(ImageId)
sequences = st.integers(0, 2**64 - 1)
orders = st.booleans()


@given(heads, sequences, orders)
def test_a_token_comes_back(head: ImageId, sequence: int, newest_first: bool) -> None:
    token = encode_token(head, sequence, newest_first=newest_first)
    assert decode_token(head, token, newest_first=newest_first) == sequence
    assert token.isascii()
    assert not set(token) & set("+/=&?# ")
    with pytest.raises(BadInputError, match="in this order"):
        decode_token(head, token, newest_first=not newest_first)


@given(heads, heads, sequences, orders)
def test_a_token_is_good_for_one_id(head: ImageId, other: ImageId, sequence: int, newest_first: bool) -> None:
    if head != other:
        with pytest.raises(OtherIdError, match="not a page token"):
            decode_token(other, encode_token(head, sequence), newest_first=newest_first)


@given(heads, st.text(max_size=30))
def test_any_other_text_is_refused(head: ImageId, text: str) -> None:
    with pytest.raises(BadInputError, match="not a page token") as refusal:
        decode_token(head, text)
    assert type(refusal.value) is BadInputError


@given(heads, sequences, st.integers(0, 17), st.integers(1, 255))
def test_a_changed_token_is_refused(head: ImageId, sequence: int, at: int, flip: int) -> None:
    token = encode_token(head, sequence)
    packed = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    packed[at] ^= flip
    changed = base64.urlsafe_b64encode(packed).decode().rstrip("=")
    with pytest.raises(BadInputError, match="not a page token") as refusal:
        decode_token(head, changed)
    assert type(refusal.value) is BadInputError
