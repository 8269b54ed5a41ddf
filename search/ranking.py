"""How the candidates of a search are chosen and ordered: two stages, and the pages of their result.

1. The first `depth` images by shared terms, ties by age. The index counts them exactly.
2. These ordered by the distance of their codes (differing bits), then by shared terms, then by age.

With `Order.OVERLAP`, or without a code to compare with, stage one alone gives the order, and it has no end at `depth`.
The first page has `candidates` of the ordered images, each further page `FURTHER`.

The functions here are the reference, for training and for tests. The index has compiled ones that give the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import SettingsError

__all__ = ["DEFAULT_RANKING", "FURTHER", "MAX_DEPTH", "Order", "Ranking", "hamming", "nearest_first", "page_of"]

FURTHER = 100
"""Candidates of each page after the first."""

MAX_DEPTH = 10_000
"""The largest `depth` and `candidates`: a search ranks so many images, and reads as many codes."""


class Order(StrEnum):
    """What comes first among the candidates."""

    DISTANCE = "distance"
    """The nearest code."""
    OVERLAP = "overlap"
    """The most shared terms."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """How the candidates of a search are chosen and ordered. None of it changes what an index stores."""

    candidates: int = 20
    """k: the first page."""
    depth: int = 1000
    """So many images that share the most terms are compared by distance."""
    order: Order = Order.DISTANCE
    min_overlap: int = 1
    """Images that share fewer terms are no candidates."""
    distance_bits: int = 0
    """The leading bits of a code that are compared, in whole bytes; 0: all bits that the code has before its values."""

    def __post_init__(self) -> None:
        """Checks every value against its range and against the others."""
        for name, value in (("candidates", self.candidates), ("depth", self.depth)):
            if not 1 <= value <= MAX_DEPTH:
                raise SettingsError(f"{name} must lie in 1 to {MAX_DEPTH}, not {value}")
        if self.order is Order.DISTANCE and self.depth < self.candidates:
            raise SettingsError(
                f"depth must be at least candidates, {self.candidates}, when the order is by distance, not {self.depth}"
            )
        if self.min_overlap < 1:
            raise SettingsError(f"min_overlap must be at least 1, not {self.min_overlap}")
        if self.distance_bits < 0 or self.distance_bits % 8:
            raise SettingsError(f"distance_bits must be a multiple of 8 and not below 0, not {self.distance_bits}")

    def for_codes(self, bits: int) -> Ranking:
        """The same for codes with so many bits before their values, with `distance_bits` told.

        Raises:
            SettingsError: They have fewer bits than are compared.
        """
        if self.distance_bits > bits:
            raise SettingsError(f"distance_bits is {self.distance_bits}, but the codes have {bits} bits")
        return replace(self, distance_bits=self.distance_bits or bits)

    def describe(self) -> dict[str, int | str]:
        """The settings as plain values, for messages and cards."""
        return {
            "candidates": self.candidates,
            "depth": self.depth,
            "order": self.order.value,
            "min_overlap": self.min_overlap,
            "distance_bits": self.distance_bits,
        }


DEFAULT_RANKING = Ranking()
"""What settings that name none use."""


def page_of(ranking: Ranking, after: int) -> int:
    """How many candidates the page has that follows the first `after` ones."""
    return FURTHER if after else ranking.candidates


def hamming(codes: NDArray[np.uint8], code: bytes, bits: int) -> NDArray[np.uint16]:
    """The distances (n,) of codes (n, bytes) from one code: how many of the leading `bits` differ."""
    size = bits // 8
    differing = np.bitwise_count(codes[:, :size] ^ np.frombuffer(code[:size], np.uint8))
    distances: NDArray[np.uint16] = differing.sum(axis=1, dtype=np.uint16)
    return distances


def nearest_first(distances: NDArray[np.uint16], overlaps: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """The order (n,) of stage two of images in the order of stage one, from their distances and overlaps (n,)."""
    # Stable: among equals, the order of stage one is that of age.
    order: NDArray[np.int64] = np.lexsort((-overlaps.astype(np.int64), distances))
    return order
