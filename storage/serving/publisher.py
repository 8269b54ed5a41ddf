"""Sends messages to Kafka: acknowledged by all replicas, in order, one batch per partition at a time.

The order holds under failures for these reasons. Records wait in the producer (`linger_ms`) until the whole chunk is
there, and leave as one batch per partition, if they fit into one (`batch_size`): whoever sends bounds its chunks. A
batch is acknowledged or fails as a whole. After a failure the sender is closed, so no later record can overtake one
that failed. Retries within a batch are idempotent.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError

from core.errors import UnavailableError
from storage.serving.assignments import Message
from storage.serving.topic_loss import TopicView
from storage.serving.topic_view import opened_topic

__all__ = ["KafkaSender", "quiet_client_log"]

CONNECT_MS = 3_000
"""The longest that one attempt to reach the broker, or to find the topic, may take."""

DELIVERY_MS = 30_000
"""A chunk that is not acknowledged after this time has failed."""

_FLUSH_S = 0.5
"""How often a waiting chunk checks whether the server stops."""


class KafkaSender:
    """A `storage.serving.outbox.Sender` for one topic."""

    def __init__(self, connection: Mapping[str, Any], topic: str, partition: int = 0) -> None:
        """Connects.

        Args:
            connection: Where the brokers are and how the client logs in, as arguments of `KafkaProducer`.
            topic: Where messages go.
            partition: The only one that they go to, since partitions that someone adds must not get some of them.

        Raises:
            UnavailableError: No broker answers at this address, or it refuses the client.
        """
        self._connection = connection
        self._topic = topic
        self._partition = partition
        self._next = 0
        """The offset that the next message must get at least."""
        self._where = f"Kafka at {connection['bootstrap_servers']}, topic {topic}"
        try:
            self._producer: Any = KafkaProducer(
                **connection,
                acks="all",
                enable_idempotence=True,
                max_in_flight_requests_per_connection=1,
                linger_ms=10_000,
                batch_size=1_048_576,
                max_request_size=4_194_304,
                request_timeout_ms=10_000,
                delivery_timeout_ms=DELIVERY_MS,
                max_block_ms=CONNECT_MS,
                bootstrap_timeout_ms=CONNECT_MS,
                reconnect_backoff_max_ms=1_000,
                allow_auto_create_topics=False,
                metrics_enabled=False,
            )
        except (KafkaError, OSError) as error:
            raise UnavailableError(f"{self._where}: {_text(error)}") from error

    def send(self, messages: Sequence[Message], stopping: Callable[[], bool]) -> Sequence[int]:
        """See `Sender.send`."""
        with self._as_unavailable():
            acknowledgements = [
                self._producer.send(
                    self._topic,
                    key=one.key,
                    value=one.value,
                    headers=list(one.headers),
                    partition=self._partition,
                )
                for one in messages
            ]
            self._flush(stopping)
            offsets = [int(each.get(timeout=0).offset) for each in acknowledgements]
        if min(offsets) < self._next:
            raise UnavailableError(
                f"{self._where}: offset {min(offsets)} was given again, {self._next - 1} was acknowledged before: the "
                "topic has lost messages"
            )
        self._next = max(offsets) + 1
        return offsets

    @contextlib.contextmanager
    def look(self) -> Iterator[TopicView]:
        """See `Sender.look`."""
        with self._as_unavailable(), opened_topic(self._connection, self._topic, CONNECT_MS / 1000) as topic:
            self._next = topic.end
            yield topic

    @contextlib.contextmanager
    def _as_unavailable(self) -> Iterator[None]:
        try:
            yield
        except (KafkaError, OSError) as error:
            raise UnavailableError(f"{self._where}: {_text(error)}") from error

    def close(self) -> None:
        """See `Sender.close`."""
        # `close` alone waits for records that cannot be delivered, raises, and leaves the client's thread running.
        self._producer._sender.force_close()
        with contextlib.suppress(KafkaError):
            self._producer.close(timeout=1)

    def _flush(self, stopping: Callable[[], bool]) -> None:
        while True:
            try:
                self._producer.flush(timeout=_FLUSH_S)
            except KafkaTimeoutError:
                if stopping():
                    raise
            else:
                return


def quiet_client_log() -> None:
    """Silences the client's log: it writes many lines a minute while a broker is down, and the outbox warns once."""
    logging.getLogger("kafka").setLevel(logging.CRITICAL)


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
