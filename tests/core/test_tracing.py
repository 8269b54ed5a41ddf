"""The trace context of a notification's headers: only its own form passes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.tracing import traceparent

VALID = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_valid_header_passes_unchanged() -> None:
    assert traceparent(VALID) == VALID


@pytest.mark.parametrize("header", [None, b"", VALID[:-1], VALID + b"\n", VALID.upper(), VALID.replace(b"-", b"_")])
def test_another_header_is_dropped(header: bytes | None) -> None:
    assert traceparent(header) == b""


@given(st.binary(max_size=70))
def test_what_passes_has_one_length(header: bytes) -> None:
    assert len(traceparent(header)) in (0, len(VALID))
