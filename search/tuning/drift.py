"""Whether a live index is still as dense as the term settings were chosen for.

A search for an image of the corpus touches, on average, `unrelated_postings` postings for each image that the index
holds (images that have nothing to do with it agree with it in some group by chance) and `copy_postings` for its own
copies, however large the index is. `neardup tune` measures both on a sample and keeps them beside the settings it
chooses; the index counts what searches for its own images would touch. The two are compared at the size the index has.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from core.errors import SettingsError

__all__ = ["ChosenDensity", "DensityDrift", "Drift", "LiveDensity", "density_drift"]

DRIFT_FACTOR = 2.0
"""So many times more or fewer postings a search than expected is drift: the cost of searching has moved as much."""

OUTGROWN_FACTOR = 1.5
"""So many times the images planned for is outgrown: one bit more in each group halves the density again."""

MIN_IMAGES = 10_000
"""Smaller indexes are not judged: in them a few large clusters decide what a search touches."""


@dataclass(frozen=True, slots=True)
class ChosenDensity:
    """The point that the term settings were chosen for."""

    images: int
    """How many images the index was planned to hold."""
    unrelated_postings: float
    """Postings that one search touches, for each image the index holds."""
    copy_postings: float
    """Postings that one search touches beside these: those of the image's own copies."""

    def __post_init__(self) -> None:
        """Checks the ranges."""
        if self.images < 1:
            raise SettingsError(f"an index is planned for at least one image, not {self.images}")
        if self.unrelated_postings < 0 or self.copy_postings < 0:
            raise SettingsError(
                f"postings of a search cannot be negative: {self.unrelated_postings}, {self.copy_postings}"
            )

    def postings(self, images: int) -> float:
        """Postings that a search touches, on average, in an index of so many images."""
        return self.unrelated_postings * images + self.copy_postings


@dataclass(frozen=True, slots=True)
class LiveDensity:
    """What a live index holds."""

    images: int
    postings: float
    """Postings that a search for one of its images touches, on average."""


class Drift(StrEnum):
    """How a live index stands to the point that was chosen."""

    NONE = "none"
    DENSER = "denser"
    """Searches touch more postings than planned: longer groups, or a look at what floods the index."""
    SPARSER = "sparser"
    """Searches touch fewer postings than planned: recall may have fallen too; tune on a newer sample."""
    OUTGROWN = "outgrown"
    """As dense as planned, but larger than planned: tune for the size that it has."""


@dataclass(frozen=True, slots=True)
class DensityDrift:
    """The comparison."""

    drift: Drift
    ratio: float
    """Postings of a search, live, by those expected at this size; 1.0 while the index is too small to be judged."""
    size: float
    """Images by images planned for."""

    @property
    def drifted(self) -> bool:
        """Whether `neardup tune` should be asked again."""
        return self.drift is not Drift.NONE


def density_drift(chosen: ChosenDensity, live: LiveDensity) -> DensityDrift:
    """Compares a live index with the point that its term settings were chosen for."""
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
