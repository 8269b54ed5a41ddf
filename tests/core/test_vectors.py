"""One check for every vector: it agrees with a slow oracle that looks at the numbers one by one."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.dead_letters import Reason
from core.vectors import stored_problem, stored_type, vector_problem, vector_rows, vector_values
from neardup.events_pb2 import FLOAT16, FLOAT32

FORMATS = {FLOAT16: "e", FLOAT32: "f"}
WIDTHS = {FLOAT16: 16, FLOAT32: 32}


def oracle(element_type: int, data: bytes, dimension: int | None) -> Reason | None:
    """The reason by the text of the docstring, with `struct` in the place of numpy."""
    if element_type not in FORMATS:
        return Reason.UNKNOWN_ELEMENT_TYPE
    if not data:
        return Reason.MISSING_VECTOR
    size = struct.calcsize(FORMATS[element_type])
    if len(data) % size or (dimension is not None and len(data) // size != dimension):
        return Reason.WRONG_VECTOR_LENGTH
    numbers = [number for (number,) in struct.iter_unpack(f"<{FORMATS[element_type]}", data)]
    if any(math.isnan(number) for number in numbers):
        return Reason.NOT_A_NUMBER
    if any(math.isinf(number) for number in numbers):
        return Reason.INFINITE
    return None if any(number != 0 for number in numbers) else Reason.ALL_ZERO


@st.composite
def packed(draw: st.DrawFn) -> tuple[int, bytes]:
    """A type and the bytes of some numbers of that type, often special ones."""
    element_type = draw(st.sampled_from([FLOAT16, FLOAT32]))
    special = st.sampled_from([0.0, -0.0, math.inf, -math.inf, math.nan])
    number = st.floats(width=WIDTHS[element_type]) | special
    numbers = draw(st.lists(number, max_size=6))
    return element_type, struct.pack(f"<{len(numbers)}{FORMATS[element_type]}", *numbers)


@given(vector=packed() | st.tuples(st.integers(-1, 3), st.binary(max_size=17)), dimension=st.none() | st.integers(1, 6))
def test_every_vector_has_the_reason_of_the_oracle(vector: tuple[int, bytes], dimension: int | None) -> None:
    element_type, data = vector
    problem = vector_problem("the vector", element_type, data, dimension)
    assert (problem and problem.reason) == oracle(element_type, data, dimension)


@given(packed())
def test_values_are_the_numbers_that_were_packed(vector: tuple[int, bytes]) -> None:
    element_type, data = vector
    expected = [number for (number,) in struct.iter_unpack(f"<{FORMATS[element_type]}", data)]
    values = vector_values(element_type, data)
    assert values.dtype == "float32"
    assert values.tolist() == pytest.approx(expected, rel=0, abs=0, nan_ok=True)


@pytest.mark.parametrize(
    ("element_type", "data", "detail"),
    [
        (9, b"12", "the element type of v is 9, not FLOAT16 (1) or FLOAT32 (2)"),
        (FLOAT16, b"", "v is empty"),
        (FLOAT16, b"12", "v has 2 bytes, expected 4: 2 numbers of 2 bytes"),
        (FLOAT32, struct.pack("<2f", 1, math.nan), "v[1] is not a number"),
        (FLOAT16, struct.pack("<2e", -math.inf, 1), "v[0] is infinite"),
        (FLOAT16, struct.pack("<2e", 0.0, -0.0), "all 2 numbers of v are zero"),
    ],
)
def test_the_detail_has_what_was_found_and_expected(element_type: int, data: bytes, detail: str) -> None:
    problem = vector_problem("v", element_type, data, 2)
    assert problem is not None
    assert problem.detail == detail


@given(st.lists(packed(), max_size=8), st.sampled_from([1, 2, 3]))
def test_many_at_once_are_those_one_by_one(vectors: list[tuple[int, bytes]], dimension: int) -> None:
    data = [one for _, one in vectors]
    rows, sound = vector_rows(data, dimension)
    assert (rows.shape, rows.dtype) == ((len(data), dimension), "float32")
    for one, row, fine in zip(data, rows, sound, strict=True):
        assert fine == (stored_problem("v", one, dimension) is None)
        if fine:
            assert row.tolist() == vector_values(stored_type(one, dimension), one).tolist()


def test_both_types_may_come_together() -> None:
    half, single = (np.array([1.5, -2], kind).tobytes() for kind in ("<f2", "<f4"))
    rows, sound = vector_rows([half, single[:-1], single, half], 2)
    assert sound.tolist() == [True, False, True, True]
    assert rows[sound].tolist() == [[1.5, -2.0]] * 3
