"""How many records a signal's job is behind, over connections that stay open between two answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from kafka.errors import KafkaError

from core.errors import UnavailableError
from core.replay_requests import ReplayRequest, parse_request
from storage.serving.client import StorageClient
from stream.broker import Broker, LogEnds
from stream.names import consumer_group
from stream.settings import Signal

__all__ = ["JobLag", "LagMeter"]

LOOKED_AT = 64
"""So many records at the end of a lane that are no requests are told from requests that wait."""


@dataclass(frozen=True, slots=True)
class JobLag:
    """What waits for the job."""

    records: Mapping[str, int]
    """Records behind, by topic: embeddings and the order."""
    replays_waiting: int
    """Requests of the topic `replay` that storage has not applied."""
    replays_applied: int
    """How far storage is in the lanes of that topic: it grows by each request that is applied."""


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
        self._requests_end: dict[tuple[int, int], int] = {}
        """Where the requests of a lane end, by the lane and its end."""

    def read(self) -> JobLag:
        """Compares embeddings with the committed offsets, `joined` and `replay` with storage.

        Raises:
            ServiceError: Kafka or storage does not answer. The next call connects to Kafka again.
        """
        if self._broker is None:
            self._broker = self._connect()
        try:
            behind = self._embeddings_behind(self._broker)
            joined = self._signal.topic("joined")
            end = self._broker.ends(joined)[0].end
            storage = self._storage.describe()
            behind[joined] = storage.base + end - (storage.offset + 1)
            replay = self._signal.topic("replay")
            topic_id = self._broker.topic_id(replay)
            applied = {each.partition: each.offset for each in storage.requests if each.topic_id == topic_id}
            waiting = self._replays_waiting(self._broker, replay, applied)
        except UnavailableError:
            self._disconnect()
            raise
        return JobLag(behind, waiting, sum(offset + 1 for offset in applied.values()))

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

    def _replays_waiting(self, broker: Broker, topic: str, applied: Mapping[int, int]) -> int:
        ends = broker.ends(topic)
        starts = {lane: max(applied.get(lane, -1) + 1, each.first) for lane, each in ends.items()}
        lanes = {(lane, each.end): each for lane, each in ends.items() if starts[lane] < each.end}
        known = self._requests_end
        self._requests_end = {
            key: known[key] if key in known else _requests_end(broker, topic, key[0], each)
            for key, each in lanes.items()
        }
        return sum(max(0, end - starts[lane]) for (lane, _), end in self._requests_end.items())

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


def _requests_end(broker: Broker, topic: str, lane: int, ends: LogEnds) -> int:
    """One after the last request of a lane. Records behind it that are none are dead letters, and never applied."""
    for end in range(ends.end, max(ends.first, ends.end - LOOKED_AT), -1):
        value = broker.record(topic, end - 1, lane)
        if value is None or isinstance(parse_request(value), ReplayRequest):
            return end
    return max(ends.first, ends.end - LOOKED_AT)
