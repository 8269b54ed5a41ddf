"""Tokens come back for their own cluster and for no other."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import BadInputError
from core.types import ImageId
from storage.tokens import decode_token, encode_token

heads = st.text(min_size=1, max_size=20).map(ImageId)
sequences = st.integers(0, 2**64 - 1)


@given(heads, sequences)
def test_a_token_comes_back(head: ImageId, sequence: int) -> None:
    token = encode_token(head, sequence)
    assert decode_token(head, token) == sequence
    assert token.isascii()
    assert not set(token) & set("+/=&?# ")


@given(heads, heads, sequences)
def test_a_token_is_good_for_one_cluster(head: ImageId, other: ImageId, sequence: int) -> None:
    if head != other:
        with pytest.raises(BadInputError, match="not a page token"):
            decode_token(other, encode_token(head, sequence))


@given(heads, st.text(max_size=30))
def test_any_other_text_is_refused(head: ImageId, text: str) -> None:
    with pytest.raises(BadInputError, match="not a page token"):
        decode_token(head, text)


@given(heads, sequences, st.integers(0, 12), st.integers(1, 255))
def test_a_changed_token_is_refused(head: ImageId, sequence: int, at: int, flip: int) -> None:
    token = encode_token(head, sequence)
    packed = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    packed[at] ^= flip
    changed = base64.urlsafe_b64encode(packed).decode().rstrip("=")
    with pytest.raises(BadInputError, match="not a page token"):
        decode_token(head, changed)
