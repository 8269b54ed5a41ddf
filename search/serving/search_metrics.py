"""Every metric of the search server: names, labels and buckets, once."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from search.callers import Caller
from search.index.interface import Found, TermIndex
from search.serving.call_metrics import CallMetrics

__all__ = ["SearchMetrics"]

METHODS = ("InsertAndSearch", "SearchMore", "Hide", "Describe")
"""The methods of the server."""

_BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class SearchMetrics:
    """What the search server counts."""

    def __init__(self, registry: CollectorRegistry, index: TermIndex) -> None:
        """Registers all metrics; the gauges read the index when they are scraped."""
        self.call = CallMetrics("search", METHODS, registry).call
        self.batch = Histogram(
            "neardup_search_batch_entries", "Entries of one InsertAndSearch call", buckets=_BATCH, registry=registry
        )
        self.queries = Counter(
            "neardup_search_queries_total", "Searches: of a record, or for more candidates", ["kind"], registry=registry
        )
        self.postings = Counter(
            "neardup_search_postings_total", "Postings that searches touched: their work", registry=registry
        )
        self.candidates = Counter(
            "neardup_search_candidates_total", "Candidates that searches returned", registry=registry
        )
        self.skipped = Counter(
            "neardup_search_skipped_total",
            "Records answered as skipped: their images cannot be found",
            registry=registry,
        )
        self.superseded = Counter(
            "neardup_search_superseded_total", "Records whose image had a higher version before", registry=registry
        )
        self.admitted = Counter(
            "neardup_search_admitted_items_total",
            "Entries, queries and ids of calls that were let in, by class of caller",
            ["caller"],
            registry=registry,
        )
        self.turned_away = Counter(
            "neardup_search_turned_away_calls_total",
            "Calls that were asked to come again later: above their rate, or no slot was free",
            ["caller"],
            registry=registry,
        )
        self.waiting = Gauge(
            "neardup_search_waiting_calls",
            "Calls that wait for a slot, by class of caller",
            ["caller"],
            registry=registry,
        )
        for caller in Caller:
            self.admitted.labels(caller.value)
            self.turned_away.labels(caller.value)
        self.hidden = Counter("neardup_search_hidden_total", "Calls of Hide that succeeded", registry=registry)
        images = Gauge("neardup_search_images", "Images a search from the next place can find", registry=registry)
        images.set_function(lambda: index.images)
        position = Gauge("neardup_search_position_offset", "Last offset of the order applied", registry=registry)
        position.set_function(lambda: index.position.offset)
        size = Gauge("neardup_search_log_bytes", "Size of the index on disk", registry=registry)
        size.set_function(lambda: index.disk_bytes)
        ProcessCollector(registry=registry)
        for kind in ("record", "more"):
            self.queries.labels(kind)

    def searched(self, kind: str, found: Iterable[Found]) -> None:
        """Counts finished searches: `record` or `more`."""
        results = list(found)
        self.queries.labels(kind).inc(len(results))
        self.postings.inc(sum(one.postings for one in results))
        self.candidates.inc(sum(len(one.image_ids) for one in results))
