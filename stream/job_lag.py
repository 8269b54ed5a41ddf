"""How many records a signal's job is behind, over connections that stay open between two answers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from kafka.errors import KafkaError

from core.errors import UnavailableError
from storage.serving.client import StorageClient
from stream.broker import Broker
from stream.names import consumer_group
from stream.settings import Signal

__all__ = ["LagMeter"]


class LagMeter:
    """Compares the ends of the topics with the offsets that were committed."""

    def __init__(self, connect: Callable[[], Broker], storage: StorageClient, name: str, signal: Signal) -> None:
        """Connects to nothing yet.

        Args:
            connect: Opens a connection to Kafka.
            storage: A client of the signal's storage server; closed with the meter.
            name: The signal's name.
            signal: Its settings.
        """
        self._connect = connect
        self._storage = storage
        self._name = name
        self._signal = signal
        self._broker: Broker | None = None
        self._records_at: set[tuple[str, int, int]] = set()

    def read(self) -> dict[str, int]:
        """Records behind, by topic: embeddings against the committed offsets, `joined` against storage.

        Raises:
            ServiceError: Kafka or storage does not answer. The next call connects to Kafka again.
        """
        if self._broker is None:
            self._broker = self._connect()
        try:
            behind = self._embeddings_behind(self._broker)
            joined = self._signal.topic("joined")
            end = self._broker.ends(joined)[0].end
        except UnavailableError:
            self._disconnect()
            raise
        storage = self._storage.describe()
        behind[joined] = storage.base + end - (storage.offset + 1)
        return behind

    def close(self) -> None:
        """Closes the connections."""
        self._disconnect()
        self._storage.close()

    def _embeddings_behind(self, broker: Broker) -> dict[str, int]:
        behind = {}
        for side in ("search", "score"):
            topic = self._signal.topic(side)
            committed = broker.committed(consumer_group(self._name), topic)
            ends = broker.ends(topic)
            behind[topic] = sum(
                self._unread(broker, topic, part, committed.get(part, each.first), each.end)
                for part, each in ends.items()
            )
        return behind

    def _unread(self, broker: Broker, topic: str, partition: int, offset: int, end: int) -> int:
        """Offsets that the job has not read. What follows its last record may be markers of transactions alone."""
        if offset >= end or (topic, partition, offset) in self._records_at:
            return max(0, end - offset)
        unread = broker.unread(topic, partition, offset)
        if unread:
            self._records_at = {each for each in self._records_at if each[:2] != (topic, partition)}
            self._records_at.add((topic, partition, offset))
        return unread

    def _disconnect(self) -> None:
        broker, self._broker = self._broker, None
        if broker is not None:
            with suppress(KafkaError):  # what is broken cannot always be closed, and is given up all the same
                broker.close()
