"""A store in memory behind its real gRPC service, for commands that ask it and write into Kafka.

Topics are lists. Deletes and replays that are sent to them are applied at once, as a job would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry

from core.access import ServerTls
from core.notifications import decode_joined
from core.overrides import JOB_KINDS
from core.protos.joined_pb2 import JoinedDelete
from core.replay_requests import LANES, Lane, ReplayRequest
from core.rpc import Listen, RpcServer
from core.types import ImageId, Move, RequestPosition, RequestSource, Versions
from storage.memory import MemoryStore
from storage.serving.assignments import Message
from storage.serving.metrics import StorageMetrics
from storage.serving.service import StorageService
from storage.serving.storage_pb2_grpc import add_ClusterStorageServicer_to_server
from storage.testing.decisions import deletes, replays
from tests.support.ports import free_ports

__all__ = ["REPLAY_ID", "TOPIC_ID", "ReplayLanes", "ServedStore", "served_store"]

TOPIC_ID = "joined-id"
"""Of the order."""

REPLAY_ID = "replay-id"
"""Of the topic `replay`."""


@dataclass
class ServedStore:
    """The store, its port, and what was sent into the order."""

    store: MemoryStore
    port: int
    order: list[Message] = field(default_factory=list)
    requests: dict[Lane, list[ReplayRequest]] = field(default_factory=lambda: {lane: [] for lane in LANES})
    verdicts: dict[ImageId, Move] = field(default_factory=dict)
    """What replays decide."""
    applies: bool = True
    """Whether replays are applied."""

    def sender(self, connection: Any, topic: str) -> OrderSender:
        """Stands in for `KafkaSender`."""
        return OrderSender(self, topic)

    def apply_delete(self, record: bytes) -> None:
        """What the job does with a delete."""
        delete = decode_joined(record)
        assert isinstance(delete, JoinedDelete)
        image_id, position = ImageId(delete.image_id), self.store.position()
        image, tombstone = self.store.image(image_id), self.store.tombstone(image_id)
        named, known = delete.HasField("image_version"), image or (tombstone if delete.forget else None)
        version = delete.image_version or (known.version if known else 1)
        decision = deletes(position.offset + 1, image_id, image and image.head, version=version)
        if known is None and not named:  # there is nothing to delete
            decision = replace(decision, tombstone=None)
        elif delete.forget:
            decision = replace(decision, forget=True, decided_at_ms=1_700_000_000_000)
        self.store.apply(TOPIC_ID, [decision], position.offset, self.store.state().revision, JOB_KINDS)

    def replay(self, lane: Lane, request: ReplayRequest) -> int:
        """What the job does with a request: the image gets the verdict that the test wants, if it wants another."""
        offset = len(self.requests[lane])
        self.requests[lane].append(request)
        if self.applies:
            self._apply_replay(RequestPosition(RequestSource(REPLAY_ID, lane), offset), request)
        return offset

    def apply_replays(self, lane: Lane) -> None:
        """What the job does once it runs again."""
        for offset, request in enumerate(self.requests[lane]):
            self._apply_replay(RequestPosition(RequestSource(REPLAY_ID, lane), offset), request)

    def _apply_replay(self, where: RequestPosition, request: ReplayRequest) -> None:
        position, image = self.store.position(), self.store.image(request.image_id)
        move = None if request.dry_run else self.verdicts.get(request.image_id)
        decision = replays(position.offset + 1, request.image_id, *([] if move is None else [move]))
        place = 0 if image is None else image.place
        decision = replace(decision, request=where, place=place, versions=Versions("m2", "i1"))
        if image is not None and image.unscored and move is not None:  # the index places it anew
            vectors = {"score_code": b"c", "search_vector": b"search", "score_vector": b"score"}
            decision = replace(decision, place=decision.offset, **vectors)
        self.store.apply(TOPIC_ID, [decision], position.offset, self.store.state().revision, JOB_KINDS)


@dataclass
class ReplayLanes:
    """Stands in for `ReplayTopic`."""

    world: ServedStore

    def __enter__(self) -> ReplayLanes:
        return self

    def __exit__(self, *unused: object) -> None:
        """Nothing to close."""

    def send(self, lane: Lane, requests: Sequence[ReplayRequest]) -> Sequence[int]:
        return [self.world.replay(lane, each) for each in requests]


@dataclass
class OrderSender:
    """Sends to the list."""

    world: ServedStore
    topic: str

    def send(self, messages: Sequence[Message], stopping: Callable[[], bool]) -> Sequence[int]:
        base = self.world.store.position().base
        offsets = []
        for message in messages:
            self.world.order.append(message)
            self.world.apply_delete(message.value)
            offsets.append(self.world.store.position().offset - base)
        return offsets

    def close(self) -> None:
        """Nothing to close."""


@contextmanager
def served_store(tls: ServerTls | None = None) -> Iterator[ServedStore]:
    """Serves an empty store until the block ends. The job that wrote last knows all kinds of records."""
    store, (port, page) = MemoryStore(), free_ports(2)
    registry = CollectorRegistry()
    service = StorageService(store, StorageMetrics(registry, store.state(), 0))
    server = RpcServer(
        "storage",
        Listen("127.0.0.1", port, page, 1 << 22, tls=tls),
        partial(add_ClusterStorageServicer_to_server, service),
        registry,
    )
    server.start()
    try:
        yield ServedStore(store, port)
    finally:
        server.stop(0)
