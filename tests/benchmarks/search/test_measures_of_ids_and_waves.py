"""One hot id and a wave of near-equal images, measured at a tiny size: the benchmarks run, and find what they must."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.search import hot_id, wave
from benchmarks.search.bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, images=2_100, seed=3, photos=tmp_path / "none", quick=True)


def test_inserts_of_a_hot_id_and_of_others_are_timed_at_each_size(bench: Bench) -> None:
    rows = hot_id.measure(bench)["rows"]
    assert list(rows) == ["21", "210", "2,100"]
    for row in rows.values():
        for kind in ("hot", "cold"):
            assert 0 < row[kind]["p50_ms"] <= row[kind]["p99_ms"]
    assert list(bench.folder.iterdir()) == []


def test_a_small_wave_is_found_from_its_oldest_image_on(bench: Bench) -> None:
    result = wave.measure(bench)
    assert (result["images"], result["wave_images"]) == (2_100, 2_100)
    assert result["oldest_found"]
    # No list is long enough to be cut.
    assert result["truncated"] == {"without": 0, "with": 0}
    for name in ("without", "with", "wave"):
        assert 0 < result[name]["p50_ms"] <= result[name]["p99_ms"] <= result[name]["max_ms"]
