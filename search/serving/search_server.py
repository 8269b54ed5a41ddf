"""The term search server: gRPC around a `TermIndex`. One call writes at a time, any number read meanwhile."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
from prometheus_client import CollectorRegistry

from search.errors import BadInputError, SettingsError
from search.index.errors import IndexBrokenError
from search.index.folder import Identity
from search.index.interface import NO_PLACE, Answer, Found, MoreQuery, TermIndex
from search.index.opening import open_term_index, warm_up
from search.index.settings import IndexSettings
from search.notifications import MAX_ID_BYTES
from search.projection import CodeSettings, Hyperplanes
from search.serving import search_pb2 as pb
from search.serving import search_pb2_grpc
from search.serving.blas import use_one_blas_thread
from search.serving.rpc import Listen, RpcServer
from search.serving.search_intake import SearchIntake
from search.serving.search_metrics import SearchMetrics
from search.terms import TermExtractor, TermSettings

__all__ = ["SearchServerSettings", "TermSearchService", "index_version", "open_index", "serve"]

log = logging.getLogger(__name__)

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


class TermSearchService(search_pb2_grpc.TermSearchServicer):
    """The methods of `TermSearch`; they raise errors of `search.errors`, which the server's edge maps."""

    def __init__(
        self,
        index: TermIndex,
        extractor: TermExtractor,
        hyperplanes: Hyperplanes,
        metrics: SearchMetrics,
        max_entries: int,
        on_broken: Callable[[], None],
    ) -> None:
        """Takes its parts.

        Args:
            index: Follows the log.
            extractor: Makes the terms; its fingerprint names the index version.
            hyperplanes: Make the score codes.
            metrics: Count.
            max_entries: Entries or queries of one call at most.
            on_broken: Called when the index can do nothing more until it is opened anew.
        """
        self._index = index
        self._terms_fingerprint = extractor.fingerprint
        self._hyperplanes = hyperplanes
        self._intake = SearchIntake(extractor, hyperplanes)
        self._metrics = metrics
        self._max_entries = max_entries
        self._on_broken = on_broken

    def InsertAndSearch(  # noqa: N802 - the name that the proto gives
        self, request: pb.InsertAndSearchRequest, context: grpc.ServicerContext
    ) -> pb.InsertAndSearchResponse:
        """Applies the records that are new, and searches for all."""
        with self._metrics.call("InsertAndSearch"):
            self._check_size(len(request.entries))
            records = self._intake.records(request.entries)
            self._metrics.batch.observe(len(records))
            try:
                answers = self._index.insert_and_search(request.log_id, records)
            except IndexBrokenError:
                self._on_broken()
                raise
            self._count(answers)
            return pb.InsertAndSearchResponse(
                answers=[_answer(answer) for answer in answers], index_version=index_version(self._terms_fingerprint)
            )

    def SearchMore(  # noqa: N802 - the name that the proto gives
        self, request: pb.SearchMoreRequest, context: grpc.ServicerContext
    ) -> pb.SearchMoreResponse:
        """The next candidates of images already inserted."""
        with self._metrics.call("SearchMore"):
            self._check_size(len(request.queries))
            found = self._index.search_more([MoreQuery(query.place, query.after) for query in request.queries])
            self._metrics.searched("more", found)
            return pb.SearchMoreResponse(answers=[_candidates(one) for one in found])

    def Hide(  # noqa: N802 - the name that the proto gives
        self, request: pb.HideRequest, context: grpc.ServicerContext
    ) -> pb.HideResponse:
        """Hides an inserted image from all later places."""
        with self._metrics.call("Hide"):
            try:
                self._index.hide(request.place)
            except IndexBrokenError:
                self._on_broken()
                raise
            self._metrics.hidden.inc()
            return pb.HideResponse()

    def Describe(  # noqa: N802 - the name that the proto gives
        self, request: pb.DescribeRequest, context: grpc.ServicerContext
    ) -> pb.DescribeResponse:
        """Position, versions and size of the index."""
        with self._metrics.call("Describe"):
            position = self._index.position
            return pb.DescribeResponse(
                log_id=position.log_id,
                offset=position.offset,
                checksum=position.checksum,
                index_version=index_version(self._terms_fingerprint),
                terms_fingerprint=self._terms_fingerprint,
                code_fingerprint=self._hyperplanes.fingerprint,
                code_bytes=self._hyperplanes.code_bytes,
                images=self._index.images,
            )

    def warm_up(self) -> None:
        """Does everything once that is slow the first time."""
        self._intake.warm_up()
        warm_up()

    def _check_size(self, items: int) -> None:
        if items > self._max_entries:
            raise BadInputError(f"a call takes at most {self._max_entries} items, not {items}")

    def _count(self, answers: list[Answer]) -> None:
        self._metrics.searched(
            "record",
            [answer.found for answer in answers if answer.place != NO_PLACE and not answer.superseded],
        )
        self._metrics.skipped.inc(sum(answer.place == NO_PLACE for answer in answers))
        self._metrics.superseded.inc(sum(answer.superseded for answer in answers))


def index_version(terms_fingerprint: str) -> str:
    """How verdicts name the index they were made with."""
    return terms_fingerprint[:12]


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
        service = TermSearchService(
            index, extractor, hyperplanes, SearchMetrics(registry, index), settings.max_entries, stop_broken
        )
        service.warm_up()
        _log_start(settings, index, extractor, hyperplanes, time.monotonic() - started)
        server = RpcServer(
            "search",
            settings.listen,
            lambda grpc_server: search_pb2_grpc.add_TermSearchServicer_to_server(service, grpc_server),
            registry,
        )
        server.run_until_stopped(index.close)
    finally:
        index.close()
    if broken.is_set():
        raise IndexBrokenError("the index failed after a write; it opens again whole")


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


def _answer(answer: Answer) -> pb.Answer:
    return pb.Answer(
        offset=answer.offset,
        place=answer.place,
        score_code=answer.code,
        candidates=_candidates(answer.found),
        superseded=answer.superseded,
    )


def _candidates(found: Found) -> pb.Candidates:
    return pb.Candidates(
        image_ids=found.image_ids,
        overlaps=found.overlaps.astype("<u2", copy=False).tobytes(),
        places=found.places.astype("<i8", copy=False).tobytes(),
        score_codes=np.ascontiguousarray(found.codes).tobytes(),
        exhausted=found.exhausted,
    )
