"""Names, labels and the histogram made of counters."""

from __future__ import annotations

import re
from itertools import count

from core.dead_letters import Reason
from operators import metrics
from operators.metrics import BatchMetrics, DecodeMetrics, Histogram, JoinMetrics, StepMetrics, WatchMetrics
from tests.support.fake_flink import FakeMetricGroup, FakeRuntimeContext


def test_buckets_are_cumulative_and_bounds_belong_to_them() -> None:
    group, clock = FakeMetricGroup(), count(step=2)
    histogram = Histogram(group, "x_seconds", (0.1, 1.0), lambda: next(clock))
    for seconds in (0.1, 0.2, 1.0, 5.0):
        histogram.observe(seconds)
    assert {name: metric.value for name, metric in group.metrics.items()} == {
        "x_seconds_bucket{le=0.1}": 1,
        "x_seconds_bucket{le=1}": 3,
        "x_seconds_bucket{le=+Inf}": 4,
        "x_seconds_count": 4,
    }


def test_java_is_told_at_most_once_a_second_and_of_everything() -> None:
    group, now = FakeMetricGroup(), [100.0]
    histogram = Histogram(group, "x_seconds", (0.1, 1.0), lambda: now[0])
    counts = []
    for now[0], seconds in ((100.0, 0.05), (100.5, 0.5), (100.9, 5.0), (101.0, 0.05), (101.5, 0.5)):
        histogram.observe(seconds)
        counts.append(tuple(metric.value for metric in group.metrics.values()))
    assert counts == [(1, 1, 1, 1), (1, 1, 1, 1), (1, 1, 1, 1), (2, 3, 4, 4), (2, 3, 4, 4)]


def everything() -> FakeRuntimeContext:
    context = FakeRuntimeContext()
    for kind in (DecodeMetrics, JoinMetrics, BatchMetrics, StepMetrics, WatchMetrics):
        kind(context)
    return context


def test_every_metric_is_there_from_the_start_and_named_in_the_table() -> None:
    # A counter that appears with its first event has no rate for that event.
    table = metrics.__doc__ or ""
    for name in everything().group.metrics:
        plain = re.sub(r"_(bucket|count)$", "", name.removeprefix("neardup_").partition("{")[0])
        assert re.search(rf"\b{plain}\b", table), name


def test_every_reason_has_its_counter() -> None:
    names = everything().group.metrics
    for reason in Reason:
        assert f"neardup_bad_total{{reason={reason}}}" in names
        assert f"neardup_unpaired_total{{reason={reason}}}" in names
        assert f"neardup_unscored_total{{reason={reason}}}" in names
