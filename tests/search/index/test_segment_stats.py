"""The density of an index: what it expects of a search is what searches touch, however many segments there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from search.index.engine import SegmentedIndex
from search.index.segment_stats import expected_postings
from tests.search.index.index_oracle import LOG, index_settings, insert


@pytest.mark.parametrize("segments", [1, 8])
def test_the_density_is_the_mean_of_what_searches_touch(tmp_path: Path, segments: int) -> None:
    entries, groups = 2_400, 16
    settings = index_settings(
        groups=groups, bits_per_group=10, seal_entries=entries // segments, merge_fan=segments + 1
    )
    index = SegmentedIndex(tmp_path / "index", settings, background=False)
    terms = np.random.RandomState(4).randint(0, 2**10, (entries, groups)).astype(np.uint32)
    for first in range(0, entries, settings.seal_entries):
        rows = range(first, first + settings.seal_entries)
        index.insert_and_search(LOG, [insert(row, f"i{row}", 1, terms[row].tolist()) for row in rows])
    index.tidy()
    stats = index.stats()
    assert (stats.segments, stats.tail) == (segments, 0)
    touched = index.rank(terms, 1).postings
    assert stats.expected_postings == pytest.approx(float(touched.mean()), rel=0.05)
    index.close()


def test_nothing_sealed_has_no_density() -> None:
    assert expected_postings([]) == 0.0


def test_segments_without_anything_to_find_count_nothing(tmp_path: Path) -> None:
    settings = index_settings(seal_entries=4, merge_fan=2)
    index = SegmentedIndex(tmp_path / "index", settings, background=False)
    index.insert_and_search(LOG, [insert(at, f"i{at}") for at in range(4)])
    while index._store.seal():
        pass
    before = index.stats()
    assert before.expected_postings == 4  # the four share one term set
    for at in range(4):
        index.hide(at)
    index.release(3)
    index.tidy()
    assert index.stats().expected_postings == 0.0
    index.close()
