"""Faults of files: the first ones are listed, all are counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["MAX_LISTED", "Fault", "Faults"]

MAX_LISTED = 1000
"""Faults that are listed."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, and where."""

    file: str
    row: int | None
    """Its number in the file, from 0; None: it is about the whole file."""
    problem: str

    def __str__(self) -> str:
        """In one line."""
        return f"{self.file}: {self.problem}" if self.row is None else f"{self.file}: row {self.row}: {self.problem}"


class Faults:
    """Those that were found so far."""

    def __init__(self) -> None:
        """None yet."""
        self.count = 0
        self._listed: list[Fault] = []

    @property
    def listed(self) -> Sequence[Fault]:
        """The first ones."""
        return self._listed

    @property
    def full(self) -> bool:
        """Whether further ones are only counted."""
        return len(self._listed) >= MAX_LISTED

    def add(self, file: str, row: int | None, problem: str) -> None:
        """One more."""
        self.count += 1
        if not self.full:
            self._listed.append(Fault(file, row, problem))

    def add_unlisted(self, others: int) -> None:
        """More of them, which are not listed."""
        self.count += others
