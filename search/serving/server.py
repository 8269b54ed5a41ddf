"""The term search server: gRPC around a `TermIndex`. One call writes at a time; any number may read meanwhile."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry

from core.blas import use_one_blas_thread
from core.disk_metrics import DiskCollector
from core.errors import SettingsError
from core.first_loads import LoadRequest
from core.rpc import Listen, RpcServer
from search.hashing.score_codes import CodeSettings, ScoreCodes
from search.hashing.terms import TermExtractor, TermSettings
from search.index.errors import IndexBrokenError
from search.index.folder import Identity
from search.index.generations import Generation, IndexGenerations
from search.index.interface import TermIndex
from search.index.opening import open_term_index, warm_up
from search.index.settings import DEFAULT_BACKGROUND_BYTES_PER_S, DEFAULT_MAX_POSTINGS, IndexSettings
from search.loading.load_task import LoadTask
from search.loading.loads import Loads
from search.ranking import DEFAULT_RANKING, FURTHER, Ranking
from search.serving import search_pb2_grpc
from search.serving.admission import Admission, AdmissionPolicy
from search.serving.call_guard import CallGuard
from search.serving.generation_watch import GenerationWatch
from search.serving.index_admin import IndexAdmin
from search.serving.limits import SearchLimits
from search.serving.load_collector import LoadCollector
from search.serving.messages import index_version
from search.serving.metrics import SearchMetrics
from search.serving.request_parser import RequestParser
from search.serving.service import RIGHTS, TermSearchService
from search.serving.snapshot_collector import SnapshotCollector
from search.tuning.drift import ChosenDensity

__all__ = ["OpenIndex", "SearchServerSettings", "build_service", "open_index", "serve"]

log = logging.getLogger(__name__)

_STREAM_CALLS = 8
"""Calls of the stream at once; the job makes at most three."""

_CALLS_IN_TRANSIT = 64
"""How many calls over the limit get an error with a retry time; gRPC itself rejects any more."""


@dataclass(frozen=True, eq=False)
class SearchServerSettings:
    """The settings of the search server."""

    listen: Listen
    folder: Path
    """The folder of the index's generations (`search.index.generations`); it is made when it is missing."""
    terms: TermSettings
    code: CodeSettings
    search_dimension: int
    score_dimension: int
    ranking: Ranking = DEFAULT_RANKING
    """How candidates are chosen and ordered."""
    index_sync: bool = True
    """Whether writes wait for the disk. Without it, only a crash of the machine can lose acknowledged records."""
    max_postings: int = DEFAULT_MAX_POSTINGS
    """The most postings that one search touches."""
    background_bytes_per_s: float = DEFAULT_BACKGROUND_BYTES_PER_S
    """The most bytes of segments that sealing and merging each write in a second; 0 sets no limit."""
    chosen: ChosenDensity | None = None
    """The density that the terms were chosen for."""
    admission: AdmissionPolicy = field(default_factory=AdmissionPolicy)
    """How much each caller class may ask for."""
    signal: str = ""
    """The signal and its embeddings, as files of images name them (`manifests.metadata`)."""
    load_rows_per_s: float = 0.0
    """The most rows of a first load in a second; 0 sets no limit."""

    def __post_init__(self) -> None:
        """Checks that the dimensions agree, and that at least one answer fits into a message."""
        if self.terms.dimension != self.search_dimension:
            raise SettingsError(
                f"terms need {self.terms.dimension} elements, search embeddings have {self.search_dimension}"
            )
        if self.code.dimension != self.score_dimension:
            raise SettingsError(
                f"codes need {self.code.dimension} elements, score embeddings have {self.score_dimension}"
            )
        self.ranking.for_codes(self.code.bits)
        limits, page = self.limits, max(self.ranking.candidates, FURTHER)
        if limits.max_items < 1 or limits.max_candidates < page:
            raise SettingsError(
                f"an answer with {page} candidates may not fit into max_message_bytes "
                f"({self.listen.max_message_bytes}): raise it, or lower candidates"
            )

    @property
    def limits(self) -> SearchLimits:
        """What one call may ask for."""
        return SearchLimits(
            max_message_bytes=self.listen.max_message_bytes,
            groups=self.terms.groups,
            ranking=self.ranking.for_codes(self.code.bits),
            code_bytes=self.code.code_bytes,
            max_postings=self.max_postings,
        )

    @property
    def snapshots(self) -> Path:
        """The folder for snapshots: beside that of the index."""
        return self.folder.with_name(f"{self.folder.name}-snapshots")


def index_settings(settings: SearchServerSettings, extractor: TermExtractor, coder: ScoreCodes) -> IndexSettings:
    """The settings of the index, with its identity."""
    described = {f"terms.{name}": value for name, value in settings.terms.describe().items()}
    described |= {f"code.{name}": value for name, value in settings.code.describe().items()}
    return IndexSettings(
        groups=settings.terms.groups,
        bits_per_group=settings.terms.bits_per_group,
        code_bytes=settings.code.code_bytes,
        identity=Identity(extractor.fingerprint, coder.fingerprint, described, extractor.former_fingerprint),
        ranking=settings.ranking.for_codes(settings.code.bits),
        sync=settings.index_sync,
        max_postings=settings.max_postings,
        background_bytes_per_s=settings.background_bytes_per_s,
        background_process=True,
    )


def load_task(settings: SearchServerSettings, index: IndexSettings, request: LoadRequest) -> LoadTask:
    """What a first load needs to know; it can be sent to another process."""
    sendable = replace(index, identity=replace(index.identity, former_terms=None))
    return LoadTask(
        request, settings.folder, sendable, settings.signal, settings.terms, settings.code, settings.load_rows_per_s
    )


