"""All metrics of the storage server: names, labels and buckets."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from core.call_metrics import CallMetrics
from core.first_loads import LoadReport, LoadState
from core.manifest_rows import RowResult
from core.recent_share import RecentShare
from core.types import Cause, Decision, Outcome
from storage.records import StoreState

__all__ = ["METHODS", "StorageMetrics"]

METHODS = (
    "LookUp",
    "Heads",
    "Apply",
    "Describe",
    "Verify",
    "Repair",
    "Embeddings",
    "Unscored",
    "RequireKinds",
    "Select",
    "Named",
    "WrittenAt",
    "ApplyOverride",
    "ListOverrides",
    "Forgotten",
    "ListOperations",
    "PauseOperation",
    "CancelOperation",
    "Load",
    "LoadStatus",
    "Deltas",
    "AbortLoad",
    "FinishLoad",
)
"""The gRPC methods of the server."""

_VERDICT_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
_BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_IDS = (1, 10, 50, 100, 250, 500, 1000, 2500, 5000, 10_000)


class StorageMetrics:
    """What the storage server counts. Gauges show the store after its last write; a scrape does not read the store."""

    def __init__(
        self, registry: CollectorRegistry, state: StoreState, published: int, clock: Callable[[], float] = time.time
    ) -> None:
        """Registers all metrics.

        Args:
            registry: Where they are registered.
            state: The state of the store when it was opened.
            published: The number of the last published history entry.
            clock: Seconds since the epoch.
        """
        self._clock = clock
        self._state = state
        self._published = published
        self._heads = RecentShare()
        self._calls(registry)
        self._writes(registry)
        self._publisher(registry)
        self._sweeps(registry)
        self._eraser(registry)
        self._moving = 0, 0
        self._move_failures = Counter(
            "neardup_storage_bulk_move_failures_total",
            "Attempts to rewrite records of a bulk move that failed; each is made again",
            registry=registry,
        )
        self._alias_failures = Counter(
            "neardup_storage_alias_file_failures_total",
            "Contents of the file of aliases that could not be read; the aliases stayed as they were",
            registry=registry,
        )
        self._gauges(registry)
        ProcessCollector(namespace="neardup_storage", registry=registry)

    def _calls(self, registry: CollectorRegistry) -> None:
        calls = CallMetrics(
            "storage",
            METHODS,
            registry,
            "Calls that ended with an error (StaleError: another write came first; LogGapError: offsets leave a gap)",
        )
        self.call = calls.call
        self.looked_up = Histogram(
            "neardup_storage_look_up_images", "Images in one look-up", buckets=_IDS, registry=registry
        )
        for error in ("StaleError", "LogGapError", "ContradictionError", "RefusedError", "UnavailableError"):
            calls.failed.labels("Apply", error)

    def _writes(self, registry: CollectorRegistry) -> None:
        self.batch = Histogram(
            "neardup_storage_batch_decisions", "Decisions in one write", buckets=_BATCH, registry=registry
        )
        self.outcomes = Counter(
            "neardup_storage_decisions_total", "Decisions written, by outcome", ["outcome"], registry=registry
        )
        self.moves = Counter("neardup_storage_moves_total", "Moves written, by cause", ["cause"], registry=registry)
        self.rows = Counter(
            "neardup_storage_manifest_rows_total",
            "Decisions on rows of manifests after the first load, by what became of the row; a row that is written "
            "again counts again",
            ["result"],
            registry=registry,
        )
        self.verdict_seconds = Histogram(
            "neardup_storage_verdict_seconds",
            "Time from the arrival of an image's second half in Kafka to its synced verdict",
            buckets=_VERDICT_SECONDS,
            registry=registry,
        )
        for outcome in Outcome:
            self.outcomes.labels(outcome.value)
        for cause in Cause:
            self.moves.labels(cause.value)
        for result in RowResult:
            self.rows.labels(result.value)

    def _publisher(self, registry: CollectorRegistry) -> None:
        self._sent = Counter(
            "neardup_storage_published_total", "History entries acknowledged by Kafka", registry=registry
        )
        self._dead_letters_sent = Counter(
            "neardup_storage_dead_letters_published_total", "Dead letters acknowledged by Kafka", registry=registry
        )
        self._dead_letters_truncated = Counter(
            "neardup_storage_dead_letters_truncated_total",
            "Of these, those that were too large for the topic, so they have only the beginning of their record",
            registry=registry,
        )
        self._publish_failures = Counter(
            "neardup_storage_publish_failures_total",
            "Attempts to publish that failed; each is tried again",
            registry=registry,
        )

    def _sweeps(self, registry: CollectorRegistry) -> None:
        self._swept = Counter(
            "neardup_storage_history_swept_total", "History entries removed because of their age", registry=registry
        )
        self._sweep_failures = Counter(
            "neardup_storage_sweep_failures_total",
            "Attempts to remove old history that failed; each is made again",
            registry=registry,
        )

    def _eraser(self, registry: CollectorRegistry) -> None:
        self._erase_failures = Counter(
            "neardup_storage_erase_failures_total",
            "Steps of erasing forgotten images that failed; each is tried again",
            registry=registry,
        )
        self._unerased_since_ms: int | None = None

    def _unerased_s(self) -> float:
        since_ms = self._unerased_since_ms
        return 0.0 if since_ms is None else max(0.0, self._clock() - since_ms / 1000)

    def _gauges(self, registry: CollectorRegistry) -> None:
        gauges: list[tuple[str, str, Callable[[], float]]] = [
            ("images", "Images known", lambda: self._state.images),
            ("clusters", "Clusters, singletons included", lambda: self._state.clusters),
            ("position_offset", "Offset of the last record applied", lambda: self._state.position.offset),
            ("revision", "Counts the writes that are not the stream's", lambda: self._state.revision),
            ("overrides", "Number of the last override that was applied", lambda: self._state.overrides),
            ("history_number", "Number of the last history entry", lambda: self._state.history_number),
            ("history_first", "Number of the first history entry that is kept", lambda: self._state.history_first),
            ("published_number", "Number of the last history entry published to Kafka", lambda: self._published),
            (
                "published_lag_entries",
                "History entries not yet published to Kafka",
                lambda: max(0, self._state.history_number - self._published),
            ),
            (
                "unerased_age_seconds",
                "How long ago the image was forgotten that has waited longest to be erased; 0: none waits",
                self._unerased_s,
            ),
            ("bulk_move_images", "Images of the bulk move under way; 0: none is", lambda: self._moving[0]),
            ("bulk_move_moved", "Of these, those whose records are rewritten", lambda: self._moving[1]),
            (
                "recent_head_share",
                "Share of the last 1,000 decided images that have the commonest head; 0 before the first 100",
                self._heads.share,
            ),
        ]
        for name, text, value in gauges:
            Gauge(f"neardup_storage_{name}", text, registry=registry).set_function(value)

    def watch_load(self, registry: CollectorRegistry, report: Callable[[], LoadReport | None]) -> None:
        """Shows how far the first load is."""
        gauges: list[tuple[str, str, Callable[[LoadReport], float]]] = [
            ("load_rows", "Rows that the first load has written", lambda load: load.rows_done),
            ("load_rows_total", "Rows of its manifest; 0: it was not read yet", lambda load: load.rows_total),
            ("load_seconds", "Since it was asked for, or how long it took; 0: there is none", _seconds),
        ]
        for name, text, value in gauges:
            Gauge(f"neardup_storage_{name}", text, registry=registry).set_function(partial(_of_load, report, value))
        states = Gauge("neardup_storage_load_state", "1: the first load is so", ["state"], registry=registry)
        for state in LoadState:
            states.labels(state.value).set_function(partial(_of_load, report, partial(_is, state)))

    def watch_deltas(
        self, registry: CollectorRegistry, states: Callable[[], Mapping[LoadState, int]], rows_left: Callable[[], int]
    ) -> None:
        """Shows how many deltas are in each state, and how many rows of them wait."""
        deltas = Gauge("neardup_storage_deltas", "Deltas that are in the state", ["state"], registry=registry)
        for state in LoadState:
            deltas.labels(state.value).set_function(partial(_count_of, states, state))
        Gauge(
            "neardup_storage_delta_rows_left",
            "Rows of deltas under way or waiting that are not applied yet; a delta that was not checked yet has none",
            registry=registry,
        ).set_function(rows_left)

    def applied(self, state: StoreState) -> None:
        """Takes the new state of the store."""
        self._state = state

    def published(self, number: int) -> None:
        """Notes that Kafka acknowledged all entries up to `number`."""
        self._sent.inc(max(0, number - self._published))
        self._published = number

    def dead_letters_published(self, count: int, truncated: int) -> None:
        """Counts dead letters that Kafka acknowledged, and those of them that had to be truncated."""
        self._dead_letters_sent.inc(count)
        self._dead_letters_truncated.inc(truncated)

    def erase_failed(self) -> None:
        """Counts a step of erasing that failed and will be tried again."""
        self._erase_failures.inc()

    def unerased(self, oldest_ms: int | None) -> None:
        """Notes when the image was forgotten that has waited longest to be erased; None: none waits."""
        self._unerased_since_ms = oldest_ms

    def publish_failed(self) -> None:
        """Counts an attempt to publish that failed and will be tried again."""
        self._publish_failures.inc()

    def swept(self, entries: int) -> None:
        """Counts history entries that were removed because of their age."""
        self._swept.inc(entries)

    def sweep_failed(self) -> None:
        """Counts an attempt to remove old history that failed and will be made again."""
        self._sweep_failures.inc()

    def moving(self, images: int, moved: int) -> None:
        """Notes how many images the bulk move under way has, and how many of them are rewritten."""
        self._moving = images, moved

    def move_failed(self) -> None:
        """Counts an attempt to rewrite records of a bulk move that failed and will be made again."""
        self._move_failures.inc()

    def aliases_failed(self) -> None:
        """Counts a file of aliases that could not be read."""
        self._alias_failures.inc()

    def renamed(self, images: int) -> None:
        """Counts images whose head was forgotten, so that the store gave them another one."""
        self.moves.labels(Cause.RENAMED.value).inc(images)

    def written(self, decisions: Sequence[Decision], now_ms: int) -> None:
        """Counts decisions that were written and synced at `now_ms`."""
        self.batch.observe(len(decisions))
        for decision in decisions:
            self.outcomes.labels(decision.outcome.value).inc()
            for move in decision.moves:
                self.moves.labels(move.cause.value).inc()
            if decision.member is not None:  # its head and its time are those of a manifest
                self.rows.labels(decision.member.result.value).inc()
                continue
            if decision.outcome is Outcome.DECIDED and decision.moves:
                self._heads.add(decision.moves[0].new_head)
            if decision.outcome is Outcome.DECIDED and decision.arrived_at_ms > 0:
                self.verdict_seconds.observe(max(0, now_ms - decision.arrived_at_ms) / 1000)


def _of_load(report: Callable[[], LoadReport | None], value: Callable[[LoadReport], float]) -> float:
    load = report()
    return 0.0 if load is None else value(load)


def _count_of(states: Callable[[], Mapping[LoadState, int]], state: LoadState) -> float:
    return states().get(state, 0)


def _is(state: LoadState, load: LoadReport) -> float:
    return float(load.state is state)


def _seconds(load: LoadReport) -> float:
    return ((load.ended_ms or time.time_ns() // 10**6) - load.started_ms) / 1000
