"""The soak's bookkeeping: phases, ids, waits by phase, the table. Its run is `make soak`."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.soak import Phase, image_ids, phases, report, waits_by_phase
from stream.verdicts import Verdicts


def arguments(**changes: Any) -> argparse.Namespace:
    values = {"preload": 10, "steady_rate": 100.0, "steady_s": 0.05, "peak_rate": 200.0, "peak_s": 0.01}
    return argparse.Namespace(**{**values, **changes})


def test_phases_without_images_are_left_out() -> None:
    assert phases(arguments()) == [Phase("preload", 10, None), Phase("steady", 5, 100.0), Phase("peak", 2, 200.0)]
    assert phases(arguments(preload=0, peak_s=0.0)) == [Phase("steady", 5, 100.0)]


def test_ids_are_distinct_and_tell_the_phase() -> None:
    ids = image_ids(phases(arguments()))
    assert len(set(ids)) == 17
    assert (ids[0], ids[10], ids[-1]) == ("preload-0000000", "steady-0000000", "peak-0000001")


def test_waits_are_counted_by_phase() -> None:
    waits = {("preload-1", 1): 900, ("steady-1", 1): 50, ("steady-2", 1): 70}
    assert waits_by_phase(Verdicts(waits_ms=waits)) == {"preload": [900], "steady": [50, 70]}


def test_the_table_shows_what_was_measured() -> None:
    result = {
        "phases": [
            {
                "name": "steady",
                "images": 60_000,
                "sent_per_s": 100.0,
                "drained_s": 0.3,
                "latency": {"count": 60_000, "p50_ms": 41, "p99_ms": 187, "max_ms": 1_200},
            }
        ],
        "memory_mb": {"up": {"broker": 300}, "end": {"broker": 350, "photos-search": 1_100}},
        "law_2": {"sound": True, "images": 60_000, "clusters": 9_000},
    }
    shown = report(result)
    for cell in ("60,000", "41", "187", "1,200", "350", "1,100", "sound"):
        assert cell in shown
