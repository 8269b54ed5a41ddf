"""What is written goes out in order, at least once, whatever fails on the way."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import UnavailableError
from core.types import Cause, ImageId, Move
from neardup.events import Assignment
from storage.errors import WriteError
from storage.interfaces import ClusterStore
from storage.memory import MemoryStore
from storage.serving.assignments import Message, message_of
from storage.serving.outbox import Outbox, OutboxSettings, TopicCutError
from storage.serving.topic_end import LastMessage, last_message
from storage.testing.contract import EPOCH, A, B, C, D, decided, fill, founds, joins, put
from storage.testing.model import StoreModel, seeded_actions
from tests.support.store_wrappers import DelegatingStore

QUICK = OutboxSettings(chunk_entries=3, backoff_first_s=0.001, backoff_max_s=0.002)


class Topic:
    """Takes messages until it is told to fail: senders break off after some of a chunk."""

    def __init__(self, failures: Sequence[int | None] = ()) -> None:
        self.records: list[Message] = []
        self.opened = self.closed = 0
        self.failures = iter(failures)
        self.arrived = threading.Condition()
        self.down = False
        self.expired = False

    def open(self) -> TopicSender:
        if self.down:
            raise UnavailableError("nobody there")
        self.opened += 1
        return TopicSender(self)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self.arrived:
            assert self.arrived.wait_for(condition, 5), [one.number for one in self.records]

    @property
    def numbers(self) -> list[int]:
        return [one.number for one in self.records]


class TopicSender:
    def __init__(self, topic: Topic) -> None:
        self._topic = topic
        self._broken = False

    def send(self, messages: Sequence[Message], stopping: Callable[[], bool]) -> None:
        assert not self._broken, "a sender that failed is of no more use"
        taken = next(self._topic.failures, None)
        with self._topic.arrived:
            self._topic.records += messages if taken is None else messages[:taken]
            self._topic.arrived.notify_all()
        if taken is not None:
            self._broken = True
            raise UnavailableError("the broker went away")

    def last(self) -> LastMessage | None:
        if self._topic.expired:
            return None
        return last_message(self._topic.records[-1].value) if self._topic.records else LastMessage(0)

    def close(self) -> None:
        self._topic.closed += 1


class Heard:
    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.failures = 0

    def published(self, number: int) -> None:
        self.numbers.append(number)

    def publish_failed(self) -> None:
        self.failures += 1


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def running() -> Iterator[list[Outbox]]:
    """Outboxes put in here are stopped."""
    outboxes: list[Outbox] = []
    yield outboxes
    for outbox in outboxes:
        outbox.stop()


def test_an_entry_as_json(store: MemoryStore) -> None:
    put(
        store,
        founds(0, A),
        decided(1, ImageId("ä/\n"), Move(ImageId("ä/\n"), None, A, Cause.MATCHED, 0.9300000071525574, A)),
    )
    first, second = [message_of(entry, EPOCH) for entry in store.history(0, 10)]
    assert json.loads(second.value) == {
        "epoch": EPOCH.created_ms,
        "store_id": EPOCH.store_id,
        "history_number": 2,
        "image_id": "ä/\n",
        "head": "a",
        "old_head": None,
        "cause": "matched",
        "score": 0.93,
        "matched": "a",
        "place": 1,
        "offset": 1,
        "version": 1,
        "created_at_ms": 11,
        "arrived_at_ms": 21,
        "decided_at_ms": 31,
        "versions": {"model": "m1", "index": "i1"},
        "truncated": False,
    }
    assert second.key == "ä/\n".encode()
    assert json.loads(first.value)["score"] is None
    assert b"\n" not in second.value
    assert second.size == len(second.key) + len(second.value)


def test_chunks_in_order_from_the_stored_position(store: MemoryStore) -> None:
    put(store, *[founds(n, ImageId(f"i{n}")) for n in range(8)])
    store.set_published(1)
    topic, heard = Topic(), Heard()
    topic.expired = True
    outbox = Outbox(store, topic.open, heard, QUICK)
    while outbox.publish_available():
        pass
    assert topic.numbers == [2, 3, 4, 5, 6, 7, 8]
    assert heard.numbers == [4, 7, 8]
    assert store.published() == 8
    assert topic.opened == 1


def test_a_chunk_is_bounded_in_bytes(store: MemoryStore) -> None:
    put(store, *[founds(n, ImageId(f"{n}" * 200)) for n in range(6)])
    heard = Heard()
    outbox = Outbox(store, Topic().open, heard, OutboxSettings(chunk_entries=100, chunk_bytes=1_500))
    while outbox.publish_available():
        pass
    assert heard.numbers == [2, 4, 6]


def test_after_a_failure_it_begins_after_the_last_acknowledged(store: MemoryStore) -> None:
    put(store, *[founds(n, ImageId(f"i{n}")) for n in range(6)])
    topic = Topic([None, 2])
    outbox = Outbox(store, topic.open, Heard(), QUICK)
    assert outbox.publish_available()
    with pytest.raises(UnavailableError):
        outbox.publish_available()
    assert store.published() == 3
    assert topic.closed == 1
    assert outbox.publish_available()
    assert topic.numbers == [1, 2, 3, 4, 5, 4, 5, 6]


def test_what_the_broker_lost_after_it_was_acknowledged_is_sent_again(store: MemoryStore) -> None:
    put(store, *[founds(n, ImageId(f"i{n}")) for n in range(7)])
    topic = Topic()
    first = Outbox(store, topic.open, Heard(), QUICK)
    while first.publish_available():
        pass
    del topic.records[4:]
    again = Outbox(store, topic.open, Heard(), QUICK)
    while again.publish_available():
        pass
    assert topic.numbers == [1, 2, 3, 4, 5, 6, 7]
    assert store.published() == 7


def test_a_topic_that_expired_is_not_filled_again(store: MemoryStore) -> None:
    put(store, *[founds(n, ImageId(f"i{n}")) for n in range(4)])
    store.set_published(4)
    topic = Topic()
    topic.expired = True
    assert not Outbox(store, topic.open, Heard(), QUICK).publish_available()
    assert topic.records == []


def test_a_topic_that_was_cut_in_use_is_filled_from_the_gap(store: MemoryStore) -> None:
    class Cut(TopicSender):
        def send(self, messages: Sequence[Message], stopping: Callable[[], bool]) -> None:
            super().send(messages, stopping)
            if cuts:
                kept = cuts.pop()
                topic.records = [*topic.records[:kept], *messages]
                raise TopicCutError("offset given again", last_message(topic.records[kept - 1].value))

    topic, cuts = Topic(), list[int]()
    put(store, *[founds(n, ImageId(f"i{n}")) for n in range(6)])
    outbox = Outbox(store, lambda: Cut(topic), Heard(), QUICK)
    while outbox.publish_available():
        pass
    put(store, founds(6, ImageId("i6")))
    cuts.append(2)
    with pytest.raises(UnavailableError, match="given again"):
        outbox.publish_available()
    while outbox.publish_available():
        pass
    assert topic.numbers == [1, 2, 7, 3, 4, 5, 6, 7]


@settings(max_examples=40, deadline=None)
@given(
    failures=st.lists(st.none() | st.integers(0, 3), max_size=12),
    restarts=st.sets(st.integers(0, 30), max_size=6),
    chunk=st.integers(1, 4),
)
def test_at_least_once_and_in_order(failures: list[int | None], restarts: set[int], chunk: int) -> None:
    """Whoever leaves out numbers already seen gets every entry once, in order, over failures and restarts."""
    store, topic = MemoryStore(), Topic(failures)
    fill(store, StoreModel(), seeded_actions(3, 20), batch=5)
    outbox = Outbox(store, topic.open, Heard(), OutboxSettings(chunk_entries=chunk))
    for step in range(200):
        if step in restarts:
            outbox = Outbox(store, topic.open, Heard(), OutboxSettings(chunk_entries=chunk))
        try:
            if not outbox.publish_available():
                break
        except UnavailableError:
            pass
    seen = 0
    for record in topic.records:
        assert record.number <= seen + 1, "an entry was skipped"
        seen = max(seen, record.number)
    assert seen == store.state().history_number == store.published()


def test_a_write_wakes_it(store: MemoryStore, running: list[Outbox]) -> None:
    topic = Topic()
    outbox = Outbox(store, topic.open, Heard())
    running.append(outbox)
    outbox.start()
    for n in range(20):
        put(store, founds(n, ImageId(f"i{n}")))
        topic.wait_for(lambda n=n: topic.numbers == list(range(1, n + 2)))  # type: ignore[misc]


def test_while_the_broker_is_down_it_waits_and_says_so_once(
    store: MemoryStore, running: list[Outbox], caplog: pytest.LogCaptureFixture
) -> None:
    topic, heard = Topic(), Heard()
    topic.down = True
    put(store, founds(0, A))
    outbox = Outbox(store, topic.open, heard, QUICK)
    running.append(outbox)
    with caplog.at_level(logging.INFO, logger="storage.serving.publish_loop"):
        outbox.start()
        while heard.failures < 5:
            threading.Event().wait(0.001)
        put(store, joins(1, B, A))
        topic.down = False
        topic.wait_for(lambda: topic.numbers == [1, 2])
        while heard.numbers[-1:] != [2]:
            threading.Event().wait(0.001)
        outbox.stop()
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "nobody there" in warnings[0].getMessage()
    assert warnings[0].exc_info is None
    assert any("resumed" in record.getMessage() for record in caplog.records)


def test_even_a_bug_does_not_end_it(
    store: MemoryStore, running: list[Outbox], caplog: pytest.LogCaptureFixture
) -> None:
    topic, heard = Topic(), Heard()
    broken = [True]

    def open_sender() -> TopicSender:
        if broken[0]:
            raise ZeroDivisionError
        return topic.open()

    put(store, founds(0, A))
    outbox = Outbox(store, open_sender, heard, QUICK)
    running.append(outbox)
    outbox.start()
    while heard.failures < 2:
        threading.Event().wait(0.001)
    broken[0] = False
    topic.wait_for(lambda: topic.numbers == [1])
    assert caplog.records[0].exc_info is not None


class Full(DelegatingStore):
    """A store that does not take the position for a while."""

    def __init__(self, inner: MemoryStore, failures: int) -> None:
        super().__init__(inner)
        self.failures = failures

    def set_published(self, number: int) -> None:
        if self.failures:
            self.failures -= 1
            raise WriteError("full")
        super().set_published(number)


def test_a_position_that_could_not_be_kept_is_kept_later(store: MemoryStore, running: list[Outbox]) -> None:
    topic = Topic()
    put(store, founds(0, A), founds(1, B), founds(2, C))
    outbox = Outbox(Full(store, 3), topic.open, Heard(), QUICK)
    running.append(outbox)
    outbox.start()
    while store.published() < 3:
        threading.Event().wait(0.001)
    assert topic.numbers == [1, 2, 3]


def test_stopping_closes_the_sender(store: MemoryStore) -> None:
    topic = Topic()
    put(store, founds(0, A))
    outbox = Outbox(store, topic.open, Heard())
    outbox.start()
    topic.wait_for(lambda: topic.numbers == [1])
    outbox.stop()
    assert (topic.opened, topic.closed) == (1, 1)


def test_an_outbox_that_never_ran_stops(store: MemoryStore) -> None:
    Outbox(store, Topic().open, Heard()).stop()


def published(store: ClusterStore, topic: Topic, now_ms: int = 1_000) -> Outbox:
    """Publishes what there is; the outbox is new, as after a restart."""
    outbox = Outbox(store, topic.open, Heard(), QUICK, lambda: now_ms)
    while outbox.publish_available():
        pass
    return outbox


def read_heads(topic: Topic) -> dict[str, str]:
    """What a consumer of all messages has."""
    heads, seen = {}, (0, 0)
    for change in (Assignment.from_json(record.value) for record in topic.records):
        if change.order > seen:
            seen = change.order
            heads[change.image_id] = change.head
    return heads


def test_a_new_store_replaces_what_one_before_it_published(store: MemoryStore) -> None:
    """Its clock is behind, and it has fewer entries: its epoch is raised above that of the first store."""
    topic = Topic()
    put(store, founds(0, A), joins(1, B, A), founds(2, C))
    published(store, topic, now_ms=5_000)
    other = MemoryStore()
    put(other, founds(0, A), founds(1, B))
    published(other, topic, now_ms=10)
    assert read_heads(topic) == {"a": "a", "b": "b", "c": "c"}
    epochs = [store.epoch(), other.epoch()]
    assert [epoch and epoch.created_ms for epoch in epochs] == [5_000, 5_001]


def test_a_store_goes_on_in_its_epoch_after_a_restart(store: MemoryStore) -> None:
    topic = Topic()
    put(store, founds(0, A))
    published(store, topic)
    epoch = store.epoch()
    put(store, founds(1, B))
    published(store, topic, now_ms=9_000)
    assert store.epoch() == epoch
    assert topic.numbers == [1, 2]


def test_a_store_of_the_last_release_does_not_publish_again(store: MemoryStore) -> None:
    topic = Topic()
    put(store, founds(0, A), founds(1, B))
    topic.records = [Message(number, b"k", json.dumps({"history_number": number}).encode()) for number in (1, 2)]
    store.set_published(2)
    for _ in range(2):
        published(store, topic)
    assert topic.numbers == [1, 2]
    put(store, founds(2, C))
    published(store, topic)
    published(store, topic)
    assert topic.numbers == [1, 2, 3]
    assert last_message(topic.records[-1].value) == LastMessage(
        3, replace(EPOCH, created_ms=1_000, store_id=_id(store))
    )


def _id(store: ClusterStore) -> str:
    epoch = store.epoch()
    assert epoch is not None
    return epoch.store_id


def test_a_store_that_was_put_back_publishes_all_of_its_history_again() -> None:
    """It knows nothing of being put back, but the topic has more of its entries than itself."""
    topic, ahead, back = Topic(), MemoryStore(), MemoryStore()
    put(ahead, founds(0, A), founds(1, B))
    published(ahead, topic)
    epoch = ahead.epoch()
    assert epoch is not None
    put(ahead, joins(2, C, A), joins(3, D, A))
    published(ahead, topic)
    put(back, founds(0, A), founds(1, B))
    back.begin_epoch(epoch)
    back.set_published(2)
    published(back, topic, now_ms=10)
    put(back, joins(2, C, B))
    published(back, topic)
    assert read_heads(topic) == {"a": "a", "b": "b", "c": "b", "d": "a"}
    assert topic.numbers == [1, 2, 3, 4, 1, 2, 3]


def test_a_store_that_was_overtaken_begins_another_epoch(store: MemoryStore) -> None:
    topic, other = Topic(), MemoryStore()
    put(store, founds(0, A))
    published(store, topic)
    put(other, founds(0, A), founds(1, B))
    published(other, topic)
    put(store, joins(1, B, A))
    published(store, topic)
    assert read_heads(topic) == {"a": "a", "b": "a"}


def test_what_the_broker_lost_of_the_first_messages_of_an_epoch_is_sent_again(store: MemoryStore) -> None:
    topic, other = Topic(), MemoryStore()
    put(store, *[founds(n, ImageId(f"i{n}")) for n in range(9)])
    published(store, topic)
    put(other, founds(0, A), founds(1, B))
    published(other, topic)
    del topic.records[9:]
    published(other, topic)
    assert topic.numbers == [*range(1, 10), 1, 2]
