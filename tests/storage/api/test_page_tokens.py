"""A page token comes back for its own signal, and another one refuses it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import BadInputError
from core.types import ImageId
from storage.api.page_tokens import OtherSignalError, PageTokens
from storage.tokens import encode_token

signals = st.from_regex(r"[a-z][a-z0-9-]{0,5}", fullmatch=True)
tokens = st.integers(0, 2**64 - 1).map(lambda sequence: encode_token(ImageId("a"), sequence))


@given(signals, signals, tokens)
def test_a_token_is_good_for_one_signal(signal: str, other: str, token: str) -> None:
    given_token = PageTokens(signal).given(token)
    assert given_token is not None
    assert len(given_token) <= 200
    assert PageTokens(signal).taken(given_token) == token
    if other != signal:
        with pytest.raises(OtherSignalError, match="begin at the first page") as refusal:
            PageTokens(other).taken(given_token)
        assert refusal.value.signal == other


@given(tokens)
def test_a_token_without_a_signal_is_none(token: str) -> None:
    with pytest.raises(BadInputError, match="no page token"):
        PageTokens("photos").taken(token)
    bare = PageTokens("")
    assert bare.taken(bare.given(token)) == token


def test_the_last_page_has_none() -> None:
    assert PageTokens("photos").given(None) is None
    assert PageTokens("photos").taken(None) is None
