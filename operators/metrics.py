"""Every metric of the operators, its name and its labels, once.

Flink's Prometheus reporter shows `NAME` of the operator group as `flink_taskmanager_job_task_operator_neardup_NAME`,
and a labelled one as `..._neardup_LABEL_NAME{LABEL="value"}`. Counters start at 0 with each start of the task.

decode, per embedding:
    decoded_total                   notifications that passed all checks
    norms_total{band}               of these, by their norm: usual, or below (low) or above (high) the middle 98 % of
                                    what `neardup centres` measured
    bad_total{reason}               notifications that became dead letters
    truncated_total                 of these, those whose dead letter has only the beginning of their bytes
join:
    joined_total, duplicate_total   images whose halves met; redelivered halves
    waiting_total, late_total       halves that had to wait; that waited longer than `join.alert_after_s`
    unpaired_total{reason}          halves that became dead letters without their partner
    join_wait_seconds{le}           between the two halves of an image
search, score, assign, admit, each:
    items_total, batches_total      items settled, in so many calls
    call_seconds{le}                of one call for one batch, failed or not
    failures_total{kind}            calls that failed: unavailable, fault, refused, other
    isolated_total{reason}          items that were handled alone
    unscored_total{reason}          records that were passed on without a search or a score
    traced_total{reason}            traces that were made; search and score make those of watched replays
    traced_bytes_total              their bytes
    batch_items, pending_items      items of the last batch; items that are pending
    waiting                         1 while the step waits for a server
watch, of the files in the folder of manifests:
    manifests_seen_total            files that were seen
    manifests_ended_total{end}      of these, those whose work has ended: live, failed, aborted, refused, unreadable
    manifests_open                  those whose work has not ended
    manifests_waiting               of these, those that cannot go on at present

Verdicts are counted by the storage server (`storage.serving.metrics`).

Gauges are set, never asked: a callback would enter Python from the reporter's thread. Flink's Python API has no
histogram, so `Histogram` makes one of counters: `NAME_bucket{le=...}` and `NAME_count`. It has no `NAME_sum`: Flink's
counters are whole numbers, which a sum of seconds is not. Quantiles need the buckets only. The reporter needs
`filterLabelValueCharacters: false`, else it turns `le="0.25"` into `le="0_25"`.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from itertools import accumulate
from math import inf

from pyflink.datastream import RuntimeContext
from pyflink.metrics import Counter, MetricGroup

from core.dead_letters import Reason
from core.traces import TraceReason
from core.vector_limits import NormBand
from operators.manifest_watch import End

__all__ = ["BatchMetrics", "DecodeMetrics", "FailureKind", "Histogram", "JoinMetrics", "StepMetrics", "WatchMetrics"]

GROUP = "neardup"
"""The group of all our metrics below the operator's."""

