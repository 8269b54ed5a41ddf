"""`make bench-hashing`: what it counts, and that its parts do what they say."""

from __future__ import annotations

from pathlib import Path

from benchmarks.hashing import measure, per_second, placed_images
from stream.settings import load_settings


def test_the_first_round_is_not_counted_and_the_median_is_taken() -> None:
    now, took = 0.0, iter([9.0, 9.0, 1.0, 2.0, 4.0, 2.0, 2.0, 2.0])

    def work(images: int) -> int:
        nonlocal now
        now += next(took)
        return images

    rates = per_second({"slow": lambda: work(8), "fast": lambda: work(100)}, rounds=3, clock=lambda: now)
    assert rates == {"slow": 4.0, "fast": 50.0}


def test_every_part_handles_all_images(tmp_path: Path) -> None:
    settings = load_settings()
    images = list(placed_images(settings, 5))
    assert [image.place for image in images] == list(range(5))
    assert {(len(image.search_vector), len(image.score_vector)) for image in images} == {(2560, 1536)}
    rates = measure(settings, 70, 1, tmp_path)
    assert set(rates) == {"batches", "bulk", "reading", "reading_and_hashing", "building"}
    assert all(rate > 0 for rate in rates.values())
