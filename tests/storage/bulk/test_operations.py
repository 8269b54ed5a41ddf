"""How far a bulk move is, as the store keeps it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.bulk.operations import Operation, OperationState, decode_operation, encode_operation
from storage.errors import CorruptedError

numbers = st.integers(0, 2**63 - 1)
operations = st.builds(
    Operation, numbers, st.sampled_from(OperationState), numbers, numbers, numbers, numbers, *[st.none() | numbers] * 3
)


@given(operations)
def test_operations_come_back(operation: Operation) -> None:
    assert decode_operation(encode_operation(operation)) == operation


@pytest.mark.parametrize("value", [b"", b"[]", b'{"number": 1}', b"\xff"])
def test_damage_is_told(value: bytes) -> None:
    with pytest.raises(CorruptedError, match="a bulk move is damaged"):
        decode_operation(value)
