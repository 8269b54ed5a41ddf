"""The first step of the sequence: the term index inserts each record of the order and returns its candidates."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from crc32c import crc32c
from pyflink.common import Row
from pyflink.datastream import RuntimeContext

from core.dead_letters import BadRecord, Reason
from core.errors import FaultError, RefusedError
from core.notifications import JoinedContent, decode_joined, placed_image
from core.protos.joined_pb2 import JoinedDelete, JoinedMember, JoinedReplay
from core.tracing import traceparent
from operators.batcher import BatchPolicy
from operators.clients import Search, Storage, open_search, open_storage, storage_waited_for
from operators.decided import StoreDecisions, drop_needless_images, stretches
from operators.in_flight_pb2 import InFlight
from operators.metrics import StepMetrics
from operators.micro_batch import MicroBatchFunction
from operators.rows import batches
from operators.step import ServerAddress, Step, StepResult
from operators.tracer import Tracer, Tracing
from operators.tracing import trace_reason
from operators.unscored import mark_unscored
from search.serving.log_entries import log_entry, skip_entry
from search.serving.search_pb2 import Answer, InsertAndSearchResponse, LogEntry

__all__ = ["LogEpoch", "SearchFunction", "SearchStep"]

SKIPPED = -1
"""The place in the answer to a record that the index skipped."""


@dataclass(frozen=True, slots=True)
class LogEpoch:
    """One topic `joined`: its id, the position of its offset 0, its name."""

    log_id: str
    base: int = 0
    topic: str = "joined"
    """The topic's name, for dead letters."""


class SearchStep(Step):
    """Inserts and searches a batch."""

    def __init__(
        self,
        search: Search,
        log_id: str,
        unscored: Callable[[Reason], None],
        tracer: Tracer | None = None,
        storage: Storage | None = None,
        base: int = 0,
    ) -> None:
        """Takes the clients.

        Args:
            search: Of the search server.
            log_id: Topic id of `joined`.
            unscored: Told the reason of each record that is passed on without a search.
            tracer: Which records are traced.
            storage: Of the storage server: asked what it has decided if the index is behind it, as one that was put
                back is. None: the index is never behind.
            base: The position of the offset 0 of `joined`.
        """
        super().__init__([search] if storage is None else [search, storage], blamed=[search])
        self._storage = storage
        self._decided: StoreDecisions | None = None
        self._decided_through: int | None = None
        """Storage has decided the records up to here, and the index has not applied all of them; None: not known."""
        self._search = search
        self._log_id = log_id
        self._base = base
        self._unscored = unscored
        self._tracer = tracer or Tracer()

    def call(self, items: Sequence[bytes]) -> StepResult:
        """Applies the records and searches for each; a record that cannot be read is skipped."""
        batch = [InFlight.FromString(item) for item in items]
        decoded = [decode_joined(one.record) for one in batch]
        entries = [self._entry(one, content) for one, content in zip(batch, decoded, strict=True)]
        response = self._apply(entries)
        for one, content, answer in zip(batch, decoded, response.answers, strict=True):
            bad = content if isinstance(content, BadRecord) else None
            if placed_image(content) is not None and _was_skipped(answer):
                bad = BadRecord(Reason.REFUSED, "the index has skipped this record before")
                answer.CopyFrom(Answer(offset=answer.offset, place=SKIPPED))
            if isinstance(content, JoinedReplay) and content.dry_run:
                one.score_with = content.model_version
            self._answered(one, answer, response.index_version, bad)
        return StepResult(len(items), self._outputs(batch))

    def isolate(self, item: bytes, bad: BadRecord) -> StepResult:
        """Makes the index skip the record, unless it was inserted before the failures began: then assign hides it.

        A delete is never skipped: the image would stay in sight for ever. It waits until the index takes it.
        """
        one = InFlight.FromString(item)
        content = decode_joined(one.record)
        if isinstance(content, JoinedDelete):
            return self.call([item])
        position = self._search.describe()
        if position.log_id == self._log_id and position.offset >= one.offset:
            answer, index_version = _unknown(one.offset, content), position.index_version
        else:
            response = self._apply([skip_entry(one.offset, one.record, content, bad)])
            answer, index_version = response.answers[0], response.index_version
        self._answered(one, answer, index_version, bad)
        return StepResult(1, self._outputs([one]))

    def ping(self) -> None:
        """See `Step`; the search server must also be able to write, or images would be skipped while its disk hangs."""
        super().ping()
        self._search.insert_and_search(self._log_id, (), self._base)

    def _entry(self, one: InFlight, content: JoinedContent | BadRecord) -> LogEntry:
        """What the index gets of a record; notes in the record why it is traced, and that nobody searches for it."""
        entry = log_entry(one.offset, one.record, content)
        one.unsearched = isinstance(content, JoinedMember)
        reason = trace_reason(content, one.traceparent, self._tracer.policy)
        if reason is not None:
            one.traced, entry.trace = reason, True
        return entry

    def _outputs(self, batch: Sequence[InFlight]) -> list[Any]:
        for one, times in zip(batch, self.timing.until_now(), strict=False):
            one.search_time.MergeFrom(times)
        watched = [output for one in batch for output in self._tracer.watched("search", one)]
        return [*watched, *batches(one.SerializeToString() for one in batch)]

    def _apply(self, entries: Sequence[LogEntry]) -> InsertAndSearchResponse:
        decided = self._decided_before(entries[0].offset)
        if decided is None:
            response = self._search.insert_and_search(self._log_id, entries, self._base)
        else:
            response = self._apply_again(entries, decided)
        if [answer.offset for answer in response.answers] != [entry.offset for entry in entries]:
            raise FaultError(f"the search server answered {len(response.answers)} of {len(entries)} records")
        return response

    def _decided_before(self, first: int) -> StoreDecisions | None:
        """What storage has decided on records from a position on; None if that is nothing or does not matter."""
        if self._storage is None:
            return None
        if self._decided_through is None:
            with storage_waited_for():
                stored = self._storage.describe()
            index = self._search.describe()
            follows = stored.log_id == self._log_id and index.log_id in ("", self._log_id)
            self._decided_through = stored.offset if follows and index.offset < stored.offset else -1
            self._decided = StoreDecisions(self._storage, index.released)
        return self._decided if first <= self._decided_through else None

    def _apply_again(self, entries: Sequence[LogEntry], decided: StoreDecisions) -> InsertAndSearchResponse:
        """Applies records that storage has decided, so that hidden images and places become those that it knows."""
        drop_needless_images(entries, decided)
        response = InsertAndSearchResponse()
        for part, place in stretches(entries[0].offset, len(entries), decided.unscored(entries[-1].offset)):
            if entries[part]:
                response.MergeFrom(self._search.insert_and_search(self._log_id, entries[part], self._base))
            if place is not None:
                with suppress(RefusedError):  # the index skipped the record, so it has no image at that place
                    self._search.hide(place)
                decided.hidden(place)
        return response

    def _answered(self, one: InFlight, answer: Answer, index_version: str, bad: BadRecord | None) -> None:
        """Adds the answer to the record, and what is wrong with it."""
        one.answer.CopyFrom(answer)
        one.index_version = index_version
        if bad is not None:
            self._unscored(bad.reason)
            mark_unscored(one, bad)


