"""The methods of `TermSearch` over any `TermIndex`: limits, admission, conversion, metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

import grpc

from core.access import Right
from core.first_loads import LoadReport
from core.load_messages import load_fields, read_load_request
from core.log_epochs import check_base
from core.notifications import RECORD_KINDS
from core.types import ImageId
from search.index.errors import IndexBrokenError
from search.index.interface import TermIndex
from search.serving import search_pb2 as pb
from search.serving import search_pb2_grpc
from search.serving.admission import Caller
from search.serving.call_guard import CallGuard
from search.serving.index_admin import IndexAdmin
from search.serving.known_kinds import check_known
from search.serving.limits import SearchLimits
from search.serving.messages import (
    fill_answer,
    fill_candidates,
    fill_terms,
    index_version,
    stored_message,
)
from search.serving.metrics import SearchMetrics
from search.serving.queries import more_query, term_queries
from search.serving.request_parser import RequestParser

__all__ = ["RIGHTS", "TermSearchService"]

RIGHTS: Mapping[str, Right] = MappingProxyType(
    {
        **dict.fromkeys(("Describe", "Search", "SearchMore", "Get", "List", "Stats", "LoadStatus"), Right.READ),
        # People may hide too, with the write key: `Hide` itself asks who calls.
        "Hide": Right.READ,
        "Delete": Right.WRITE,
        "Snapshot": Right.WRITE,
        **dict.fromkeys(("Load", "AbortLoad", "AdoptLoad"), Right.REQUIRE),
        "InsertAndSearch": Right.STREAM,
        "Release": Right.STREAM,
        "Renew": Right.STREAM,
    }
)
"""What each method needs."""

log = logging.getLogger(__name__)

_MAX_LOAD_TEXT_BYTES = 4096


class TermSearchService(search_pb2_grpc.TermSearchServicer):
    """The methods of the server. They raise errors of `core.errors`, which `core.rpc` turns into status codes."""

    def __init__(
        self,
        index: TermIndex,
        parser: RequestParser,
        metrics: SearchMetrics,
        guard: CallGuard,
        limits: SearchLimits,
        admin: IndexAdmin,
        on_broken: Callable[[], None],
    ) -> None:
        """Takes its parts.

        Args:
            index: The index that is served.
            parser: Checks and hashes requests.
            metrics: Count calls and searches.
            guard: Admits calls and checks rights.
            limits: What one call may ask for.
            admin: Statistics, snapshots, releases, the first load.
            on_broken: Called when the index must be opened again before it can do anything more.
        """
        self._index = index
        self._parser = parser
        self._metrics = metrics
        self._guard = guard
        self._limits = limits
        self._index_version = index_version(parser.extractor.fingerprint, limits.max_postings, limits.ranking)
        self._admin = admin
        self._on_broken = on_broken

    def InsertAndSearch(  # noqa: N802 - the name that the proto gives
        self, request: pb.InsertAndSearchRequest, context: grpc.ServicerContext
    ) -> pb.InsertAndSearchResponse:
        """Applies the records that are new, and searches for all."""
        with self._items("InsertAndSearch", len(request.entries), context):
            check_known(request)
            if request.HasField("base"):
                check_base(self._index.position, request.log_id, request.base)
            records = self._parser.records(request.entries)
            self._metrics.batch.observe(len(records))
            with self._watched():
                answers = self._index.insert_and_search(request.log_id, records)
            self._metrics.answered(records, answers)
            response = pb.InsertAndSearchResponse(index_version=self._index_version)
            for entry, answer in zip(request.entries, answers, strict=True):
                message = response.answers.add()
                fill_answer(message, answer)
                if entry.trace:
                    fill_terms(message.terms, answer.terms)
            return response

    def SearchMore(  # noqa: N802 - the name that the proto gives
        self, request: pb.SearchMoreRequest, context: grpc.ServicerContext
    ) -> pb.SearchMoreResponse:
        """The next candidates of images already inserted."""
        with self._items("SearchMore", len(request.queries), context):
            self._limits.check_more(request.queries)
            found = self._index.search_more([more_query(query) for query in request.queries])
            self._metrics.searched("more", found)
            response = pb.SearchMoreResponse()
            for one in found:
                fill_candidates(response.answers.add(), one)
            return response

    def Hide(  # noqa: N802 - the name that the proto gives
        self, request: pb.HideRequest, context: grpc.ServicerContext
    ) -> pb.HideResponse:
        """Hides an inserted image from all later places."""
        with self._items("Hide", 1, context) as caller, self._watched():
            if caller is not Caller.STREAM:
                self._guard.check(context, Right.WRITE)
            self._index.hide(request.place)
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
                index_version=self._index_version,
                terms_fingerprint=self._parser.extractor.fingerprint,
                code_fingerprint=self._parser.coder.fingerprint,
                code_bytes=self._parser.coder.code_bytes,
                images=self._index.images,
                base=position.base,
                released=self._index.released,
                kinds=RECORD_KINDS,
                load=self._admin.loads.live,
            )

    def Search(  # noqa: N802 - the name that the proto gives
        self, request: pb.SearchRequest, context: grpc.ServicerContext
    ) -> pb.SearchResponse:
        """Searches that insert nothing."""
        with self._items("Search", len(request.queries), context):
            queries = term_queries(request.queries, self._parser, self._index, self._limits)
            found = self._index.search([query for query in queries if query is not None])
            self._metrics.searched("free", found)
            response = pb.SearchResponse(index_version=self._index_version)
            answers = iter(found)
            for asked, query in zip(request.queries, queries, strict=True):
                answer = response.answers.add(known=query is not None)
                if query is not None:
                    fill_candidates(answer.candidates, next(answers))
                    if asked.with_terms:
                        fill_terms(answer.terms, query.terms)
            return response

    def Get(  # noqa: N802 - the name that the proto gives
        self, request: pb.GetRequest, context: grpc.ServicerContext
    ) -> pb.GetResponse:
        """What the index knows of images."""
        with self._items("Get", len(request.image_ids) + len(request.places), context):
            found = self._index.get([ImageId(image_id) for image_id in request.image_ids])
            listed = self._index.list_at(request.places)
            return pb.GetResponse(
                images=[stored_message(each) for each in found if each is not None],
                listed=[stored_message(each) for each in listed if each is not None],
            )

    def List(  # noqa: N802 - the name that the proto gives
        self, request: pb.ListRequest, context: grpc.ServicerContext
    ) -> pb.ListResponse:
        """A page of what the index holds now."""
        limit = request.limit or self._limits.max_items
        with self._items("List", limit, context):
            page = self._index.list_page(request.after, limit, request.share or None)
            return pb.ListResponse(
                images=map(stored_message, page.entries), through=page.through, complete=page.complete
            )

    def Delete(  # noqa: N802 - the name that the proto gives
        self, request: pb.DeleteRequest, context: grpc.ServicerContext
    ) -> pb.DeleteResponse:
        """Hides images by hand, in this index alone: see the proto for what that does not do."""
        with self._items("Delete", len(request.image_ids), context), self._watched():
            deleted = self._index.delete([ImageId(image_id) for image_id in request.image_ids])
            self._metrics.deleted.inc(sum(deleted))
            return pb.DeleteResponse(deleted=deleted)

    def Stats(  # noqa: N802 - the name that the proto gives
        self, request: pb.StatsRequest, context: grpc.ServicerContext
    ) -> pb.StatsResponse:
        """What the index holds, and how dense it is."""
        with self._metrics.call("Stats"):
            return self._admin.stats()

    def Snapshot(  # noqa: N802 - the name that the proto gives
        self, request: pb.SnapshotRequest, context: grpc.ServicerContext
    ) -> pb.SnapshotResponse:
        """A consistent copy beside the index."""
        with self._metrics.call("Snapshot"):
            return self._admin.snapshot(request.name)

    def Release(  # noqa: N802 - the name that the proto gives
        self, request: pb.ReleaseRequest, context: grpc.ServicerContext
    ) -> pb.ReleaseResponse:
        """Storage has passed an offset."""
        with self._metrics.call("Release"), self._watched():
            self._admin.release(request.log_id, request.offset)
            return pb.ReleaseResponse()

    def Renew(  # noqa: N802 - the name that the proto gives
        self, request: pb.RenewRequest, context: grpc.ServicerContext
    ) -> pb.RenewResponse:
        """Goes on with another log."""
        with self._items("Renew", 1, context), self._watched():
            position = self._index.renew(request.log_id, request.base)
            log.warning("the index goes on with the log %s, from position %d on", position.log_id, position.base)
            return pb.RenewResponse(offset=position.offset)

    def Load(  # noqa: N802 - the name that the proto gives
        self, request: pb.LoadRequest, context: grpc.ServicerContext
    ) -> pb.LoadStatusResponse:
        """Begins the first load."""
        with self._metrics.call("Load"):
            return pb.LoadStatusResponse(
                **load_fields(self._admin.loads.begin(read_load_request(request, _MAX_LOAD_TEXT_BYTES)))
            )

    def LoadStatus(  # noqa: N802 - the name that the proto gives
        self, request: pb.LoadStatusRequest, context: grpc.ServicerContext
    ) -> pb.LoadStatusResponse:
        """How far the load is."""
        with self._metrics.call("LoadStatus"):
            return _load_status(self._admin.loads.report)

    def AbortLoad(  # noqa: N802 - the name that the proto gives
        self, request: pb.AbortLoadRequest, context: grpc.ServicerContext
    ) -> pb.LoadStatusResponse:
        """Ends a load that is not live."""
        with self._metrics.call("AbortLoad"):
            return _load_status(self._admin.loads.abort(request.manifest_id))

    def AdoptLoad(  # noqa: N802 - the name that the proto gives
        self, request: pb.AdoptLoadRequest, context: grpc.ServicerContext
    ) -> pb.LoadStatusResponse:
        """Makes the index of a load that is ready the one that serves."""
        with self._metrics.call("AdoptLoad"):
            return pb.LoadStatusResponse(
                **load_fields(self._admin.loads.adopt(request.manifest_id, request.log_id, request.base))
            )

    @contextmanager
    def _items(self, method: str, items: int, context: grpc.ServicerContext) -> Iterator[Caller]:
        """Counts a call, checks how much it asks for and admits it; gives its caller class."""
        with self._metrics.call(method):
            self._limits.check_items(items)
            with self._guard.enter(context, items) as caller:
                yield caller

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Reports a write that leaves the index unable to go on."""
        try:
            yield
        except IndexBrokenError:
            self._on_broken()
            raise


def _load_status(report: LoadReport | None) -> pb.LoadStatusResponse:
    return pb.LoadStatusResponse(**load_fields(report))
