"""Packs rows of terms into as few bytes as their bits need, and finds equal rows.

A packed row holds the values of groups 0, 1, ... one after the other, `bits` bits each, from the lowest bit of the
first byte on. The last byte is padded with zeros.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from search.index.compiled import compiled

__all__ = ["first_equal_rows", "pack_rows", "row_bytes", "unpack_rows"]


def row_bytes(groups: int, bits: int) -> int:
    """Bytes of one packed row."""
    return (groups * bits + 7) // 8


def pack_rows(terms: NDArray[np.uint32], bits: int) -> NDArray[np.uint8]:
    """Packs terms (n, groups) into (n, `row_bytes`)."""
    rows = np.zeros((len(terms), row_bytes(terms.shape[1], bits)), np.uint8)
    _pack(terms, bits, rows)
    return rows


def unpack_rows(rows: NDArray[np.uint8], groups: int, bits: int) -> NDArray[np.uint32]:
    """The terms (n, groups) of packed rows."""
    terms = np.zeros((len(rows), groups), np.uint32)
    _unpack(rows, bits, terms)
    return terms


def first_equal_rows(rows: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """For each of (n, bytes) rows the number of the first row that equals it, which may be its own."""
    slots = 1 << max(4, (2 * len(rows)).bit_length())
    firsts = np.empty(len(rows), np.uint32)
    _first_equal(rows, np.full(slots, -1, np.int32), np.empty(slots, np.uint32), firsts)
    return firsts


@compiled
def _pack(terms: NDArray[np.uint32], bits: int, rows: NDArray[np.uint8]) -> None:
    for row in range(terms.shape[0]):
        word = np.uint64(0)
        filled = 0
        at = 0
        for group in range(terms.shape[1]):
            word |= np.uint64(terms[row, group]) << np.uint64(filled)
            filled += bits
            while filled >= 8:
                rows[row, at] = np.uint8(word & np.uint64(255))
                at += 1
                word >>= np.uint64(8)
                filled -= 8
        if filled > 0:
            rows[row, at] = np.uint8(word & np.uint64(255))


@compiled
def _unpack(rows: NDArray[np.uint8], bits: int, terms: NDArray[np.uint32]) -> None:
    mask = np.uint64((1 << bits) - 1)
    for row in range(terms.shape[0]):
        word = np.uint64(0)
        filled = 0
        at = 0
        for group in range(terms.shape[1]):
            while filled < bits:
                word |= np.uint64(rows[row, at]) << np.uint64(filled)
                at += 1
                filled += 8
            terms[row, group] = np.uint32(word & mask)
            word >>= np.uint64(bits)
            filled -= bits


@compiled
def _first_equal(
    rows: NDArray[np.uint8], table: NDArray[np.int32], tags: NDArray[np.uint32], firsts: NDArray[np.uint32]
) -> None:
    """Uses an open-addressing table of the rows so far; rows of equal hashes are compared."""
    mask = np.uint64(table.shape[0] - 1)
    for row in range(rows.shape[0]):
        code = np.uint64(14695981039346656037)
        for byte in range(rows.shape[1]):
            code = (code ^ np.uint64(rows[row, byte])) * np.uint64(1099511628211)
        code ^= code >> np.uint64(29)
        tag = np.uint32(code >> np.uint64(32))
        slot = code & mask
        firsts[row] = row
        while table[slot] >= 0:
            other = table[slot]
            if tags[slot] == tag:
                byte = 0
                while byte < rows.shape[1] and rows[other, byte] == rows[row, byte]:
                    byte += 1
                if byte == rows.shape[1]:
                    firsts[row] = other
                    break
            slot = (slot + np.uint64(1)) & mask
        if table[slot] < 0:
            table[slot] = row
            tags[slot] = tag
