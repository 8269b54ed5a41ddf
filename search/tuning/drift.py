"""Whether a live index still has the density that its term settings were chosen for.

A search for an image of the corpus touches on average `unrelated_postings` postings for each image of the index, since
unrelated images share some terms by chance. It also touches `copy_postings` for its own copies, at any size of the
index. `neardup tune` measures both on a sample and writes them beside the settings that it chooses. The index knows how
many postings searches for its own images touch. Both are compared at the size that the index has.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from core.errors import SettingsError

__all__ = ["ChosenDensity", "DensityDrift", "Drift", "LiveDensity", "density_drift"]

DRIFT_FACTOR = 2.0
"""This many times more or fewer postings per search than expected are drift; the cost of searching changed as much."""

OUTGROWN_FACTOR = 1.5
"""An index with this many times the planned images is outgrown; one more bit in each group would halve its density."""

MIN_IMAGES = 10_000
"""Smaller indexes are not judged, because a few large clusters determine their density."""


@dataclass(frozen=True, slots=True)
class ChosenDensity:
    """The density that the term settings were chosen for."""

    images: int = 0
    """How many images the index was planned to hold; 0: nothing was chosen, and no drift is reported."""
    unrelated_postings: float = 0.0
    """Postings that one search touches for each image of the index."""
    copy_postings: float = 0.0
    """Further postings that one search touches: those of the image's own copies."""

    def __post_init__(self) -> None:
        """Checks the ranges."""
        if self.images < 0:
            raise SettingsError(f"an index cannot be planned for {self.images} images")
        if self.unrelated_postings < 0 or self.copy_postings < 0:
            raise SettingsError(
                f"postings of a search cannot be negative: {self.unrelated_postings}, {self.copy_postings}"
            )

    def postings(self, images: int) -> float:
        """Postings that a search touches on average in an index of so many images."""
        return self.unrelated_postings * images + self.copy_postings


@dataclass(frozen=True, slots=True)
class LiveDensity:
    """The density of a live index."""

    images: int
    postings: float
    """Postings that a search for one of its images touches, on average."""


class Drift(StrEnum):
    """How the density of a live index differs from the chosen one."""

    NONE = "none"
    DENSER = "denser"
    """Searches touch more postings than planned: use longer groups, or find out what floods the index."""
    SPARSER = "sparser"
    """Searches touch fewer postings than planned, so recall may be lower too: tune on a newer sample."""
    OUTGROWN = "outgrown"
    """The density is as planned, but the index is larger: tune for its size. A greater depth may be enough."""


@dataclass(frozen=True, slots=True)
class DensityDrift:
    """The result of the comparison."""

    drift: Drift
    ratio: float
    """Postings of a live search, divided by those expected at this size; 1.0 while the index is too small to judge."""
    size: float
    """Images, divided by the planned images."""

    @property
    def drifted(self) -> bool:
        """Whether the terms should be tuned again."""
        return self.drift is not Drift.NONE


def density_drift(chosen: ChosenDensity, live: LiveDensity) -> DensityDrift:
    """Compares a live index with the density that its term settings were chosen for."""
    size = live.images / chosen.images
    expected = chosen.postings(live.images)
    if live.images < min(MIN_IMAGES, chosen.images) or expected <= 0:
        return DensityDrift(Drift.NONE, 1.0, size)
    ratio = live.postings / expected
    if ratio >= DRIFT_FACTOR:
        return DensityDrift(Drift.DENSER, ratio, size)
    if ratio <= 1 / DRIFT_FACTOR:
        return DensityDrift(Drift.SPARSER, ratio, size)
    return DensityDrift(Drift.OUTGROWN if size >= OUTGROWN_FACTOR else Drift.NONE, ratio, size)
