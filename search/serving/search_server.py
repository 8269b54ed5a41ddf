"""The term search server: gRPC around a `TermIndex`. One call writes at a time, any number read meanwhile."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from prometheus_client import CollectorRegistry

from search.callers import Admission, AdmissionPolicy
from search.errors import SettingsError
from search.index.errors import IndexBrokenError
from search.index.folder import Identity
from search.index.interface import TermIndex
from search.index.opening import open_term_index, warm_up
from search.index.settings import IndexSettings
from search.notifications import MAX_ID_BYTES
from search.projection import CodeSettings, Hyperplanes
from search.serving import search_pb2_grpc
from search.serving.blas import use_one_blas_thread
from search.serving.rpc import Listen, RpcServer
from search.serving.search_gate import SearchGate
from search.serving.search_intake import SearchIntake
from search.serving.search_messages import index_version
from search.serving.search_metrics import SearchMetrics
from search.serving.search_service import TermSearchService
from search.terms import TermExtractor, TermSettings

__all__ = ["SearchServerSettings", "build_service", "open_index", "serve"]

log = logging.getLogger(__name__)

_STREAM_WORKERS = 8
"""Threads that calls of other classes never hold; the job makes three calls at once at most."""

_CALLS_IN_TRANSIT = 64
"""Calls beyond those inside and waiting that get an answer of ours; more are cut off by gRPC itself."""

MAX_ENTRIES = 1024
"""Entries or queries of one call at most; fewer where their answer might not fit into a message."""

_CANDIDATE_BYTES = MAX_ID_BYTES + 16
"""The most bytes of one candidate in an answer, but for its code."""

_ANSWER_BYTES = 128
"""The most bytes of an answer, but for candidates and code."""


@dataclass(frozen=True, eq=False)
class SearchServerSettings:
    """Everything the search server is told."""

    listen: Listen
    folder: Path
    """Of the index; made when it is not there."""
    terms: TermSettings
    code: CodeSettings
    search_dimension: int
    score_dimension: int
    index_sync: bool = True
    """Whether the index waits for the disk before it acknowledges; without it only a crash of the machine matters."""
    admission: AdmissionPolicy = field(default_factory=AdmissionPolicy)
    """How much each class of callers may ask for."""
    token: str = field(default="", repr=False)
    """What people's writes must bring; empty: they are off."""

    def __post_init__(self) -> None:
        """Checks the dimensions against each other, and that at least one answer fits into a message."""
        if self.terms.dimension != self.search_dimension:
            raise SettingsError(
                f"terms are made of {self.terms.dimension} elements, search embeddings have {self.search_dimension}"
            )
        if self.code.dimension != self.score_dimension:
            raise SettingsError(
                f"codes are made of {self.code.dimension} elements, score embeddings have {self.score_dimension}"
            )
        if self.max_entries < 1:
            raise SettingsError(
                f"an answer with {self.terms.candidates} candidates may not fit into max_message_bytes "
                f"({self.listen.max_message_bytes}): raise it, or lower candidates"
            )

    @property
    def max_entries(self) -> int:
        """Entries or queries of one call at most, so that the answer fits into a message."""
        code_bytes = self.code.code_bytes
        answer = _ANSWER_BYTES + code_bytes + self.terms.candidates * (_CANDIDATE_BYTES + code_bytes)
        return min(MAX_ENTRIES, self.listen.max_message_bytes // answer)


def open_index(settings: SearchServerSettings, extractor: TermExtractor, hyperplanes: Hyperplanes) -> TermIndex:
    """Opens the index of a server, or makes it.

    Raises:
        IndexLockedError: Another process has it open.
        MismatchError: It was made for other settings; the message has both values.
        IndexDamagedError: Its files are damaged.
    """
    described = {f"terms.{name}": value for name, value in settings.terms.describe().items()}
    described |= {f"code.{name}": value for name, value in settings.code.describe().items()}
    return open_term_index(
        settings.folder,
        IndexSettings(
            groups=settings.terms.groups,
            bits_per_group=settings.terms.bits_per_group,
            min_overlap=settings.terms.min_overlap,
            candidates=settings.terms.candidates,
            code_bytes=settings.code.code_bytes,
            identity=Identity(extractor.fingerprint, hyperplanes.fingerprint, described),
            sync=settings.index_sync,
        ),
    )


def build_service(
    settings: SearchServerSettings,
    index: TermIndex,
    extractor: TermExtractor,
    hyperplanes: Hyperplanes,
    registry: CollectorRegistry,
    on_broken: Callable[[], None],
) -> TermSearchService:
    """The methods of the server, warmed up; their metrics are registered.

    Args:
        settings: Limits, rates and token.
        index: What is served.
        extractor: Makes the terms.
        hyperplanes: Make the score codes.
        registry: What the metrics page shows.
        on_broken: Called when the index can do nothing more until it is opened anew.
    """
    metrics = SearchMetrics(registry, index)
    intake = SearchIntake(extractor, hyperplanes)
    intake.warm_up()
    warm_up()
    gate = SearchGate(Admission(settings.admission), metrics, settings.token)
    return TermSearchService(index, intake, metrics, gate, settings.max_entries, on_broken)


def serve(settings: SearchServerSettings) -> None:
    """Runs the server until SIGTERM or SIGINT. Main thread only.

    Raises:
        IndexLockedError: Another process has the index open.
        MismatchError: The index was made for other settings.
        IndexDamagedError: The index's files are damaged.
        UnavailableError: A port is taken.
        IndexBrokenError: The index had to be given up after a write; it opens again whole.
    """
    started = time.monotonic()
    use_one_blas_thread()
    extractor, hyperplanes = settings.terms.build(), settings.code.build()
    index = open_index(settings, extractor, hyperplanes)
    broken = threading.Event()

    def stop_broken() -> None:
        # The supervisor starts the server again, and opening replays what was written.
        if not broken.is_set():
            broken.set()
            log.critical("the index differs from its log: the server stops, to open it anew")
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        registry = CollectorRegistry()
        service = build_service(settings, index, extractor, hyperplanes, registry, stop_broken)
        _log_start(settings, index, extractor, hyperplanes, time.monotonic() - started)
        server = RpcServer(
            "search",
            _listen(settings),
            lambda grpc_server: search_pb2_grpc.add_TermSearchServicer_to_server(service, grpc_server),
            registry,
        )
        server.run_until_stopped(index.close)
    finally:
        index.close()
    if broken.is_set():
        raise IndexBrokenError("the index failed after a write; it opens again whole")


def _listen(settings: SearchServerSettings) -> Listen:
    """With a thread for every call that may be inside or wait, and some that only the stream gets."""
    most = settings.admission.most_calls + _STREAM_WORKERS
    return replace(settings.listen, workers=max(settings.listen.workers, most), max_calls=most + _CALLS_IN_TRANSIT)


def _log_start(
    settings: SearchServerSettings,
    index: TermIndex,
    extractor: TermExtractor,
    hyperplanes: Hyperplanes,
    seconds: float,
) -> None:
    position = index.position
    log.info(
        "search server opened its index %s",
        json.dumps(
            {
                "folder": str(settings.folder),
                "log_id": position.log_id,
                "offset": position.offset,
                "images": index.images,
                "log_bytes": index.disk_bytes,
                "index_version": index_version(extractor.fingerprint),
                "terms": settings.terms.describe(),
                "terms_fingerprint": extractor.fingerprint,
                "code": settings.code.describe(),
                "code_fingerprint": hyperplanes.fingerprint,
                "max_entries": settings.max_entries,
                "sync": settings.index_sync,
                "seconds": round(seconds, 3),
            }
        ),
    )
