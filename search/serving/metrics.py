"""Every metric of the search server: names, labels and buckets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from core.call_metrics import CallMetrics
from core.recent_share import RecentShare
from search.index.interface import NO_PLACE, Answer, Insert, Record, Remove, Replay, SearchResult, TermIndex
from search.serving.admission import Caller
from search.serving.index_collector import IndexCollector
from search.tuning.drift import ChosenDensity

__all__ = ["SearchMetrics"]

METHODS = (
    "InsertAndSearch",
    "SearchMore",
    "Hide",
    "Describe",
    "Search",
    "Get",
    "List",
    "Delete",
    "Stats",
    "Snapshot",
    "Release",
    "Renew",
    "Load",
    "LoadStatus",
    "AbortLoad",
    "AdoptLoad",
)
"""The methods of the server."""

_POSTINGS = (10, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 10_000_000)
_BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class SearchMetrics:
    """The counters, histograms and gauges of the search server."""

    def __init__(self, registry: CollectorRegistry, index: TermIndex, chosen: ChosenDensity | None = None) -> None:
        """Registers all metrics.

        Args:
            registry: What the metrics page shows.
            index: The gauges read it at each scrape.
            chosen: The density that the terms were chosen for; None: not known, so no drift is shown.
        """
        self.call = CallMetrics("search", METHODS, registry).call
        self.batch = Histogram(
            "neardup_search_batch_entries", "Entries of one InsertAndSearch call", buckets=_BATCH, registry=registry
        )
        self.queries = Counter(
            "neardup_search_queries_total",
            "Searches by kind: of a new record, of a replay, for more candidates, or free",
            ["kind"],
            registry=registry,
        )
        self.postings = Counter(
            "neardup_search_postings_total", "Postings that searches touched: their work", registry=registry
        )
        self.candidates = Counter(
            "neardup_search_candidates_total", "Candidates that searches returned", registry=registry
        )
        self.truncated = Counter(
            "neardup_search_truncated_total", "Searches that reached the bound on their work", registry=registry
        )
        self.query_postings = Histogram(
            "neardup_search_query_postings", "Postings that one search touched", buckets=_POSTINGS, registry=registry
        )
        self.skipped = Counter(
            "neardup_search_skipped_total",
            "Records answered as skipped: their images cannot be found",
            registry=registry,
        )
        self.superseded = Counter(
            "neardup_search_superseded_total",
            "Records of a version below one placed before, or of a deleted one",
            registry=registry,
        )
        self.replays = Counter(
            "neardup_search_replays_total",
            "Replays by what they met: a version that was found, one that they placed, none, or a deleted one",
            ["outcome"],
            registry=registry,
        )
        self.deletes = Counter(
            "neardup_search_deletes_total",
            "Deletes of the order by whether they took effect",
            ["outcome"],
            registry=registry,
        )
        self.admitted = Counter(
            "neardup_search_admitted_items_total",
            "Entries, queries and ids of admitted calls, by caller class",
            ["caller"],
            registry=registry,
        )
        self.rejected = Counter(
            "neardup_search_rejected_calls_total",
            "Calls rejected because their caller class was over its rate or had no free slot",
            ["caller"],
            registry=registry,
        )
        self.waiting = Gauge(
            "neardup_search_waiting_calls",
            "Calls that wait for a slot, by caller class",
            ["caller"],
            registry=registry,
        )
        for caller in Caller:
            self.admitted.labels(caller.value)
            self.rejected.labels(caller.value)
        self._term_sets, self._last_place = RecentShare(), NO_PLACE
        Gauge(
            "neardup_search_recent_term_set_share",
            "Share of the last 1,000 placed images that have the commonest set of terms; 0 before the first 100",
            registry=registry,
        ).set_function(self._term_sets.share)
        self.hidden = Counter("neardup_search_hidden_total", "Calls of Hide that succeeded", registry=registry)
        self.deleted = Counter("neardup_search_deleted_total", "Images hidden by Delete", registry=registry)
        registry.register(IndexCollector(index, chosen))
        ProcessCollector(registry=registry)
        for kind in ("record", "replay", "more", "free"):
            self.queries.labels(kind)
        for outcome in ("found", "placed", "missing", "deleted"):
            self.replays.labels(outcome)
        for outcome in ("deleted", "nothing"):
            self.deletes.labels(outcome)

    def answered(self, records: Sequence[Record], answers: Sequence[Answer]) -> None:
        """Counts records of the order and their searches, and looks at the terms of images that got their place now."""
        for record, answer in zip(records, answers, strict=True):
            match record:
                case Remove():
                    self.deletes.labels("deleted" if answer.deleted else "nothing").inc()
                    continue
                case Replay():
                    self.replays.labels(_outcome(answer)).inc()
                    image, kind = record.image, "replay"
                case _:
                    self.skipped.inc(answer.place == NO_PLACE)
                    self.superseded.inc(answer.superseded or answer.deleted)
                    image, kind = (record if isinstance(record, Insert) else None), "record"
            if answer.code and not answer.superseded and (image is None or image.searched):
                self.searched(kind, [answer.result])
            if image is not None and self._last_place < answer.place == record.offset:
                self._last_place = answer.place
                self._term_sets.add(blake2b(image.terms.tobytes(), digest_size=8).digest())

    def searched(self, kind: str, found: Iterable[SearchResult]) -> None:
        """Counts finished searches: `record`, `replay`, `more` or `free`."""
        results = list(found)
        self.queries.labels(kind).inc(len(results))
        self.postings.inc(sum(one.postings for one in results))
        self.candidates.inc(sum(len(one.image_ids) for one in results))
        self.truncated.inc(sum(one.truncated for one in results))
        for one in results:
            self.query_postings.observe(one.postings)


def _outcome(answer: Answer) -> str:
    """What a replay met."""
    if answer.deleted:
        return "deleted"
    if answer.place == NO_PLACE:
        return "missing"
    return "placed" if answer.place == answer.offset else "found"
