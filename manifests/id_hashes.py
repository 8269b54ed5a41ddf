"""Ids as hashes of 128 bits, so that billions of them can be sorted: that two share one is less likely than 10^-20."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Hashes", "id_hashes", "numbered"]

Hashes = NDArray[Any]
"""(n, 2) big-endian u64; zeros: there is no id."""

_DIGEST_BYTES = 16
_NO_HASH = bytes(_DIGEST_BYTES)


def id_hashes(ids: Sequence[str | None], known: dict[str | None, bytes] | None = None) -> Hashes:
    """(n, 2) hashes of n ids.

    Args:
        ids: The ids; None: there is none.
        known: Keeps the hashes of ids from call to call, where many come again.
    """
    found: dict[str | None, bytes] = {} if known is None else known
    found[None] = _NO_HASH
    for each in ids:
        if each not in found:
            assert each is not None
            found[each] = blake2b(each.encode(errors="surrogatepass"), digest_size=_DIGEST_BYTES).digest()
    return np.frombuffer(b"".join([found[each] for each in ids]), ">u8").reshape(-1, 2)


def numbered(hashes: Hashes) -> tuple[NDArray[np.int64], int]:
    """(n,) a number from 0 for each of n hashes, in their order; and how many numbers there are."""
    first, second = (np.ascontiguousarray(hashes[:, at], np.uint64) for at in range(2))
    order = np.argsort(first)
    begins = _starts(first[order])
    if not (begins | ~_starts(second[order])).all():
        # Two ids share half of their hash: the slower way, which looks at all of it.
        order = np.lexsort((second, first))
        begins = _starts(first[order]) | _starts(second[order])
    numbers = np.empty(len(hashes), np.int64)
    numbers[order] = np.cumsum(begins) - 1
    return numbers, int(begins.sum())


def _starts(values: NDArray[Any]) -> NDArray[np.bool_]:
    """(n,) which of n values differ from the one before."""
    found = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=found[1:])
    return found
