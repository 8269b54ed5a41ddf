"""The summary of the long fault test. Its run is `make chaos`."""

from __future__ import annotations

from benchmarks.chaos import back_s
from tests.support.faults import Kill


def test_each_part_has_its_median_and_longest_time() -> None:
    kills = [
        Kill("broker", 1.0, 9.0),
        Kill("taskmanager", 2.0, 4.04),
        Kill("broker", 1.5, 3.0),
        Kill("broker", 3.0, 5.0),
    ]
    assert back_s(kills) == {"broker": (5.0, 9.0), "taskmanager": (4.0, 4.0)}
