"""The gauges of snapshots, on a real index whose segments are merged after the snapshot."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from search.index.engine import SegmentedIndex
from search.index.snapshot import snapshots
from search.serving.snapshot_collector import SnapshotCollector
from tests.search.index.index_oracle import LOG, index_settings, insert

SETTINGS = index_settings(candidates=50, seal_entries=8, merge_fan=2)


def _value(folder: Path, name: str, now: float) -> float | None:
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(folder, lambda: now))
    return registry.get_sample_value(f"neardup_search_{name}")


def _grow(index: SegmentedIndex, first: int, end: int) -> None:
    for place in range(first, end, 8):
        index.insert_and_search(
            LOG, [insert(each, f"i{each}", 0, (each % 4, 1, 2, 3)) for each in range(place, place + 8)]
        )
        index.tidy()


def test_a_snapshot_ages_and_keeps_what_the_index_merges_away(tmp_path: Path) -> None:
    index = SegmentedIndex(tmp_path / "index", SETTINGS, background=False)
    copies = tmp_path / "copies"
    now = time.time()
    assert _value(copies, "snapshots", now) == 0
    assert _value(copies, "snapshot_age_seconds", now) == 0
    _grow(index, 0, 8)
    index.snapshot(copies / "one")
    sealed = {path.name for path in (copies / "one").glob("segment-*")}
    shared = _value(copies, "snapshot_kept_bytes", now)
    _grow(index, 8, 64)
    gone = sealed - {path.name for path in (tmp_path / "index").glob("segment-*")}
    assert gone
    kept = _value(copies, "snapshot_kept_bytes", now)
    assert shared is not None
    assert kept is not None
    assert kept - shared >= sum((copies / "one" / name).stat().st_size for name in gone)
    (info,) = snapshots(copies)
    assert _value(copies, "snapshot_age_seconds", info.created_at_ms / 1000 + 90) == pytest.approx(90)
    index.close()
    shutil.rmtree(copies / "one")
    assert _value(copies, "snapshots", now) == 0
    assert _value(copies, "snapshot_kept_bytes", now) == 0


def test_a_damaged_description_shows_nothing_and_breaks_no_scrape(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "snapshot.json").write_text("{", encoding="utf-8")
    assert _value(tmp_path, "snapshots", 0.0) is None
