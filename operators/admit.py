"""Requests of the topic `replay` become records of the order, a few at a time.

A request goes in once there are credits (`core.replay_credits`), with the embeddings that storage holds, because
the index may have skipped the image. It carries its own place in the topic. So a request that a restart repeats is
applied once, and one that storage has applied before is left out here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pyflink.common import Row
from pyflink.datastream import RuntimeContext

from core.dead_letters import BadRecord, Provenance
from core.errors import MismatchError, UnavailableError
from core.notifications import EmbeddingSpec
from core.protos.joined_pb2 import JoinedImage, JoinedRecord, JoinedReplay, Origin
from core.replay_credits import LIMITS, ReplayCredits
from core.replay_requests import Lane, ReplayRequest, parse_request
from core.tracing import traceparent
from core.types import ImageId
from core.vectors import stored_type, vector_problem
from operators.batcher import BatchPolicy
from operators.micro_batch import MicroBatchFunction
from operators.outputs import to_dead_letters
from operators.rows import record
from operators.step import Client, ServerAddress, Step, StepResult
from operators.waiting_replay_pb2 import WaitingReplay
from storage.serving import storage_pb2
from storage.serving.client import SelectedImage, StorageClient
from storage.serving.messages import last_applied

__all__ = ["ASK_AGAIN_MS", "AdmitFunction", "AdmitStep", "ReplayLane", "ReplayStorage", "replay_record"]

ASK_AGAIN_MS: Mapping[Lane, int] = {Lane.NAMED: 10, Lane.BULK: 25}
"""How soon storage is asked again when there are no credits. Nobody waits for a single request of a selection."""

KINDS = ("replay",)
"""What is written into the order."""


@dataclass(frozen=True, slots=True)
class ReplayLane:
    """One partition of the topic `replay`, and what the embeddings of its images must be like."""

    lane: Lane
    topic: str
    topic_id: str
    search: EmbeddingSpec
    score: EmbeddingSpec


class ReplayStorage(Client, Protocol):
    """What admit asks of the storage server."""

    def describe(self) -> storage_pb2.DescribeResponse:
        """Its position, and the last request applied of each lane."""
        ...

    def named(self, ids: Collection[ImageId], *, vectors: bool = False) -> list[SelectedImage]:
        """The known images among some, with their embeddings."""
        ...

    def require_kinds(self, kinds: Collection[str]) -> None:
        """Every job that writes from now on must know these kinds of records."""
        ...


class AdmitStep(Step):
    """Hands requests to the order as credits allow."""

    def __init__(self, storage: ReplayStorage, lane: ReplayLane, clock: Callable[[], float] = time.time) -> None:
        """Takes the client.

        Args:
            storage: Of the storage server. Its death is waited out and never counts against a request.
            lane: The partition that the requests come from.
            clock: Seconds since the epoch; dead letters carry the time at which they were rejected.
        """
        super().__init__([storage], blamed=[])
        self._storage = storage
        self._lane = lane
        self._clock = clock
        self._credits = ReplayCredits(LIMITS[lane.lane], gives_way=lane.lane is Lane.BULK)
        self._required = False

    def call(self, items: Sequence[bytes]) -> StepResult:
        """Hands over as many as there are credits for; those that were applied before need none."""
        waiting = [WaitingReplay.FromString(item) for item in items]
        described = self._storage.describe()
        applied = last_applied(described, self._lane.topic_id, self._lane.lane)
        done = sum(one.offset <= applied for one in waiting)
        now_ms = round(1000 * self._clock())
        room = self._credits.room(applied, waiting[0].offset, described.live_delay_ms, now_ms)
        taken = waiting[done : done + room]
        if not done and not taken:
            return StepResult(0, wait_ms=ASK_AGAIN_MS[self._lane.lane])
        return StepResult(done + len(taken), self._admit(taken) if taken else ())

    def isolate(self, item: bytes, bad: BadRecord) -> StepResult:
        """A request that storage cannot answer is a dead letter. It goes on without its image: nobody waits in vain."""
        one = WaitingReplay.FromString(item)
        outputs = [self._rejected(one, bad)]
        request = parse_request(one.payload)
        if isinstance(request, ReplayRequest):
            self._require()
            outputs.append(self._admitted(one, request, None))
        return StepResult(1, outputs)

    def offset(self, item: bytes) -> int:
        """See `Step`."""
        return WaitingReplay.FromString(item).offset

    def _admit(self, taken: Sequence[WaitingReplay]) -> list[Any]:
        parsed = [(one, parse_request(one.payload)) for one in taken]
        ids = [request.image_id for _, request in parsed if isinstance(request, ReplayRequest)]
        images: Mapping[ImageId, SelectedImage] = {}
        if ids:
            self._require()
            images = {each.image.image_id: each for each in self._storage.named(ids, vectors=True)}
        outputs: list[Any] = []
        for one, request in parsed:
            if isinstance(request, BadRecord):
                outputs.append(self._rejected(one, request))
                continue
            outputs.append(self._admitted(one, request, images.get(request.image_id)))
        return outputs

    def _admitted(self, one: WaitingReplay, request: ReplayRequest, known: SelectedImage | None) -> Any:
        self._credits.admitted([one.offset])
        value = replay_record(request, self._lane, one.offset, known)
        return record(request.image_id.encode(), value, one.traceparent)

    def _require(self) -> None:
        """Waits until the sequence has told storage what it knows: with its first write, or with none."""
        if self._required:
            return
        try:
            self._storage.require_kinds(KINDS)
        except MismatchError as error:
            raise UnavailableError(str(error)) from error
        self._required = True

    def _rejected(self, one: WaitingReplay, bad: BadRecord) -> Any:
        source = Provenance(self._lane.topic, self._lane.lane, one.offset, round(1000 * self._clock()))
        request = parse_request(one.payload)
        key = request.image_id if isinstance(request, ReplayRequest) else ""
        return to_dead_letters(key, bad, source, one.payload, one.traceparent)


def replay_record(request: ReplayRequest, lane: ReplayLane, offset: int, known: SelectedImage | None) -> bytes:
    """The record of the order for a request; equal arguments give equal bytes.

    Args:
        request: What is asked for.
        lane: The partition that it came from.
        offset: Where it lies there.
        known: What storage holds of the image, with its embeddings; None: nothing.
    """
    replay = JoinedReplay(
        origin=Origin(topic_id=lane.topic_id, partition=lane.lane, offset=offset, request_id=request.request),
        image_id=request.image_id,
        force=request.force,
        dry_run=request.dry_run,
        model_version=request.model_version,
        watch=request.watch,
        requested_at_ms=request.requested_at_ms,
        image=None if known is None else _image(known, lane),
    )
    return JoinedRecord(replay=replay).SerializeToString(deterministic=True)


def _image(known: SelectedImage, lane: ReplayLane) -> JoinedImage | None:
    """The image as it was joined; None if an embedding is not stored, or is none of this signal."""
    image, embedding = known.image, known.embedding
    if embedding is None:
        return None
    search_type = stored_type(embedding.search_vector, lane.search.dimension)
    score_type = stored_type(embedding.score_vector, lane.score.dimension)
    if (
        vector_problem("search_vector", search_type, embedding.search_vector, lane.search.dimension) is not None
        or vector_problem("score_vector", score_type, embedding.score_vector, lane.score.dimension) is not None
    ):
        return None
    return JoinedImage(
        image_id=image.image_id,
        image_version=image.version,
        search_type=search_type,
        search_vector=embedding.search_vector,
        score_type=score_type,
        score_vector=embedding.score_vector,
        created_at_ms=image.created_at_ms,
        arrived_at_ms=image.arrived_at_ms,
    )


class AdmitFunction(MicroBatchFunction):
    """Rows (payload, offset, traceparent) of a lane in, rows (image id, joined record) out, dead letters aside."""

    def __init__(
        self,
        policy: BatchPolicy,
        storage: ServerAddress,
        lane: ReplayLane,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Keeps settings.

        Args:
            policy: How requests are batched and failures met.
            storage: The storage server; as the stream calls it.
            lane: The partition that the rows come from.
            sleep: Holds an element back; takes seconds.
        """
        super().__init__(policy, sleep)
        self._storage = storage
        self._lane = lane

    def open_step(self, context: RuntimeContext) -> Step:
        """Connects to the storage server."""
        server = self._storage
        client = StorageClient(server.address, server.deadline_s, server.max_message_bytes, server.credentials)
        return AdmitStep(client, self._lane)

    def items(self, value: Row) -> Sequence[bytes]:
        """The request of a row; a tombstone counts as one without bytes."""
        one = WaitingReplay(offset=value[1], payload=bytes(value[0] or b""), traceparent=traceparent(value[2]))
        return (one.SerializeToString(),)