def _was_skipped(answer: Answer) -> bool:
    """Whether the index has no image as of the record. A later replay may have placed it since."""
    return answer.place == SKIPPED and not (answer.superseded or answer.deleted)


def _unknown(offset: int, content: JoinedContent | BadRecord) -> Answer:
    """For a record that the index has applied, and cannot be asked about. A replay may have placed its image there."""
    if isinstance(content, JoinedReplay) and content.HasField("image") and not content.dry_run:
        return Answer(offset=offset, place=offset, image_version=content.image.image_version)
    return Answer(offset=offset, place=SKIPPED)


class SearchFunction(MicroBatchFunction):
    """Rows (payload, offset, traceparent) of `joined` in, rows (0, `InFlightBatch`) out."""

    def __init__(
        self,
        policy: BatchPolicy,
        search: ServerAddress,
        log: LogEpoch,
        storage: ServerAddress | None = None,
        tracing: Tracing | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Keeps settings.

        Args:
            policy: How records are batched and failures met.
            search: The search server.
            log: The log epoch that the rows are of.
            storage: The storage server; None: it is not asked what it has decided.
            tracing: Which records are traced.
            sleep: Holds an element back; takes seconds.
        """
        super().__init__(policy, sleep)
        self._search = search
        self._log = log
        self._storage = storage
        self._tracing = tracing

    def open_step(self, context: RuntimeContext) -> Step:
        """Connects to the search server, and to storage."""
        metrics = StepMetrics(context)
        tracer = Tracer(self._tracing, metrics.traced)
        storage = None if self._storage is None else open_storage(self._storage)
        return SearchStep(
            open_search(self._search), self._log.log_id, metrics.unscored, tracer, storage, self._log.base
        )

    def items(self, value: Row) -> Sequence[bytes]:
        """The record of a row, at its position; a tombstone counts as a record without bytes."""
        payload = bytes(value[0] or b"")
        one = InFlight(
            offset=self._log.base + value[1],
            kafka_offset=value[1],
            checksum=crc32c(payload),
            record=payload,
            traceparent=traceparent(value[2]),
        )
        return (one.SerializeToString(),)
