"""The methods of `ClusterStorage` over any `ClusterStore`: limits, conversion, metrics, errors."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

import grpc

from core.access import Right
from core.errors import BadInputError, UnavailableError
from core.few import one_of_few
from core.load_messages import load_fields, read_load_request
from core.types import ImageId
from storage.arrivals import earliest_arrival
from storage.embeddings import embedding_pages
from storage.errors import ContradictionError, StorageError
from storage.forgotten import erasure_counts, forgotten_images
from storage.interfaces import ClusterStore
from storage.limits import MAX_DECISIONS, MAX_LOOK_UP, MAX_NAMED, MAX_NAMED_WITH_VECTORS, MAX_TEXT_BYTES
from storage.operation_pages import operation_page
from storage.override_pages import override_page
from storage.records import StoreState
from storage.repair import repair
from storage.selecting import named_images, selected_pages
from storage.serving import storage_pb2 as pb
from storage.serving import storage_pb2_grpc
from storage.serving.delta_messages import deltas_message
from storage.serving.forgotten_messages import forgotten_message
from storage.serving.live_delay import LiveDelay
from storage.serving.loads import Loads, no_loads
from storage.serving.messages import (
    describe_message,
    heads_message,
    lookup_message,
    page_message,
    progress_message,
    read_decision,
    written_message,
)
from storage.serving.metrics import StorageMetrics
from storage.serving.operation_messages import operation_page_message
from storage.serving.override_messages import outcome_message, override_page_message, read_override_request
from storage.serving.selection_messages import read_selection, selected_page_message, verdict_message
from storage.unscored import unscored_after
from storage.verify import verify
from storage.written import written_at

__all__ = ["RETRY_AFTER_S", "RIGHTS", "StorageService", "for_callers"]

log = logging.getLogger(__name__)

RIGHTS: Mapping[str, Right] = MappingProxyType(
    {
        **dict.fromkeys(("Apply", "Renew"), Right.STREAM),
        **dict.fromkeys(("RequireKinds", "Load", "AbortLoad", "FinishLoad"), Right.REQUIRE),
        **dict.fromkeys(("Repair", "ApplyOverride", "PauseOperation", "CancelOperation"), Right.WRITE),
        **dict.fromkeys(
            (
                "LookUp",
                "Heads",
                "Describe",
                "LastArrivals",
                "Verify",
                "Embeddings",
                "Unscored",
                "Select",
                "Named",
                "WrittenAt",
                "ListOverrides",
                "Forgotten",
                "ListOperations",
                "LoadStatus",
                "Deltas",
            ),
            Right.READ,
        ),
    }
)
"""What each method needs."""

RETRY_AFTER_S = 1.0
"""How long a caller is asked to wait when the store cannot write or read."""

MAX_SELECTIONS = 4
"""Selections at once. Each holds a thread and a moment of the store for as long as its reader takes."""

MAX_PAGE_BYTES = 1 << 20
"""The bytes of embeddings in one message, about."""


@contextmanager
def for_callers() -> Iterator[None]:
    """Errors of the store as the caller should see them: wait for a problem of the disk, but stop at a bug.

    The operator must repair a disk that is full, missing or damaged. The stream loses nothing by waiting.
    """
    try:
        yield
    except ContradictionError:
        log.exception("a decision contradicts the store")
        raise
    except StorageError as error:
        log.exception("the store failed")
        raise UnavailableError(str(error), RETRY_AFTER_S) from error


class StorageService(storage_pb2_grpc.ClusterStorageServicer):
    """The methods of the server. They raise errors of `core.errors`, which `core.rpc` maps to status codes."""

    def __init__(
        self,
        store: ClusterStore,
        metrics: StorageMetrics,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 10**6,
        loads: Loads | None = None,
        live_delay: LiveDelay | None = None,
    ) -> None:
        """Prepares the methods.

        Args:
            store: What is served.
            metrics: Of the server.
            now_ms: The clock: milliseconds since the epoch.
            loads: Takes the images of manifests; None: it cannot.
            live_delay: Is told of each write; None: nobody else asks it.
        """
        self._store = store
        self._loads = loads or no_loads(store)
        self._metrics = metrics
        self._now_ms = now_ms
        self._verifying = threading.Lock()
        self._reading = threading.Lock()
        self._selections = threading.BoundedSemaphore(MAX_SELECTIONS)
        self._live_delay = live_delay or LiveDelay()
        self._state = store.state()
        self._told = threading.local()
        """What the write of this thread's last decision left first."""
        store.on_apply(self._applied)
        store.on_rename(metrics.renamed)

    def LookUp(  # noqa: N802 - the name that the proto gives
        self, request: pb.LookUpRequest, context: grpc.ServicerContext
    ) -> pb.LookUpResponse:
        """Memberships and clusters, of one moment."""
        with self._metrics.call("LookUp"), for_callers():
            asked = len(request.image_ids) + len(request.verdicts_of)
            if asked > MAX_LOOK_UP:
                raise BadInputError(f"a look-up takes at most {MAX_LOOK_UP} images, not {asked}")
            self._metrics.looked_up.observe(asked)
            ids, verdicts_of = map(ImageId, request.image_ids), list(map(ImageId, request.verdicts_of))
            return lookup_message(self._store.look_up(ids, verdicts_of))

    def Heads(  # noqa: N802 - the name that the proto gives
        self, request: pb.HeadsRequest, context: grpc.ServicerContext
    ) -> pb.HeadsResponse:
        """The heads of images."""
        asked = len(request.image_ids)
        if asked > MAX_LOOK_UP:
            raise BadInputError(f"a call takes at most {MAX_LOOK_UP} images, not {asked}")
        with self._metrics.call("Heads"), for_callers():
            self._metrics.looked_up.observe(asked)
            ids = [ImageId(each) for each in request.image_ids]
            return heads_message(ids, self._store.heads(ids))

    def Apply(  # noqa: N802 - the name that the proto gives
        self, request: pb.ApplyRequest, context: grpc.ServicerContext
    ) -> pb.ApplyResponse:
        """Writes decisions, all or nothing."""
        with self._metrics.call("Apply"), for_callers():
            if len(request.decisions) > MAX_DECISIONS:
                raise BadInputError(f"a write takes at most {MAX_DECISIONS} decisions, not {len(request.decisions)}")
            decisions = [read_decision(message) for message in request.decisions]
            self._told.first = None
            position = self._store.apply(request.log_id, decisions, request.offset, request.revision, request.kinds)
            # An override that was applied right behind the decisions has entries of its own.
            written = self._told.first or self._state
            now_ms = self._now_ms()
            self._metrics.written(decisions, now_ms)
            self._live_delay.written(decisions, now_ms)
            return pb.ApplyResponse(offset=position.offset, history_number=written.history_number)

    def Describe(  # noqa: N802 - the name that the proto gives
        self, request: pb.DescribeRequest, context: grpc.ServicerContext
    ) -> pb.DescribeResponse:
        """Position and counts."""
        with self._metrics.call("Describe"), for_callers(), self._store.snapshot() as view:
            delay_ms = self._live_delay.at(self._now_ms())
            return describe_message(view.state(), view.published(), delay_ms, view.first_load())

    def Renew(  # noqa: N802 - the name that the proto gives
        self, request: pb.RenewRequest, context: grpc.ServicerContext
    ) -> pb.RenewResponse:
        """Goes on with another log."""
        with self._metrics.call("Renew"), for_callers():
            position = self._store.renew(request.log_id, request.base)
            log.warning("the store goes on with the log %s, from position %d on", position.log_id, position.base)
            return pb.RenewResponse(offset=position.offset)

    def RequireKinds(  # noqa: N802 - the name that the proto gives
        self, request: pb.RequireKindsRequest, context: grpc.ServicerContext
    ) -> pb.RequireKindsResponse:
        """Makes sure that the job knows these kinds of records, now and later."""
        with self._metrics.call("RequireKinds"), for_callers():
            self._store.require_kinds(request.kinds)
            return pb.RequireKindsResponse()

    def LastArrivals(  # noqa: N802 - the name that the proto gives
        self, request: pb.LastArrivalsRequest, context: grpc.ServicerContext
    ) -> pb.LastArrivalsResponse:
        """When the images applied last had arrived."""
        with self._metrics.call("LastArrivals"), for_callers(), self._store.snapshot() as view:
            return pb.LastArrivalsResponse(earliest_ms=earliest_arrival(view, request.images))

    def Verify(  # noqa: N802 - the name that the proto gives
        self, request: pb.VerifyRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.VerifyProgress]:
        """Checks the whole store on a snapshot. One check runs at a time."""
        with self._one_check(), self._metrics.call("Verify"), for_callers(), self._store.snapshot() as view:
            for progress in verify(view):
                yield progress_message(progress)

    def Repair(  # noqa: N802 - the name that the proto gives
        self, request: pb.VerifyRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.VerifyProgress]:
        """Checks the whole store, and mends it."""
        with self._one_check(), self._metrics.call("Repair"), for_callers():
            for progress in repair(self._store):
                yield progress_message(progress)

    @contextmanager
    def _one_check(self) -> Iterator[None]:
        if not self._verifying.acquire(blocking=False):
            raise UnavailableError("another check of the store is running", RETRY_AFTER_S)
        try:
            yield
        finally:
            self._verifying.release()

    def Embeddings(  # noqa: N802 - the name that the proto gives
        self, request: pb.EmbeddingsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.EmbeddingsPage]:
        """All embeddings of one moment. One reading runs at a time."""
        page_bytes = min(request.page_bytes or MAX_PAGE_BYTES, MAX_PAGE_BYTES)
        with (
            one_of_few(self._reading, "another reading of all embeddings is running", RETRY_AFTER_S),
            self._metrics.call("Embeddings"),
            for_callers(),
            self._store.snapshot() as view,
        ):
            for page in embedding_pages(view, page_bytes):
                yield page_message(page)

    def Unscored(  # noqa: N802 - the name that the proto gives
        self, request: pb.UnscoredRequest, context: grpc.ServicerContext
    ) -> pb.UnscoredResponse:
        """Places of unscored images, as far as one call looks."""
        with self._metrics.call("Unscored"), for_callers(), self._store.snapshot() as view:
            found = unscored_after(view, request.after)
            return pb.UnscoredResponse(places=found.places, through=found.through, complete=found.complete)

    def Select(  # noqa: N802 - the name that the proto gives
        self, request: pb.SelectRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.SelectResponse]:
        """The last verdicts on the images of a selection."""
        try:
            selection = read_selection(request)
        except ValueError as error:
            raise BadInputError(str(error)) from None
        with (
            one_of_few(self._selections, f"{MAX_SELECTIONS} other selections are read: try again", RETRY_AFTER_S),
            self._metrics.call("Select"),
            for_callers(),
            self._store.snapshot() as view,
        ):
            for page in selected_pages(view, selection, MAX_NAMED):
                yield selected_page_message(page)

    def Named(  # noqa: N802 - the name that the proto gives
        self, request: pb.NamedRequest, context: grpc.ServicerContext
    ) -> pb.NamedResponse:
        """The last verdicts on some images."""
        asked, limit = len(request.image_ids), MAX_NAMED_WITH_VECTORS if request.vectors else MAX_NAMED
        if asked > limit:
            raise BadInputError(f"a call takes at most {limit} images, not {asked}")
        with self._metrics.call("Named"), for_callers(), self._store.snapshot() as view:
            ids = map(ImageId, request.image_ids)
            found = named_images(view, ids, vectors=request.vectors, triggers=request.triggers)
            return pb.NamedResponse(images=[verdict_message(each) for each in found])

    def WrittenAt(  # noqa: N802 - the name that the proto gives
        self, request: pb.WrittenAtRequest, context: grpc.ServicerContext
    ) -> pb.WrittenAtResponse:
        """What a record wrote, and what was so before."""
        others = list(map(ImageId, request.others))
        if len(others) > MAX_LOOK_UP:
            raise BadInputError(f"a look-up takes at most {MAX_LOOK_UP} images, not {len(others)}")
        with self._metrics.call("WrittenAt"), for_callers(), self._store.snapshot() as view:
            return written_message(written_at(view, ImageId(request.image_id), request.offset, others))

    def ApplyOverride(  # noqa: N802 - the name that the proto gives
        self, request: pb.ApplyOverrideRequest, context: grpc.ServicerContext
    ) -> pb.ApplyOverrideResponse:
        """Keeps what somebody says of images."""
        said = read_override_request(request)
        with self._metrics.call("ApplyOverride"), for_callers():
            outcome = self._store.override(said, self._now_ms(), dry_run=request.dry_run)
            if outcome.created:
                log.info("override %d: %s by %r", outcome.override.number, said.kind, said.author)
            return outcome_message(outcome)

    def Forgotten(  # noqa: N802 - the name that the proto gives
        self, request: pb.ForgottenRequest, context: grpc.ServicerContext
    ) -> pb.ForgottenResponse:
        """How far images are erased."""
        if len(request.image_ids) > MAX_NAMED:
            raise BadInputError(f"a call takes at most {MAX_NAMED} images, not {len(request.image_ids)}")
        with self._metrics.call("Forgotten"), for_callers():
            found = forgotten_images(self._store, map(ImageId, request.image_ids))
            return forgotten_message(found, erasure_counts(self._store))

    def ListOverrides(  # noqa: N802 - the name that the proto gives
        self, request: pb.ListOverridesRequest, context: grpc.ServicerContext
    ) -> pb.ListOverridesResponse:
        """What was said."""
        with self._metrics.call("ListOverrides"), for_callers():
            image_id = ImageId(request.image_id) if request.HasField("image_id") else None
            return override_page_message(override_page(self._store, request.after, request.limit, image_id))

    def ListOperations(  # noqa: N802 - the name that the proto gives
        self, request: pb.ListOperationsRequest, context: grpc.ServicerContext
    ) -> pb.ListOperationsResponse:
        """How far bulk moves are."""
        with self._metrics.call("ListOperations"), for_callers():
            return operation_page_message(operation_page(self._store, request.after, request.limit))

    def PauseOperation(  # noqa: N802 - the name that the proto gives
        self, request: pb.PauseOperationRequest, context: grpc.ServicerContext
    ) -> pb.PauseOperationResponse:
        """A bulk move rests, or goes on."""
        with self._metrics.call("PauseOperation"), for_callers():
            self._store.pause(request.number, rests=request.rests)
            log.info("the bulk move %d %s", request.number, "rests" if request.rests else "goes on")
            return pb.PauseOperationResponse()

    def CancelOperation(  # noqa: N802 - the name that the proto gives
        self, request: pb.CancelOperationRequest, context: grpc.ServicerContext
    ) -> pb.CancelOperationResponse:
        """Ends the planning of a bulk move."""
        with self._metrics.call("CancelOperation"), for_callers():
            self._store.cancel(request.number)
            log.info("the planning of the bulk move %d is cancelled", request.number)
            return pb.CancelOperationResponse()

    def Load(  # noqa: N802 - the name that the proto gives
        self, request: pb.LoadRequest, context: grpc.ServicerContext
    ) -> pb.LoadStatusResponse:
        """Begins the store with a manifest, or takes a delta."""
        with self._metrics.call("Load"), for_callers():
            asked = read_load_request(request, MAX_TEXT_BYTES, deltas=True)
            return pb.LoadStatusResponse(**load_fields(self._loads.load(asked)))

    def LoadStatus(  # noqa: N802 - the name that the proto gives
        self, request: pb.LoadStatusRequest, context: grpc.ServicerContext
    ) -> pb.LoadStatusResponse:
        """How far that is."""
        with self._metrics.call("LoadStatus"), for_callers():
            return pb.LoadStatusResponse(**load_fields(self._loads.report(request.manifest_id)))

    def Deltas(  # noqa: N802 - the name that the proto gives
        self, request: pb.DeltasRequest, context: grpc.ServicerContext
    ) -> pb.DeltasResponse:
        """How far deltas are."""
        with self._metrics.call("Deltas"), for_callers():
            return deltas_message(self._loads.deltas(request.manifest_id))

    def AbortLoad(  # noqa: N802 - the name that the proto gives
        self, request: pb.AbortLoadRequest, context: grpc.ServicerContext
    ) -> pb.LoadStatusResponse:
        """Ends it."""
        with self._metrics.call("AbortLoad"), for_callers():
            return pb.LoadStatusResponse(**load_fields(self._loads.abort(request.manifest_id)))

    def FinishLoad(  # noqa: N802 - the name that the proto gives
        self, request: pb.FinishLoadRequest, context: grpc.ServicerContext
    ) -> pb.LoadStatusResponse:
        """Makes it live."""
        with self._metrics.call("FinishLoad"), for_callers():
            return pb.LoadStatusResponse(**load_fields(self._loads.finish(request.manifest_id)))

    def _applied(self, state: StoreState) -> None:
        self._state = state
        told: StoreState | None = getattr(self._told, "first", None)
        if told is None or told.position.offset < state.position.offset:
            self._told.first = state
        self._metrics.applied(state)
