"""The topic `joined` on Kafka, read from outside of the job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType

from core.errors import UnavailableError
from core.types import LogPosition
from stream.broker import Broker
from stream.kafka_access import KafkaAccess
from stream.start_plan import Log, base_of
from stream.topic_reader import TopicReader

__all__ = ["KafkaJoined"]

POLLS = 30
"""After so many polls of a second without a record, the broker counts as down."""


class KafkaJoined:
    """An `OrderedLog`; use it as a context manager."""

    def __init__(self, access: KafkaAccess, topic: str) -> None:
        """Connects.

        Raises:
            UnavailableError: The broker does not answer, or has no such topic.
        """
        self._topic = topic
        self._base = 0
        self._broker = Broker(access)
        try:
            self.topic_id = self._broker.topic_id(topic)
            self._reader = TopicReader(access, topic)
        except BaseException:  # also an interrupt must close the connection
            self._broker.close()
            raise

    def __enter__(self) -> KafkaJoined:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.__exit__(kind, error, trace)
        self._broker.close()

    def log(self) -> Log:
        """See `OrderedLog`."""
        first, end = self._reader.ends()
        return Log.at(self._topic, self.topic_id, (first, end), self._base)

    def follow(self, store: LogPosition) -> None:
        """Counts positions as a store does that follows this topic."""
        self._base = base_of(self.topic_id, [store])

    def checksum(self, position: int) -> int | None:
        """See `OrderedLog`."""
        return self._broker.checksum(self._topic, position - self._base)

    def read(self, start: int, end: int) -> Iterator[Sequence[tuple[int, bytes]]]:
        """See `OrderedLog`.

        Raises:
            UnavailableError: The broker gives no more records.
        """
        base = self._base
        self._reader.seek(start - base)
        silent = 0
        while start < end:
            records = [(base + each.offset, each.value) for each in self._reader.poll() if base + each.offset < end]
            silent = 0 if records else silent + 1
            if silent == POLLS:
                raise UnavailableError(f"{self._topic} gave no record at position {start} for {POLLS} s")
            if records:
                start = records[-1][0] + 1
                yield records
