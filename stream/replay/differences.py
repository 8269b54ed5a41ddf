"""What a new verdict changes. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from core.known_verdicts import KnownVerdict
from core.types import ImageId

__all__ = ["Change", "DiffReport", "Difference", "compare"]


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
