"""The topic `replay`, as a command reads and writes it, and how far storage has applied it."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol

from kafka.errors import KafkaError

from core.errors import UnavailableError
from core.replay_requests import Lane, ReplayRequest, encode_request
from core.types import ImageId
from storage.serving import storage_pb2
from storage.serving.messages import last_applied
from stream.broker import producer
from stream.kafka_access import KafkaAccess
from stream.replay.sending import SentRequest, sent_before
from stream.topic_reader import TopicReader

__all__ = ["AppliedReplays", "ReplayTopic", "earlier_requests"]

HEADERS = [("content-type", b"application/json"), ("schema-version", b"1")]

_PATIENCE_S = 130.0
"""How long acknowledgements may take: a little longer than the producer retries."""


class ReplayTopic:
    """Appends requests. Use it as a context manager."""

    def __init__(self, access: KafkaAccess, topic: str, max_message_bytes: int) -> None:
        """Connects.

        Raises:
            UnavailableError: No broker answers, or it refuses the client.
        """
        self._topic = topic
        self._producer = producer(access, max_message_bytes)

    def __enter__(self) -> ReplayTopic:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._producer.close(timeout=0)

    def send(self, lane: Lane, requests: Sequence[ReplayRequest]) -> Sequence[int]:
        """See `stream.replay.sending.ReplaySender`."""
        try:
            sent = [
                self._producer.send(
                    self._topic,
                    key=each.image_id.encode(),
                    value=encode_request(each),
                    headers=HEADERS,
                    partition=int(lane),
                )
                for each in requests
            ]
            self._producer.flush(timeout=_PATIENCE_S)
            return [int(each.get(timeout=0).offset) for each in sent]
        except KafkaError as error:
            raise UnavailableError(f"Kafka did not take all requests for {self._topic}: {error!r}") from error


def earlier_requests(access: KafkaAccess, topic: str, lane: Lane, request: str) -> dict[ImageId, SentRequest]:
    """What an earlier run of a request has sent.

    Raises:
        UnavailableError: The topic cannot be read.
    """
    with TopicReader(access, topic, partition=int(lane)) as reader:
        return sent_before(reader.between(*reader.ends()), request)


class ReplayDescriber(Protocol):
    """What is asked of the storage server."""

    def describe(self) -> storage_pb2.DescribeResponse:
        """Its position, and the last request applied of each lane."""
        ...


class AppliedReplays:
    """How far storage has applied the requests of a topic."""

    def __init__(self, storage: ReplayDescriber, topic_id: str) -> None:
        """Takes a client of the storage server and the id of the topic."""
        self._storage = storage
        self._topic_id = topic_id

    def applied(self, lane: Lane) -> int:
        """The offset of the last one of a lane; -1: none."""
        return last_applied(self._storage.describe(), self._topic_id, lane)
