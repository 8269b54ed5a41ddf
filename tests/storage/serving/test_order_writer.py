"""Writing into the order: every job must know the kind first, and a failed connection is opened anew."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import pytest

from core.delete_requests import DeleteRequest, delete_record
from core.errors import BusyError, MismatchError, UnavailableError
from core.types import ImageId
from storage.serving.assignments import Message
from storage.serving.order_writer import MAX_CALLS, OrderWriter
from storage.serving.topic_loss import TopicView


@dataclass
class FakeOrderTopic:
    """The topic, and how often it was connected to."""

    records: list[tuple[bytes, bytes]] = field(default_factory=list)
    opened: int = 0
    closed: int = 0
    broken: bool = False
    hangs: bool = False
    """Sends wait until their writer is closed."""
    sending: threading.Event = field(default_factory=threading.Event)

    def open(self) -> FakeOrderTopic:
        self.opened += 1
        return self

    def look(self) -> AbstractContextManager[TopicView]:
        raise NotImplementedError

    def send(self, messages: Sequence[Message], stopping: Callable[[], bool]) -> Sequence[int]:
        assert not stopping()
        self.sending.set()
        while self.hangs and not stopping():
            time.sleep(0.001)
        if self.broken or self.hangs:
            raise UnavailableError("no broker")
        first = len(self.records)
        self.records += [(one.key, one.value) for one in messages]
        assert all(dict(one.headers)["content-type"] == b"application/x-protobuf" for one in messages)
        return range(first, len(self.records))

    def close(self) -> None:
        self.closed += 1


def test_forgetting_needs_a_job_that_knows_both_kinds() -> None:
    topic, required = FakeOrderTopic(), list[list[str]]()
    writer = OrderWriter(topic.open, lambda kinds: required.append(list(kinds)))
    writer.delete([DeleteRequest(ImageId("a"), "r", forget=True)])
    writer.delete([DeleteRequest(ImageId("b"), "r", forget=True)])
    writer.delete(requests("c"))
    assert required == [["delete", "forget"]]


def requests(*ids: str) -> list[DeleteRequest]:
    return [DeleteRequest(ImageId(each), "r") for each in ids]


def test_records_are_sent_once_their_kind_is_required() -> None:
    topic, required = FakeOrderTopic(), []

    def require(kinds: Collection[str]) -> None:
        assert not topic.records
        required.append(set(kinds))

    writer = OrderWriter(topic.open, require)
    assert list(writer.delete(requests("a", "b"))) == [0, 1]
    assert list(writer.delete(requests("ä"))) == [2]
    assert topic.records == [(each.image_id.encode(), delete_record(each)) for each in requests("a", "b", "ä")]
    assert (required, topic.opened) == ([{"delete"}], 1)
    writer.close()
    assert topic.closed == 1


def test_a_job_that_does_not_know_the_kind_gets_nothing() -> None:
    topic = FakeOrderTopic()

    def refuse(kinds: Collection[str]) -> None:
        raise MismatchError("unknown kind")

    writer = OrderWriter(topic.open, refuse)
    for _ in range(2):
        with pytest.raises(MismatchError):
            writer.delete(requests("a"))
    assert (topic.records, topic.opened) == ([], 0)


def test_after_a_failure_the_connection_is_opened_anew() -> None:
    topic = FakeOrderTopic(broken=True)
    writer = OrderWriter(topic.open, lambda kinds: None)
    with pytest.raises(UnavailableError):
        writer.delete(requests("a"))
    topic.broken = False
    assert list(writer.delete(requests("a"))) == [0]
    assert (topic.opened, topic.closed) == (2, 1)


def test_nothing_to_send_connects_to_nothing() -> None:
    topic = FakeOrderTopic()
    assert OrderWriter(topic.open, lambda kinds: None).delete([]) == ()
    assert topic.opened == 0


def test_a_broker_that_hangs_takes_few_threads_and_does_not_delay_the_end() -> None:
    topic = FakeOrderTopic(hangs=True)
    writer = OrderWriter(topic.open, lambda kinds: None)
    with ThreadPoolExecutor(2 * MAX_CALLS) as pool:
        calls = [pool.submit(writer.delete, requests("a")) for _ in range(2 * MAX_CALLS)]
        assert topic.sending.wait(60)
        while len(refused := [call for call in calls if call.done()]) < MAX_CALLS:
            time.sleep(0.001)
        writer.close()
    assert len(refused) == MAX_CALLS
    assert all(isinstance(call.exception(), BusyError) for call in refused)
    assert all(isinstance(call.exception(), UnavailableError) for call in calls)
    assert (topic.records, topic.closed) == ([], 1)
