"""Every call is timed, every failure counted by its error; both are on the page before the first call."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from core.call_metrics import CallMetrics
from core.errors import LogGapError


def test_calls_are_timed_and_failures_counted_by_method() -> None:
    registry = CollectorRegistry()
    calls = CallMetrics("thing", ("Read", "Write"), registry)
    assert registry.get_sample_value("neardup_thing_call_seconds_count", {"method": "Write"}) == 0
    with calls.call("Read"):
        pass
    with pytest.raises(LogGapError), calls.call("Write"):
        raise LogGapError("a gap", 3)
    for method in ("Read", "Write"):
        assert registry.get_sample_value("neardup_thing_call_seconds_count", {"method": method}) == 1
    failed = {"method": "Write", "error": "LogGapError"}
    assert registry.get_sample_value("neardup_thing_failed_calls_total", failed) == 1
