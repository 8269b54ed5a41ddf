"""Drift: judged at the size that the index has, by the postings of a search."""

from __future__ import annotations

import pytest

from core.errors import SettingsError
from search.tuning.drift import MIN_IMAGES, ChosenDensity, Drift, LiveDensity, density_drift

CHOSEN = ChosenDensity(images=1_000_000, unrelated_postings=0.004, copy_postings=300.0)


@pytest.mark.parametrize(
    ("images", "postings", "drift", "ratio"),
    [
        (1_000_000, 4_300.0, Drift.NONE, 1.0),
        (100_000, 700.0, Drift.NONE, 1.0),  # expected at its own size, not at the size planned for
        (100_000, 4_300.0, Drift.DENSER, 4_300 / 700),
        (1_000_000, 8_600.0, Drift.DENSER, 2.0),
        (1_000_000, 8_500.0, Drift.NONE, 8_500 / 4_300),
        (1_000_000, 2_150.0, Drift.SPARSER, 0.5),
        (1_500_000, 6_300.0, Drift.OUTGROWN, 1.0),
        (1_400_000, 5_900.0, Drift.NONE, 1.0),
        (3_000_000, 30_000.0, Drift.DENSER, 30_000 / 12_300),  # the density says more than the size
    ],
)
def test_drift_is_judged_at_the_size_that_the_index_has(
    images: int, postings: float, drift: Drift, ratio: float
) -> None:
    found = density_drift(CHOSEN, LiveDensity(images, postings))
    assert found.drift is drift
    assert found.ratio == pytest.approx(ratio)
    assert found.size == images / 1_000_000
    assert found.drifted is (drift is not Drift.NONE)


def test_a_small_index_is_not_judged() -> None:
    assert density_drift(CHOSEN, LiveDensity(MIN_IMAGES - 1, 1e9)).drift is Drift.NONE
    assert density_drift(CHOSEN, LiveDensity(MIN_IMAGES, 1e9)).drift is Drift.DENSER
    small = ChosenDensity(images=500, unrelated_postings=1.0, copy_postings=0.0)
    assert density_drift(small, LiveDensity(500, 5_000.0)).drift is Drift.DENSER


def test_a_point_without_postings_judges_nothing() -> None:
    assert density_drift(ChosenDensity(10, 0.0, 0.0), LiveDensity(50_000, 7.0)) == density_drift(
        ChosenDensity(10, 0.0, 0.0), LiveDensity(50_000, 0.0)
    )


@pytest.mark.parametrize("values", [(-1, 1.0, 1.0), (1, -1.0, 0.0), (1, 0.0, -1.0)])
def test_senseless_points_are_refused(values: tuple[int, float, float]) -> None:
    with pytest.raises(SettingsError):
        ChosenDensity(*values)
