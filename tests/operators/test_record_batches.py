"""The records of an element, as the operator in Java packs them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from operators.record_batches import NO_TIMESTAMP_MS, SourceRecord, unpack
from tests.support.record_batches import packed

I32 = st.integers(-(2**31), 2**31 - 1)
I64 = st.integers(-(2**63) + 1, 2**63 - 1)
RECORDS = st.lists(
    st.builds(SourceRecord, I64, I32, I64, st.binary(max_size=300), st.none() | st.binary(max_size=80)), max_size=20
)


@given(RECORDS)
def test_records_come_back_in_order(records: list[SourceRecord]) -> None:
    element = b"".join(
        packed(each.payload, each.offset, each.traceparent, each.timestamp_ms, each.partition) for each in records
    )
    assert list(unpack(element)) == records


def test_a_tombstone_has_no_bytes_and_a_missing_timestamp_is_zero() -> None:
    assert list(unpack(packed(None, 3))) == [SourceRecord(0, 1, 3, b"", None)]
    assert packed(None, 3).startswith(NO_TIMESTAMP_MS.to_bytes(8, "big", signed=True))