CALL_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Of calls to servers."""

WAIT_BUCKETS_S = (0.01, 0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0)
"""Of the time between two halves."""

TELL_EVERY_S = 1.0
"""How often a histogram hands on what it has counted, at most."""


class FailureKind(StrEnum):
    """How a call failed."""

    UNAVAILABLE = "unavailable"
    FAULT = "fault"
    REFUSED = "refused"
    OTHER = "other"


def _group(context: RuntimeContext) -> MetricGroup:
    return context.get_metrics_group().add_group(GROUP)


def _labelled(group: MetricGroup, name: str, label: str, values: Iterable[str]) -> dict[str, Counter]:
    return {value: group.add_group(label, value).counter(name) for value in values}


class Histogram:
    """Counts of seconds by upper bound, cumulative as Prometheus wants them.

    Each counter lies in Java, and a call there costs microseconds. So they are told at most once a second. What came
    within a second after that waits for the next duration.
    """

    def __init__(
        self,
        group: MetricGroup,
        name: str,
        buckets_s: Sequence[float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bounds = tuple(buckets_s)
        labels = [*(f"{bound:g}" for bound in self._bounds), "+Inf"]
        self._buckets = [group.add_group("le", label).counter(f"{name}_bucket") for label in labels]
        self._count = group.counter(f"{name}_count")
        self._untold = [0] * len(labels)
        self._clock = clock
        self._told_at = -inf

    def observe(self, seconds: float) -> None:
        """Counts one duration."""
        self._untold[bisect_left(self._bounds, seconds)] += 1
        now = self._clock()
        if now - self._told_at >= TELL_EVERY_S:
            self._told_at = now
            self._tell()

    def _tell(self) -> None:
        for counter, durations in zip(self._buckets, accumulate(self._untold), strict=True):
            if durations:
                counter.inc(durations)
        self._count.inc(sum(self._untold))
        self._untold = [0] * len(self._untold)


class DecodeMetrics:
    """Of one decoding operator."""

    def __init__(self, context: RuntimeContext) -> None:
        group = _group(context)
        self._decoded = group.counter("decoded_total")
        self._norms = _labelled(group, "norms_total", "band", NormBand)
        self._bad = _labelled(group, "bad_total", "reason", Reason)
        self._truncated = group.counter("truncated_total")

    def decoded(self, bands: Sequence[NormBand]) -> None:
        """Notifications passed all checks; their norms lie in these bands."""
        self._decoded.inc(len(bands))
        for band, number in Counts(bands).items():
            self._norms[band].inc(number)

    def bad(self, reason: Reason, *, truncated: bool) -> None:
        """A notification became a dead letter, which has all of its bytes or is truncated."""
        self._bad[reason].inc()
        if truncated:
            self._truncated.inc()


class JoinMetrics:
    """Of the join."""

    def __init__(self, context: RuntimeContext) -> None:
        group = _group(context)
        self._joined = group.counter("joined_total")
        self._waiting = group.counter("waiting_total")
        self._late = group.counter("late_total")
        self._duplicates = group.counter("duplicate_total")
        self._unpaired = _labelled(group, "unpaired_total", "reason", Reason)
        self._wait = Histogram(group, "join_wait_seconds", WAIT_BUCKETS_S)

    def joined(self, wait_s: float) -> None:
        """Two halves met, so far apart."""
        self._joined.inc()
        self._wait.observe(wait_s)

    def waits(self) -> None:
        """A half has to wait."""
        self._waiting.inc()

    def late(self, halves: int) -> None:
        """So many halves have waited longer than they should."""
        self._late.inc(halves)

    def duplicate(self) -> None:
        """A redelivered half was ignored."""
        self._duplicates.inc()

    def unpaired(self, reason: Reason) -> None:
        """A half became a dead letter without its partner."""
        self._unpaired[reason].inc()


class BatchMetrics:
    """Of the micro-batches of one step of the sequence."""

    def __init__(self, context: RuntimeContext) -> None:
        group = _group(context)
        self._items = group.counter("items_total")
        self._batches = group.counter("batches_total")
        self._failures = _labelled(group, "failures_total", "kind", FailureKind)
        self._isolated = _labelled(group, "isolated_total", "reason", (Reason.REFUSED, Reason.FAULTED))
        self._call = Histogram(group, "call_seconds", CALL_BUCKETS_S)
        self._batch_items = group.distribution("batch_items")
        self._pending = group.distribution("pending_items")
        self._waiting = group.distribution("waiting")

    def called(self, seconds: float) -> None:
        """A call took so long, failed or not."""
        self._call.observe(seconds)

    def settled(self, items: int) -> None:
        """A batch, or the front of one, is done."""
        self._items.inc(items)
        self._batches.inc()
        self._batch_items.update(items)

    def failed(self, kind: FailureKind) -> None:
        """A call failed."""
        self._failures[kind].inc()

    def isolated(self, reason: Reason) -> None:
        """An isolated item is done."""
        self._isolated[reason].inc()

    def state(self, pending: int, waiting: bool) -> None:
        """The state after an element or a timer."""
        self._pending.update(pending)
        self._waiting.update(int(waiting))


class StepMetrics:
    """Of records that are passed on without a search or a score, and of traces."""

    def __init__(self, context: RuntimeContext) -> None:
        group = _group(context)
        self._unscored = _labelled(group, "unscored_total", "reason", Reason)
        self._traced = _labelled(group, "traced_total", "reason", TraceReason)
        self._traced_bytes = group.counter("traced_bytes_total")

    def traced(self, reason: str, size: int) -> None:
        """A trace of so many bytes was made."""
        self._traced[reason].inc()
        self._traced_bytes.inc(size)

    def unscored(self, reason: Reason) -> None:
        """A record is passed on without a search or a score."""
        self._unscored[reason].inc()


class WatchMetrics:
    """Of the files in the folder of manifests."""

    def __init__(self, context: RuntimeContext) -> None:
        group = _group(context)
        self._seen = group.counter("manifests_seen_total")
        self._ended = _labelled(group, "manifests_ended_total", "end", End)
        self._open = group.distribution("manifests_open")
        self._waiting = group.distribution("manifests_waiting")

    def seen(self) -> None:
        """A file was seen."""
        self._seen.inc()

    def ended(self, end: End) -> None:
        """The work on a file has ended."""
        self._ended[end].inc()

    def state(self, known: int, waiting: int) -> None:
        """How many manifests have not ended, and how many of these cannot go on."""
        self._open.update(known)
        self._waiting.update(waiting)
