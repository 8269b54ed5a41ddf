"""The topic `joined` on Kafka, read from outside of the job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType

from core.errors import UnavailableError
from stream.broker import Broker
from stream.kafka_access import KafkaAccess
from stream.start_plan import Log
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
        return Log(self._topic, self.topic_id, first, end)

    def checksum(self, offset: int) -> int | None:
        """See `OrderedLog`."""
        return self._broker.checksum(self._topic, offset)

    def read(self, start: int, end: int) -> Iterator[Sequence[tuple[int, bytes]]]:
        """See `OrderedLog`.

        Raises:
            UnavailableError: The broker gives no more records.
        """
        self._reader.seek(start)
        silent = 0
        while start < end:
            records = [(each.offset, each.value) for each in self._reader.poll() if each.offset < end]
            silent = 0 if records else silent + 1
            if silent == POLLS:
                raise UnavailableError(f"{self._topic} gave no record at offset {start} for {POLLS} s")
            if records:
                start = records[-1][0] + 1
                yield records
