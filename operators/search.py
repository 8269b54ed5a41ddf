"""The first step of the sequence: records of the order go into the term index and come back with their candidates."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from crc32c import crc32c
from pyflink.common import Row
from pyflink.datastream import OutputTag, RuntimeContext

from core.dead_letters import BadRecord, Reason
from core.errors import FaultError, RefusedError
from core.notifications import decode_joined
from core.protos.joined_pb2 import JoinedImage
from operators.batcher import BatchPolicy
from operators.clients import Search, open_search
from operators.in_flight_pb2 import InFlight
from operators.metrics import StepMetrics
from operators.micro_batch import MicroBatchFunction
from operators.outputs import to_dead_letters
from operators.rows import KafkaRecord, batches, kafka_record
from operators.step import Done, ServerAddress, Step
from search.serving.log_entries import log_entry, skip_entry
from search.serving.search_pb2 import Answer, InsertAndSearchResponse, LogEntry

__all__ = ["SearchFunction", "SearchStep"]

SKIPPED = -1
"""The place in the answer to a record that the index skipped."""


class SearchStep(Step[KafkaRecord]):
    """Inserts and searches a batch."""

    def __init__(self, search: Search, log_id: str, unscored: Callable[[Reason], None]) -> None:
        """Takes the client.

        Args:
            search: Of the search server.
            log_id: Of `joined`.
            unscored: Told the reason of each record that goes on without a search.
        """
        super().__init__([search])
        self._search = search
        self._log_id = log_id
        self._unscored = unscored

    def offset(self, item: KafkaRecord) -> int:
        """Where the record lies in `joined`."""
        return item.source.offset

    def size(self, item: KafkaRecord) -> int:
        """The record's bytes, and some around them."""
        return len(item.payload) + 64

    def call(self, items: Sequence[KafkaRecord]) -> Done:
        """Inserts the records and searches for each; a record that cannot be read is skipped."""
        decoded = [decode_joined(item.payload) for item in items]
        pairs = list(zip(items, decoded, strict=True))
        response = self._apply([log_entry(item.source.offset, item.payload, image) for item, image in pairs])
        onward: list[bytes] = []
        aside: list[Any] = []
        for item, image, answer in zip(items, decoded, response.answers, strict=True):
            bad = image if isinstance(image, BadRecord) else None
            if bad is None and answer.place == SKIPPED and not answer.superseded:
                bad = BadRecord(Reason.REFUSED, "the index has skipped this record before")
            onward.append(_in_flight(item, answer, response.index_version, bad))
            if bad is not None:
                aside.append(self._dead_letter(item, image, bad))
        return Done(len(items), [*batches(onward), *aside])

    def isolate(self, item: KafkaRecord, bad: BadRecord) -> Done:
        """Makes the index pass over the record, or hide its image if it was inserted before the trouble began."""
        image = decode_joined(item.payload)
        position = self._search.describe()
        if position.log_id == self._log_id and position.offset >= item.source.offset:
            self._hide(item.source.offset)
            answer, index_version = Answer(offset=item.source.offset, place=SKIPPED), position.index_version
        else:
            response = self._apply([skip_entry(item.source.offset, item.payload, image, bad)])
            answer, index_version = response.answers[0], response.index_version
        onward = batches([_in_flight(item, answer, index_version, bad)])
        return Done(1, [*onward, self._dead_letter(item, image, bad)])

    def _apply(self, entries: Sequence[LogEntry]) -> InsertAndSearchResponse:
        response = self._search.insert_and_search(self._log_id, entries)
        if [answer.offset for answer in response.answers] != [entry.offset for entry in entries]:
            raise FaultError(f"the search server answered {len(response.answers)} of {len(entries)} records")
        return response

    def _hide(self, place: int) -> None:
        try:
            self._search.hide(place)
        except RefusedError:
            return  # nothing lies at that place: a repeated version, or skipped

    def _dead_letter(self, item: KafkaRecord, image: JoinedImage | BadRecord, bad: BadRecord) -> tuple[OutputTag, Row]:
        self._unscored(bad.reason)
        if isinstance(image, BadRecord):
            return to_dead_letters("", bad, item.source, item.payload)
        return to_dead_letters(image.image_id, bad, item.source, item.payload, limit_bytes=None)


def _in_flight(item: KafkaRecord, answer: Answer, index_version: str, bad: BadRecord | None) -> bytes:
    return InFlight(
        offset=item.source.offset,
        checksum=crc32c(item.payload),
        record=item.payload,
        answer=answer,
        index_version=index_version,
        unscored="" if bad is None else f"{bad.reason}: {bad.detail}",
    ).SerializeToString()


class SearchFunction(MicroBatchFunction[KafkaRecord]):
    """Rows (payload, topic, partition, offset) of `joined` in, rows (0, `InFlightBatch`) out, dead letters aside."""

    def __init__(
        self, policy: BatchPolicy, search: ServerAddress, log_id: str, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """Keeps settings.

        Args:
            policy: How records are batched and failures met.
            search: The search server.
            log_id: Topic id of `joined`.
            sleep: Holds an element back; takes seconds.
        """
        super().__init__(policy, sleep)
        self._search = search
        self._log_id = log_id

    def open_step(self, context: RuntimeContext) -> Step[KafkaRecord]:
        """Connects to the search server."""
        return SearchStep(open_search(self._search), self._log_id, StepMetrics(context).unscored)

    def items(self, value: Row) -> Sequence[KafkaRecord]:
        """The record of a row."""
        return (kafka_record(value),)