@dataclass(frozen=True, eq=False)
class OpenIndex:
    """An open index and its generation. The generation is read once, so that all parts mean the same one."""

    index: TermIndex
    generations: IndexGenerations
    generation: Generation
    identity: Identity
    loads: Loads
    """The first load, which goes on if it was under way."""

    @property
    def folder(self) -> Path:
        """The folder of the open generation."""
        return self.generations.folder(self.generation)

    def close(self) -> None:
        """Ends the process that loads, and closes the index."""
        self.loads.close()
        self.index.close()

    def watch(self, switched: Callable[[], None]) -> GenerationWatch:
        """A watch that calls `switched` when another generation serves, also if it was switched during opening."""
        return GenerationWatch(self.generations, self.generation, self.identity, switched)


def open_index(settings: SearchServerSettings, extractor: TermExtractor, coder: ScoreCodes) -> OpenIndex:
    """Opens the serving generation of the index, or makes the first one.

    Raises:
        IndexLockedError: Another process has it open.
        MismatchError: It was made for other settings; the message has both values.
        IndexDamagedError: Its files are damaged.
    """
    told = index_settings(settings, extractor, coder)
    generations = IndexGenerations(settings.folder)
    generation = generations.serving(told.identity)
    index = open_term_index(generations.folder(generation), told)
    try:
        task = partial(load_task, settings, told)
        loads = Loads(generations, generation.name, told.identity, task, lambda: index.position)
    except BaseException:  # also an interrupt must close the index
        index.close()
        raise
    return OpenIndex(index, generations, generation, told.identity, loads)


def build_service(
    settings: SearchServerSettings,
    opened: OpenIndex,
    extractor: TermExtractor,
    coder: ScoreCodes,
    registry: CollectorRegistry,
    on_broken: Callable[[], None],
) -> TermSearchService:
    """The methods of the server. The kernels are compiled and the metrics are registered when this returns.

    Args:
        settings: Limits, rates, and who may call.
        opened: The index that is served.
        extractor: Makes the terms.
        coder: Makes the score codes.
        registry: What the metrics page shows.
        on_broken: Called when the index must be opened again before it can do anything more.
    """
    index = opened.index
    metrics = SearchMetrics(registry, index, settings.chosen)
    registry.register(LoadCollector(opened.loads))
    parser = RequestParser(extractor, coder)
    parser.warm_up()
    warm_up()
    guard = CallGuard(Admission(settings.admission), metrics, settings.listen.access)
    admin = IndexAdmin(index, opened.folder, settings.snapshots, settings.chosen, opened.loads)
    return TermSearchService(index, parser, metrics, guard, settings.limits, admin, on_broken)


def serve(settings: SearchServerSettings) -> None:
    """Runs the server until SIGTERM or SIGINT. Main thread only.

    Raises:
        IndexLockedError: Another process has the index open.
        MismatchError: The index was made for other settings.
        IndexDamagedError: The index's files are damaged.
        UnavailableError: A port is taken.
        IndexBrokenError: The index failed after a write. It can be opened again, nothing is lost.
    """
    started = time.monotonic()
    use_one_blas_thread()
    extractor, coder = settings.terms.build(), settings.code.build()
    opened = open_index(settings, extractor, coder)
    broken = threading.Event()

    def stop_broken() -> None:
        if not broken.is_set():
            broken.set()
            log.critical("the index in memory differs from its log: the server stops, so that it is opened again")
            _stop_this()

    try:
        registry = CollectorRegistry()
        registry.register(DiskCollector({"index": settings.folder, "index-snapshots": settings.snapshots}))
        registry.register(SnapshotCollector(settings.snapshots))
        service = build_service(settings, opened, extractor, coder, registry, stop_broken)
        _log_start(opened, settings, extractor, coder, time.monotonic() - started)
        server = RpcServer(
            "search",
            _listen(settings),
            lambda grpc_server: search_pb2_grpc.add_TermSearchServicer_to_server(service, grpc_server),
            registry,
            RIGHTS,
        )
        with opened.watch(_stop_this):
            server.run_until_stopped(opened.close)
    finally:
        opened.close()
    if broken.is_set():
        raise IndexBrokenError("the index failed after a write: start the server again, nothing is lost")


def _stop_this() -> None:
    # The supervisor starts the server again. It then opens the serving generation, which replays the log.
    os.kill(os.getpid(), signal.SIGTERM)


def _listen(settings: SearchServerSettings) -> Listen:
    """With a thread for every call, so that calls that wait for their turn leave one to the stream."""
    most = settings.admission.most_calls + _STREAM_CALLS + _CALLS_IN_TRANSIT
    return replace(settings.listen, workers=max(settings.listen.workers, most), max_calls=most)


def _log_start(
    opened: OpenIndex,
    settings: SearchServerSettings,
    extractor: TermExtractor,
    coder: ScoreCodes,
    seconds: float,
) -> None:
    index, position = opened.index, opened.index.position
    log.info(
        "search server opened its index %s",
        json.dumps(
            {
                "folder": str(opened.folder),
                "log_id": position.log_id,
                "offset": position.offset,
                "images": index.images,
                "index_bytes": index.disk_bytes,
                "index_version": index_version(extractor.fingerprint, settings.max_postings, settings.limits.ranking),
                "terms": settings.terms.describe(),
                "ranking": settings.ranking.describe(),
                "terms_fingerprint": extractor.fingerprint,
                "code": settings.code.describe(),
                "code_fingerprint": coder.fingerprint,
                "max_items": settings.limits.max_items,
                "sync": settings.index_sync,
                "seconds": round(seconds, 3),
            }
        ),
    )
