"""A client of the storage server. It speaks in the records of `core.types`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import grpc

from core.access import ANONYMOUS, Credentials
from core.errors import RefusedError, UnavailableError
from core.first_loads import LoadReport, LoadRequest
from core.load_messages import load_of, request_fields
from core.overrides import MAX_FORBIDDEN, ListedOverride, OverrideOutcome, OverrideRequest
from core.rpc import RpcClient, translate
from core.types import Cluster, Decision, ImageId, ImageRules, Lookup, Membership, Tombstone, Written
from storage.bulk.operations import Operation
from storage.embeddings import EmbeddingsPage
from storage.forgotten import ErasureCounts, ForgottenImage
from storage.limits import (
    MAX_DECISIONS,
    MAX_LOOK_UP,
    MAX_NAMED,
    MAX_NAMED_WITH_VECTORS,
    MAX_OPERATIONS,
    MAX_OVERRIDES,
)
from storage.loading.delta_report import DeltaReport
from storage.operation_pages import ListedOperation, operation_of_override
from storage.records import Heads
from storage.selecting import ImageSelection, SelectedImage, SelectedPage
from storage.serving import storage_pb2 as pb
from storage.serving.delta_messages import delta_of
from storage.serving.forgotten_messages import forgotten_of
from storage.serving.messages import decision_message, heads_of, lookup_of, page_of, progress_of, written_of
from storage.serving.operation_messages import operation_page_of
from storage.serving.override_messages import outcome_of, override_page_of, override_request_message
from storage.serving.selection_messages import selected_of, selected_page_of, selection_message
from storage.serving.storage_pb2_grpc import ClusterStorageStub
from storage.verify import VerifyProgress

__all__ = ["SelectedImage", "StorageClient"]

_OVERHEAD = 16
"""The bytes that a decision takes in a message beside its own."""

_ANSWER_BYTES = 1 << 20
"""What the answer to an override has beside its images, at most."""

_TRIES = 10
"""How often a look-up of several calls starts again because of a write between them."""


class StorageClient(RpcClient):
    """Calls `ClusterStorage`. All methods raise errors of `core.errors`."""

    def __init__(
        self, address: str, deadline_s: float, max_message_bytes: int, credentials: Credentials = ANONYMOUS
    ) -> None:
        """Opens the channel. The server need not be up."""
        super().__init__(address, deadline_s, max_message_bytes, credentials)
        self._stub = ClusterStorageStub(self.channel)
        self._max_request_bytes = max_message_bytes - 2048
        self.history_number = 0
        """Of the last change that `apply` wrote."""

    def look_up(self, ids: Collection[ImageId], verdicts_of: Collection[ImageId] = ()) -> Lookup:
        """Memberships of the known images among `ids` and the clusters of their heads, all of one moment.

        Args:
            ids: The images.
            verdicts_of: Those whose last verdicts are wanted too, at most 4,096.

        Raises:
            UnavailableError: The server is down, too slow or cannot read, or the store changes all the time.
            FaultError: The server failed on this call.
        """
        asked = list(dict.fromkeys(ids))
        size = max(1, MAX_LOOK_UP - len(verdicts_of))
        parts = [asked[at : at + size] for at in range(0, len(asked), size)] or [[]]
        for _ in range(_TRIES):
            found = self._look_up_parts(parts, verdicts_of)
            if found is not None:
                return found
        raise UnavailableError(f"{self.address}: the store changed during a look-up of {len(asked)} images")

    def heads(self, ids: Sequence[ImageId]) -> Heads:
        """The heads of images, all of one moment: at most 8,192 of them.

        Raises:
            RefusedError: They are more.
            UnavailableError: The server is down, too slow or cannot read.
            FaultError: The server failed on this call.
        """
        answer: pb.HeadsResponse = self._call(self._stub.Heads, pb.HeadsRequest(image_ids=ids))
        return heads_of(ids, answer)

    def apply(
        self, log_id: str, decisions: Sequence[Decision], offset: int, revision: int, kinds: Collection[str] = ()
    ) -> int:
        """Writes decisions, and syncs. Returns the new offset of the store.

        All of them are written or nothing, as long as they fit into one message. Else they are sent in several
        messages, one after the other. If a later one fails, the earlier ones are written.

        Args:
            log_id: The log that the decisions come from (Kafka's topic id).
            decisions: Decisions with consecutive offsets from `offset` + 1.
            offset: The store's offset that they rest on.
            revision: The revision that they rest on.
            kinds: The kinds of records of the order that the caller knows.

        Raises:
            StaleError: The store has another offset or revision; look up again.
            LogGapError: The offsets leave a gap, or the log is another one.
            RefusedError: A decision is malformed; `offset` names it.
            MismatchError: A decision contradicts the store: a bug. Or the caller does not know a kind of record that is
                required.
            UnavailableError: The server is down, too slow or cannot write.
            FaultError: The server failed on this call.
        """
        for part in self._parts(decisions):
            request = pb.ApplyRequest(log_id=log_id, offset=offset, revision=revision, decisions=part, kinds=kinds)
            answer: pb.ApplyResponse = self._call(self._stub.Apply, request)
            offset, self.history_number = answer.offset, answer.history_number
        return offset

    def describe(self) -> pb.DescribeResponse:
        """Position and counts of the store, and the last published history number.

        Raises:
            UnavailableError: The server is down or too slow.
        """
        answer: pb.DescribeResponse = self._call(self._stub.Describe, pb.DescribeRequest())
        return answer

    def renew(self, log_id: str, base: int) -> int:
        """Makes the store go on with another log, whose offset 0 is the position `base`.

        Returns:
            The last position applied.

        Raises:
            MismatchError: The log must begin one after the last position applied; the message has both values.
            UnavailableError: The server is down, too slow or cannot write.
        """
        answer: pb.RenewResponse = self._call(self._stub.Renew, pb.RenewRequest(log_id=log_id, base=base))
        return answer.offset

    def earliest_arrival(self, images: int) -> int:
        """The earliest arrival among the images applied last, in ms since the epoch; 0 if there is none.

        Raises:
            UnavailableError: The server is down or too slow.
        """
        request = pb.LastArrivalsRequest(images=images)
        answer: pb.LastArrivalsResponse = self._call(self._stub.LastArrivals, request)
        return answer.earliest_ms

    def verify(self) -> Iterator[VerifyProgress]:
        """Checks the whole store, with reports on the way; the last report is `done`. It has no deadline.

        Raises:
            UnavailableError: The server is down, or another check is running.
        """
        for message in self._stream(self._stub.Verify(pb.VerifyRequest())):
            yield progress_of(message)

    def repair(self) -> Iterator[VerifyProgress]:
        """Checks the whole store, and mends what the images alone can mend. The last report has what was found.

        Raises:
            DeniedError: The caller has not the write key.
            UnavailableError: The server is down, cannot write, or another check is running.
        """
        for message in self._stream(self._stub.Repair(pb.VerifyRequest())):
            yield progress_of(message)

    def embeddings(self) -> Iterator[EmbeddingsPage]:
        """All embeddings of one moment, by place, page by page. It has no deadline.

        Raises:
            UnavailableError: The server is down, or another caller is reading them.
        """
        request = pb.EmbeddingsRequest(page_bytes=self._max_request_bytes // 2)
        for message in self._stream(self._stub.Embeddings(request)):
            yield page_of(message)

    def unscored(self, after: int, deadline_s: float | None = None) -> pb.UnscoredResponse:
        """Places of images that could not be searched or scored, placed by records after an offset.

        An answer covers the offsets up to its `through`; unless it is `complete`, ask again after that.

        Raises:
            UnavailableError: The server is down, too slow or cannot read.
        """
        answer: pb.UnscoredResponse = self._call(self._stub.Unscored, pb.UnscoredRequest(after=after), deadline_s)
        return answer

    def select(self, selection: ImageSelection) -> Iterator[SelectedPage]:
        """The last verdicts on the images of a selection, of one moment, page by page. It has no deadline.

        Raises:
            UnavailableError: The server is down or cannot read.
        """
        for message in self._stream(self._stub.Select(selection_message(selection))):
            yield selected_page_of(message)

    def named(self, ids: Collection[ImageId], *, vectors: bool = False, triggers: bool = False) -> list[SelectedImage]:
        """The last verdicts on the known images among `ids`, in their order.

        Each call of many shows one moment, so two images may be of two moments.

        Args:
            ids: The images.
            vectors: Whether their embeddings are wanted.
            triggers: Whether it is wanted what gave them their heads.

        Raises:
            UnavailableError: The server is down, too slow or cannot read.
            FaultError: The server failed on this call.
        """
        asked = list(dict.fromkeys(ids))
        limit = MAX_NAMED_WITH_VECTORS if vectors else MAX_NAMED
        found: list[SelectedImage] = []
        for at in range(0, len(asked), limit):
            request = pb.NamedRequest(image_ids=asked[at : at + limit], vectors=vectors, triggers=triggers)
            answer: pb.NamedResponse = self._call(self._stub.Named, request)
            found += map(selected_of, answer.images)
        return found

    def written_at(self, image_id: ImageId, offset: int, others: Collection[ImageId] = ()) -> Written:
        """What the record of an image at a position wrote, and what storage held of it and of others before.

        Raises:
            UnavailableError: The server is down, too slow or cannot read.
            FaultError: The server failed on this call.
        """
        request = pb.WrittenAtRequest(image_id=image_id, offset=offset, others=others)
        answer: pb.WrittenAtResponse = self._call(self._stub.WrittenAt, request)
        return written_of(answer)

    def require_kinds(self, kinds: Collection[str]) -> None:
        """Makes sure that every job that writes from now on knows these kinds of records; before the first of them.

        Raises:
            MismatchError: The job that wrote last does not know them.
            DeniedError: The caller has not the write key.
            UnavailableError: The server is down, too slow or cannot write.
        """
        self._call(self._stub.RequireKinds, pb.RequireKindsRequest(kinds=sorted(kinds)))

    def override(
        self, request: OverrideRequest, dry_run: bool = False, deadline_s: float | None = None
    ) -> OverrideOutcome:
        """Says an override, which the store keeps for ever. Saying again what stands writes nothing.

        A rollback alone is another one when it is said again. The answer names the first 1,000 moves, and counts the
        others.

        Args:
            request: What is said.
            dry_run: Write nothing, and tell what would move.
            deadline_s: Of this call; None: that of the client.

        Raises:
            RefusedError: It is malformed, names an image as target that is unknown, goes back too far, or its images do
                not fit into a message.
            ConflictError: Another override says the contrary; the message names it.
            MismatchError: The job that wrote last does not know overrides.
            DeniedError: The caller has not the write key.
            UnavailableError: The server is down, too slow or cannot write.
        """
        message = override_request_message(request, dry_run=dry_run)
        size = message.ByteSize() + _ANSWER_BYTES
        if len(request.images) > MAX_FORBIDDEN and size > self._max_request_bytes:
            raise RefusedError(
                f"the override takes messages of {size} bytes, and {self._max_request_bytes} are taken: say it in "
                f"several overrides, or raise max_message_bytes"
            )
        return outcome_of(self._call(self._stub.ApplyOverride, message, deadline_s))

    def overrides(self, after: int, limit: int, image_id: ImageId | None = None) -> list[ListedOverride]:
        """At most `limit` overrides with numbers above `after`, in order; of one image those that name it.

        Raises:
            RefusedError: The id is none.
            UnavailableError: The server is down, too slow or cannot read.
        """
        found: list[ListedOverride] = []
        while len(found) < limit:
            size = min(limit - len(found), MAX_OVERRIDES)
            request = pb.ListOverridesRequest(after=after, limit=size, image_id=image_id)
            page = override_page_of(self._call(self._stub.ListOverrides, request))
            found += page.items
            if not page.more:
                break
            after = found[-1].override.number
        return found

    def forgotten(self, ids: Sequence[ImageId] = ()) -> tuple[list[ForgottenImage], ErasureCounts]:
        """Those of the images that were forgotten, and how many were and wait to be erased in all.

        Raises:
            UnavailableError: The server is down, too slow or cannot read.
        """
        found: list[ForgottenImage] = []
        counts = ErasureCounts()
        for at in range(0, max(1, len(ids)), MAX_NAMED):
            answer = self._call(self._stub.Forgotten, pb.ForgottenRequest(image_ids=ids[at : at + MAX_NAMED]))
            images, counts = forgotten_of(answer)
            found += images
        return found, counts

    def operations(self, after: int, limit: int) -> list[ListedOperation]:
        """At most `limit` bulk moves with numbers above `after`, in order.

        Raises:
            UnavailableError: The server is down, too slow or cannot read.
        """
        found: list[ListedOperation] = []
        while len(found) < limit:
            request = pb.ListOperationsRequest(after=after, limit=min(limit - len(found), MAX_OPERATIONS))
            page = operation_page_of(self._call(self._stub.ListOperations, request))
            found += page.items
            if not page.more:
                break
            after = found[-1].operation.number
        return found

    def operation(self, number: int) -> ListedOperation | None:
        """One bulk move by its number; None: there is none.

        Raises:
            UnavailableError: The server is down, too slow or cannot read.
        """
        found = self.operations(number - 1, 1)
        return found[0] if found and found[0].operation.number == number else None

    def operation_of_override(self, number: int) -> Operation | None:
        """The bulk move of the override with this number; None: there is none, or it is planned.

        Raises:
            UnavailableError: The server is down, too slow or cannot read.
        """
        return operation_of_override(
            lambda after, limit: [each.operation for each in self.operations(after, limit)], number
        )

    def pause_operation(self, number: int, *, rests: bool) -> None:
        """A bulk move rests, or goes on. Readers see the whole of it all the same.

        Raises:
            RefusedError: It is not under way.
            DeniedError: The caller has not the write key.
            UnavailableError: The server is down, too slow or cannot write.
        """
        self._call(self._stub.PauseOperation, pb.PauseOperationRequest(number=number, rests=rests))

    def cancel_operation(self, number: int) -> None:
        """Ends the planning of a bulk move, of which nobody has seen anything.

        Raises:
            RefusedError: It is not being planned.
            DeniedError: The caller has not the write key.
            UnavailableError: The server is down or too slow.
        """
        self._call(self._stub.CancelOperation, pb.CancelOperationRequest(number=number))

    def load(self, request: LoadRequest) -> LoadReport:
        """Begins the store with the images of a manifest, or takes a delta; asked again, it goes on, and says how far.

        Raises:
            MismatchError: Something was applied to the store, or another load is under way or live.
            RefusedError: This kind of store cannot be loaded.
            DeniedError: The caller has not the write key.
            UnavailableError: The server is down, too slow or cannot write.
        """
        return self._loaded(self._stub.Load, pb.LoadRequest(**request_fields(request)))

    def load_status(self, manifest_id: str = "") -> LoadReport | None:
        """How far a load is, without an id the first load; None: nobody has asked for it.

        Raises:
            UnavailableError: The server is down or too slow.
        """
        answer: pb.LoadStatusResponse = self._call(self._stub.LoadStatus, pb.LoadStatusRequest(manifest_id=manifest_id))
        return load_of(answer) if answer.manifest_id else None

    def deltas(self, manifest_id: str = "") -> list[DeltaReport]:
        """How far deltas are, by when they were asked for: the last 1,000, or one.

        Raises:
            UnavailableError: The server is down or too slow.
        """
        answer: pb.DeltasResponse = self._call(self._stub.Deltas, pb.DeltasRequest(manifest_id=manifest_id))
        return [delta_of(each) for each in answer.deltas]

    def abort_load(self, manifest_id: str) -> LoadReport:
        """Ends a first load and removes what it wrote, or a delta: the rows that have entered stay.

        Raises:
            MismatchError: It is live, or another one.
            RefusedError: There is none.
            DeniedError: The caller has not the write key.
            UnavailableError: The server is down, too slow or cannot write.
        """
        return self._loaded(self._stub.AbortLoad, pb.AbortLoadRequest(manifest_id=manifest_id))

    def finish_load(self, manifest_id: str) -> LoadReport:
        """Makes a first load live that is ready. Then the server ends, and must be started again.

        Raises:
            MismatchError: It is not ready, or another one.
            RefusedError: There is none.
            DeniedError: The caller has not the write key.
            UnavailableError: The server is down, too slow or cannot write: ask again.
        """
        return self._loaded(self._stub.FinishLoad, pb.FinishLoadRequest(manifest_id=manifest_id))

    def _loaded(self, method: Any, request: Any) -> LoadReport:
        answer: pb.LoadStatusResponse = self._call(method, request)
        return load_of(answer)

    def _stream(self, call: Any) -> Iterator[Any]:
        """The messages of a streaming call. The call is cancelled when the caller stops reading."""
        try:
            yield from call
        except grpc.RpcError as error:
            raise translate(error, self.address) from error
        finally:
            call.cancel()

    def _look_up_parts(self, parts: Sequence[Sequence[ImageId]], verdicts_of: Collection[ImageId]) -> Lookup | None:
        """The parts as one answer; None if they are of different moments."""
        memberships: dict[ImageId, Membership] = {}
        clusters: dict[ImageId, Cluster] = {}
        tombstones: dict[ImageId, Tombstone] = {}
        rules: dict[ImageId, ImageRules] = {}
        rule_heads: dict[ImageId, ImageId] = {}
        first: Lookup | None = None
        for part in parts:
            request = pb.LookUpRequest(image_ids=part, verdicts_of=() if first else verdicts_of)
            answer = lookup_of(self._call(self._stub.LookUp, request))
            first = first or answer
            if (answer.position, answer.revision) != (first.position, first.revision):
                return None
            memberships.update(answer.memberships)
            clusters.update(answer.clusters)
            tombstones.update(answer.tombstones)
            rules.update(answer.rules)
            rule_heads.update(answer.rule_heads)
        assert first is not None
        return replace(
            first,
            memberships=memberships,
            clusters=clusters,
            tombstones=tombstones,
            rules=rules,
            rule_heads=rule_heads,
        )

    def _parts(self, decisions: Sequence[Decision]) -> Iterator[list[pb.Decision]]:
        part: list[pb.Decision] = []
        size = 0
        for decision in decisions:
            message = decision_message(decision)
            message_bytes = message.ByteSize() + _OVERHEAD
            if message_bytes > self._max_request_bytes:
                raise RefusedError(
                    f"the decision at offset {decision.offset} has {message_bytes} bytes, a message holds "
                    f"{self._max_request_bytes}",
                    decision.offset,
                )
            if part and (size + message_bytes > self._max_request_bytes or len(part) == MAX_DECISIONS):
                yield part
                part, size = [], 0
            part.append(message)
            size += message_bytes
        if part or not decisions:
            yield part
