"""What travels between the steps of the sequence: rows of batches, as records and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pyflink.common import Row

from operators.in_flight_pb2 import InFlight, InFlightBatch
from operators.rows import records

__all__ = ["batch", "handed_on"]


def batch(*one_by_one: bytes) -> bytes:
    """The batch of these serialised records."""
    return InFlightBatch(records=one_by_one).SerializeToString()


def handed_on(outputs: Iterable[Any]) -> list[InFlight]:
    """The records of all rows for the next step, in order; what goes aside is left out."""
    rows = [row for row in outputs if isinstance(row, Row)]
    assert all(row[0] == 0 for row in rows)
    return [InFlight.FromString(each) for row in rows for each in records(row[1])]
