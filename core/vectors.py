"""Embeddings as bytes: the one check and the one conversion to numbers.

An embedding travels as little-endian float16 or float32 numbers, beside its element type. The entrance, the search
server and whoever reads stored embeddings use the same check, so they refuse the same vectors with the same words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.dead_letters import BadRecord, Reason
from neardup.events_pb2 import FLOAT16, FLOAT32, ElementType

__all__ = [
    "sound_rows",
    "stored_problem",
    "stored_type",
    "unit_rows",
    "vector_problem",
    "vector_rows",
    "vector_values",
]

_DTYPES: dict[int, np.dtype[Any]] = {FLOAT16: np.dtype("<f2"), FLOAT32: np.dtype("<f4")}

_INFINITY = {2: 0x7C00, 4: 0x7F800000}
"""The bits of infinity, by the bytes of a number."""


def vector_problem(name: str, element_type: int, data: bytes, dimension: int | None = None) -> BadRecord | None:
    """What is wrong with an embedding; None when nothing is.

    Checked in this order: the element type is known, there are bytes, their number fits, every number is finite, not
    all are zero.

    Args:
        name: What the detail calls the embedding.
        element_type: `FLOAT16` or `FLOAT32` of `neardup.events.v1.ElementType`; any other is a problem.
        data: The bytes.
        dimension: How many numbers there must be; None: any number of them.
    """
    dtype = _DTYPES.get(element_type)
    if dtype is None:
        return BadRecord(
            Reason.UNKNOWN_ELEMENT_TYPE, f"the element type of {name} is {element_type}, not FLOAT16 (1) or FLOAT32 (2)"
        )
    if not data:
        return BadRecord(Reason.MISSING_VECTOR, f"{name} is empty")
    if dimension is not None and len(data) != dimension * dtype.itemsize:
        return BadRecord(
            Reason.WRONG_VECTOR_LENGTH,
            f"{name} has {len(data)} bytes, expected {dimension * dtype.itemsize}: "
            f"{dimension} numbers of {dtype.itemsize} bytes",
        )
    if len(data) % dtype.itemsize:
        return BadRecord(
            Reason.WRONG_VECTOR_LENGTH, f"{name} has {len(data)} bytes, not a multiple of {dtype.itemsize}"
        )
    return _value_problem(name, np.frombuffer(data, dtype))


def stored_type(data: bytes, dimension: int) -> ElementType.ValueType:
    """The element type of an embedding whose bytes were stored without it: their number tells."""
    return FLOAT16 if len(data) == 2 * dimension else FLOAT32


def stored_problem(name: str, data: bytes, dimension: int) -> BadRecord | None:
    """`vector_problem` of an embedding whose bytes were stored without its type."""
    return vector_problem(name, stored_type(data, dimension), data, dimension)


def vector_values(element_type: int, data: bytes) -> NDArray[np.float32]:
    """The numbers of an embedding that `vector_problem` found nothing wrong with: (dimension,), as float32."""
    return np.frombuffer(data, _DTYPES[element_type]).astype(np.float32)


def vector_rows(vectors: Sequence[bytes], dimension: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The numbers of many embeddings at once; the number of its bytes tells the type of each.

    Args:
        vectors: n of them.
        dimension: How many numbers there must be.

    Returns:
        The numbers (n, dimension), and whether each vector is one that `vector_problem` finds nothing wrong with (n,).
        The rows of others mean nothing.
    """
    sizes = np.fromiter(map(len, vectors), np.intp, len(vectors))
    rows, sound = np.zeros((len(vectors), dimension), np.float32), np.zeros(len(vectors), np.bool_)
    for dtype in _DTYPES.values():
        chosen = np.flatnonzero(sizes == dimension * dtype.itemsize)
        if not chosen.size:
            continue
        data = b"".join(map(vectors.__getitem__, chosen.tolist()))
        numbers = np.frombuffer(data, dtype).reshape(-1, dimension)
        sound[chosen] = sound_rows(numbers)
        if len(chosen) == len(vectors):
            return numbers.astype(np.float32), sound
        rows[chosen] = numbers
    return rows, sound


def sound_rows(rows: NDArray[Any]) -> NDArray[np.bool_]:
    """(n,) whether each row of (n, dimension), float16 or float32, is one that `vector_problem` finds nothing wrong
    with."""
    largest = _magnitudes(rows).max(axis=1, initial=0)
    sound: NDArray[np.bool_] = (largest > 0) & (largest < _INFINITY[rows.dtype.itemsize])
    return sound


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row of (n, dimension) divided by its Euclidean norm; a row of zeros stays zero."""
    # The largest element comes first, so that no square overflows or vanishes. numpy's own sum adds each row in the
    # same order whatever the number of rows.
    wide = rows.astype(np.float64)
    largest = np.abs(wide).max(axis=1, keepdims=True, initial=0.0)
    scaled = wide / np.where(largest > 0.0, largest, 1.0)
    norms = np.sqrt((scaled * scaled).sum(axis=1, keepdims=True))
    unit: NDArray[np.float64] = scaled / np.where(norms > 0.0, norms, 1.0)
    return unit.astype(np.float32)


def _magnitudes(values: NDArray[Any]) -> NDArray[np.unsignedinteger[Any]]:
    """The numbers without their signs, as whole numbers.

    Without the sign, the bits of floats are ordered like their magnitudes, with infinity and NaN above all others. So
    one pass over whole numbers decides; numpy compares float16 slowly.
    """
    half = values.itemsize == 2
    bits: NDArray[np.unsignedinteger[Any]] = values.view(np.uint16 if half else np.uint32)
    return bits & bits.dtype.type(0x7FFF if half else 0x7FFFFFFF)


def _value_problem(name: str, values: NDArray[Any]) -> BadRecord | None:
    largest = int(_magnitudes(values).max())
    if largest >= _INFINITY[values.itemsize]:
        not_numbers = np.isnan(values)
        if not_numbers.any():
            return BadRecord(Reason.NOT_A_NUMBER, f"{name}[{int(not_numbers.argmax())}] is not a number")
        return BadRecord(Reason.INFINITE, f"{name}[{int(np.isinf(values).argmax())}] is infinite")
    if not largest:
        return BadRecord(Reason.ALL_ZERO, f"all {values.size} numbers of {name} are zero")
    return None
