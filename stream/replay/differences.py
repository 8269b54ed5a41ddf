"""What a new verdict changes. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from core.types import Cause, ImageId, Versions
from storage.records import ImageRecord

__all__ = ["Change", "DiffReport", "Difference", "KnownVerdict", "compare"]


@dataclass(frozen=True, slots=True)
class KnownVerdict:
    """A verdict, as far as two of them are compared."""

    head: ImageId
    cause: Cause
    score: float | None
    matched: ImageId | None
    versions: Versions

    @classmethod
    def of(cls, image: ImageRecord) -> KnownVerdict:
        """The last verdict on an image."""
        return cls(image.head, image.cause, image.score, image.matched, image.versions)

    def as_json(self) -> dict[str, Any]:
        """Its fields as JSON has them."""
        return {
            "head": self.head,
            "cause": self.cause.value,
            "score": self.score,
            "matched": self.matched,
            "model": self.versions.model,
            "index": self.versions.index,
        }


class Change(StrEnum):
    """The most important difference of two verdicts."""

    GONE = "gone"
    """The image was deleted meanwhile."""
    HEAD = "other head"
    CAUSE = "other cause"
    MATCH = "other match"
    SCORE = "other score"
    VERSIONS = "other versions"
    """Model or index changed, and nothing else."""
    SAME = "same"


@dataclass(frozen=True, slots=True)
class Difference:
    """One image with both verdicts; None: it is gone."""

    image_id: ImageId
    change: Change
    old: KnownVerdict
    new: KnownVerdict | None


def compare(old: KnownVerdict, new: KnownVerdict | None) -> Change:
    """What changed most. Scores are exact, so any difference of two scores is one."""
    if new is None:
        return Change.GONE
    for change, name in (
        (Change.HEAD, "head"),
        (Change.CAUSE, "cause"),
        (Change.MATCH, "matched"),
        (Change.SCORE, "score"),
        (Change.VERSIONS, "versions"),
    ):
        if getattr(old, name) != getattr(new, name):
            return change
    return Change.SAME


@dataclass(slots=True)
class DiffReport:
    """How many images changed how, and each that did."""

    counts: Counter[Change] = field(default_factory=Counter)
    changed: list[Difference] = field(default_factory=list)

    def add(self, image_id: ImageId, old: KnownVerdict, new: KnownVerdict | None) -> None:
        """Compares one image."""
        change = compare(old, new)
        self.counts[change] += 1
        if change is not Change.SAME:
            self.changed.append(Difference(image_id, change, old, new))
