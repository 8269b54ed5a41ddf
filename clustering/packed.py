"""Candidates in packed arrays, as they cross the wire. A `Candidate` is made only when one is read.

A search brings dozens of candidates, and the rule reads only those that match.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np

from core.errors import BadInputError
from core.types import Candidate, ImageId

__all__ = ["PackedCandidates", "score_codes"]


class PackedCandidates(Sequence[Candidate]):
    """Reads like a tuple of `Candidate`, and equals one."""

    __slots__ = ("_code_bytes", "_codes", "_distances", "_ids", "_overlaps", "_places")

    def __init__(
        self, image_ids: Sequence[str], overlaps: bytes, places: bytes, codes: bytes, distances: bytes = b""
    ) -> None:
        """Takes columns of equal length.

        Args:
            image_ids: The ids, already checked.
            overlaps: Little-endian u16 each.
            places: Little-endian i64 each.
            codes: All codes, concatenated, of equal length.
            distances: Little-endian u16 each; no bytes: none is known.

        Raises:
            BadInputError: The columns do not fit together.
        """
        count = len(image_ids)
        self._code_bytes, rest = divmod(len(codes), count) if count else (0, len(codes))
        wrong = rest or len(overlaps) != 2 * count or len(places) != 8 * count
        if wrong or len(distances) not in (0, 2 * count):
            raise BadInputError(
                f"{count} candidates came with {len(overlaps)} bytes of overlaps, {len(places)} of places, "
                f"{len(codes)} of codes and {len(distances)} of distances"
            )
        self._ids = image_ids
        self._overlaps = np.frombuffer(overlaps, "<u2").tolist()
        self._places = np.frombuffer(places, "<i8").tolist()
        self._distances: list[int] | None = np.frombuffer(distances, "<u2").tolist() if distances else None
        self._codes = codes

    def __len__(self) -> int:
        """The number of candidates."""
        return len(self._ids)

    @overload
    def __getitem__(self, at: int) -> Candidate: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Candidate, ...]: ...
    def __getitem__(self, at: int | slice) -> Candidate | tuple[Candidate, ...]:
        """One candidate, or a slice of them."""
        if isinstance(at, slice):
            return tuple(self[i] for i in range(*at.indices(len(self))))
        image_id = self._ids[at]
        row = at if at >= 0 else at + len(self._ids)
        distance = None if self._distances is None else self._distances[row]
        return Candidate(ImageId(image_id), self._places[row], self._overlaps[row], self._code(row), distance)

    def __eq__(self, other: object) -> bool:
        """Whether the other is a sequence of the same candidates."""
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def codes(self) -> list[bytes]:
        """The score codes, in order."""
        return [self._code(row) for row in range(len(self))]

    def _code(self, row: int) -> bytes:
        return self._codes[row * self._code_bytes : (row + 1) * self._code_bytes]


def score_codes(candidates: Sequence[Candidate]) -> list[bytes]:
    """The score codes of candidates, in order."""
    if isinstance(candidates, PackedCandidates):
        return candidates.codes()
    return [candidate.score_code for candidate in candidates]
