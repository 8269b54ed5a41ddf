"""What is written goes out in order, at least once, whatever fails on the way."""

from __future__ import annotations

import json
import logging
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import UnavailableError
from core.types import Cause, ImageId, Move
from neardup.events import Assignment, LoadedManifest
from storage.errors import WriteError
from storage.interfaces import ClusterStore
from storage.memory import MemoryStore
from storage.records import FirstLoad, PublishedMark
from storage.serving.assignments import Message, message_of
from storage.serving.outbox import Outbox, OutboxSettings
from storage.serving.topic_loss import LastMessage, message_in
from storage.testing.decisions import EPOCH, A, B, C, D, decided, fill, founds, joins, put
from storage.testing.model import StoreModel, seeded_actions
from tests.support.fake_topic import FakeSender, FakeTopic
from tests.support.store_wrappers import DelegatingStore

QUICK = OutboxSettings(chunk_entries=3, backoff_first_s=0.001, backoff_max_s=0.002, store_every_s=0.0)


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
        "override": None,
        "load": None,
    }
    assert second.key == "ä/\n".encode()
    assert json.loads(first.value)["score"] is None
    assert b"\n" not in second.value
    assert second.size == len(second.key) + len(second.value)


def test_chunks_in_order_from_the_stored_position(store: MemoryStore) -> None:
    put(store, *[founds(n, ImageId(f"i{n}")) for n in range(8)])
    store.set_published(1)
    topic, heard = FakeTopic(), Heard()
    topic.partitions = 2  # so its end says nothing
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
    outbox = Outbox(store, FakeTopic().open, heard, OutboxSettings(chunk_entries=100, chunk_bytes=1_500))
    while outbox.publish_available():
        pass
    assert heard.numbers == [2, 4, 6]


def test_after_a_failure_it_begins_after_the_last_acknowledged(store: MemoryStore) -> None:
    put(store, *[founds(n, ImageId(f"i{n}")) for n in range(6)])
    topic = FakeTopic([None, 2])
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
    topic = FakeTopic()
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
    topic = FakeTopic()
    published(store, topic)
    topic.first = 4
    published(store, topic)
    store.set_published(4)  # as an earlier release does, without a mark
    published(store, topic)
    assert topic.numbers == [1, 2, 3, 4]


def test_a_topic_that_was_cut_in_use_is_filled_from_the_gap(store: MemoryStore) -> None:
    topic = FakeTopic()
    put(store, *[founds(n, ImageId(f"i{n}")) for n in range(6)])
    outbox = published(store, topic)
    put(store, founds(6, ImageId("i6")))
    topic.lose(2)
    with pytest.raises(UnavailableError, match="given again"):
        outbox.publish_available()
    while outbox.publish_available():
        pass
    assert topic.numbers == [1, 2, 7, 3, 4, 5, 6, 7]


def test_a_cut_that_a_kill_hid_is_found(store: MemoryStore) -> None:
    """The topic ends with the highest number, and yet numbers before it are missing."""
    topic = FakeTopic()
    put(store, *[founds(n, ImageId(f"i{n}")) for n in range(6)])
    outbox = published(store, topic)
    put(store, founds(6, ImageId("i6")))
    topic.lose(2)
    with pytest.raises(UnavailableError, match="given again"):
        outbox.publish_available()
    assert topic.numbers == [1, 2, 7]
    published(store, topic)  # it was killed before it could look
    assert topic.numbers == [1, 2, 7, 3, 4, 5, 6, 7]


def test_numbers_that_came_too_early_do_not_count_after_another_loss(store: MemoryStore) -> None:
    topic, times = FakeTopic(), OutboxSettings(chunk_entries=3)
    put(store, *[founds(n, ImageId(f"i{n}")) for n in range(6)])
    outbox = Outbox(store, topic.open, Heard(), times, clock=lambda: 0.0)
    while outbox.publish_available():
        pass
    assert store.published() == 3  # the last position was not stored yet
    topic.lose(4)
    put(store, founds(6, ImageId("i6")))
    with pytest.raises(UnavailableError, match="given again"):
        outbox.publish_available()
    published(store, topic)
    assert topic.numbers == [1, 2, 3, 4, 7, 4, 5, 6, 7]
    topic.lose(5)
    published(store, topic)
    assert topic.numbers == [1, 2, 3, 4, 7, 4, 5, 6, 7]


def test_a_loss_shows_while_nothing_is_sent(store: MemoryStore) -> None:
    now = [0.0]
    topic = FakeTopic()
    put(store, *[founds(n, ImageId(f"i{n}")) for n in range(6)])
    outbox = Outbox(store, topic.open, Heard(), QUICK, clock=lambda: now[0])
    while outbox.publish_available():
        pass
    topic.lose(4)
    assert not outbox.publish_available()
    now[0] = QUICK.look_every_s
    while outbox.publish_available():
        pass
    assert topic.numbers == [1, 2, 3, 4, 5, 6]
    assert topic.opened == 1


def test_a_topic_that_was_made_anew_gets_all_of_the_history(store: MemoryStore) -> None:
    topic = FakeTopic()
    put(store, *[founds(n, ImageId(f"i{n}")) for n in range(5)])
    published(store, topic)
    topic.make_anew()
    # Another tool filled it, so that offset and number fit.
    topic.records = [message_of(entry, store.epoch() or EPOCH) for entry in store.history(0, 5)]
    published(store, topic)
    assert topic.numbers == [1, 2, 3, 4, 5, 1, 2, 3, 4, 5]


def test_damage_on_the_brokers_disk_does_not_stop_it(store: MemoryStore) -> None:
    topic = FakeTopic()
    put(store, founds(0, A), founds(1, B))
    published(store, topic)
    topic.damaged = True
    put(store, founds(2, C))
    published(store, topic)
    assert topic.numbers == [1, 2, 3]


def test_the_position_is_stored_now_and_then_and_at_the_end(store: MemoryStore) -> None:
    """Each time costs a sync."""
    now = [0.0]
    put(store, *[founds(n, ImageId(f"i{n}")) for n in range(9)])
    outbox = Outbox(store, FakeTopic().open, Heard(), OutboxSettings(chunk_entries=3), clock=lambda: now[0])
    assert outbox.publish_available()
    assert store.published() == 3
    assert outbox.publish_available()
    assert store.published() == 3
    now[0] = 1.0
    assert outbox.publish_available()
    assert store.published() == 9
    put(store, founds(9, ImageId("i9")))
    outbox.start()
    outbox.stop()
    assert store.published() == 10


class KilledError(Exception):
    """The process ends here."""


class Mortal(DelegatingStore):
    """A store whose process is killed before some of its writes of the position."""

    def __init__(self, inner: MemoryStore, dies: Callable[[], bool]) -> None:
        super().__init__(inner)
        self.dies = dies

    def set_published(self, number: int, mark: PublishedMark | None = None) -> None:
        if self.dies():
            raise KilledError
        super().set_published(number, mark)


@settings(max_examples=60, deadline=None)
@given(choice=st.randoms(use_true_random=False))
def test_whatever_the_broker_loses_a_reader_gets_every_entry(choice: random.Random) -> None:
    """Losses of any length, with and without a kill, a failure or an attempt between two of them.

    A reader takes each number only after the one before it. It misses none, however often the topic lost its end.
    """
    store, topic, written = MemoryStore(), FakeTopic(), 0
    topic.failures = iter(lambda: choice.choice([None, None, None, 0, 1, 2]), "never")
    mortal, now = Mortal(store, lambda: choice.random() < 0.1), [0.0]

    def start() -> Outbox:
        times = OutboxSettings(chunk_entries=choice.randint(1, 4), store_every_s=3.0, look_every_s=10.0)
        return Outbox(mortal, topic.open, Heard(), times, lambda: 1_000, lambda: now[0])

    outbox = start()
    for _ in range(60):
        now[0] += choice.random() * 2
        match choice.randrange(8):
            case 0 | 1:
                put(store, *[founds(written + n, ImageId(f"i{written + n}")) for n in range(choice.randint(1, 5))])
                written = store.state().history_number
            case 2:
                topic.lose(choice.randint(0, len(topic.records)))
            case 3:
                outbox = start()
            case _:
                with suppress(UnavailableError):
                    try:
                        outbox.publish_available()
                    except KilledError:
                        outbox = start()
    topic.failures, mortal.dies = iter(()), lambda: False
    now[0] += 100
    for _ in range(3):
        with suppress(UnavailableError):
            while outbox.publish_available():
                pass
    assert followed(topic) == written


def followed(topic: FakeTopic) -> int:
    """How far a reader gets that takes each number only after the one before it."""
    seen = 0
    for number in topic.numbers:
        seen += number == seen + 1
    return seen


@settings(max_examples=40, deadline=None)
@given(
    failures=st.lists(st.none() | st.integers(0, 3), max_size=12),
    restarts=st.sets(st.integers(0, 30), max_size=6),
    chunk=st.integers(1, 4),
)
def test_at_least_once_and_in_order(failures: list[int | None], restarts: set[int], chunk: int) -> None:
    """Whoever leaves out numbers already seen gets every entry once, in order, over failures and restarts."""
    store, topic = MemoryStore(), FakeTopic(failures)
    fill(store, StoreModel(), seeded_actions(3, 20), batch=5)
    outbox = Outbox(store, topic.open, Heard(), OutboxSettings(chunk_entries=chunk, store_every_s=0.0))
    for step in range(200):
        if step in restarts:
            outbox = Outbox(store, topic.open, Heard(), OutboxSettings(chunk_entries=chunk, store_every_s=0.0))
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
    topic = FakeTopic()
    outbox = Outbox(store, topic.open, Heard())
    running.append(outbox)
    outbox.start()
    for n in range(20):
        put(store, founds(n, ImageId(f"i{n}")))
        topic.wait_for(lambda n=n: topic.numbers == list(range(1, n + 2)))  # type: ignore[misc]


def test_while_the_broker_is_down_it_waits_and_says_so_once(
    store: MemoryStore, running: list[Outbox], caplog: pytest.LogCaptureFixture
) -> None:
    topic, heard = FakeTopic(), Heard()
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
    topic, heard = FakeTopic(), Heard()
    broken = [True]

    def open_sender() -> FakeSender:
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

    def set_published(self, number: int, mark: PublishedMark | None = None) -> None:
        if self.failures:
            self.failures -= 1
            raise WriteError("full")
        super().set_published(number, mark)


def test_a_position_that_could_not_be_kept_is_kept_later(store: MemoryStore, running: list[Outbox]) -> None:
    topic = FakeTopic()
    put(store, founds(0, A), founds(1, B), founds(2, C))
    outbox = Outbox(Full(store, 3), topic.open, Heard(), QUICK)
    running.append(outbox)
    outbox.start()
    while store.published() < 3:
        threading.Event().wait(0.001)
    assert topic.numbers == [1, 2, 3]


def test_stopping_closes_the_sender(store: MemoryStore) -> None:
    topic = FakeTopic()
    put(store, founds(0, A))
    outbox = Outbox(store, topic.open, Heard())
    outbox.start()
    topic.wait_for(lambda: topic.numbers == [1])
    outbox.stop()
    assert (topic.opened, topic.closed) == (1, 1)


def test_an_outbox_that_never_ran_stops(store: MemoryStore) -> None:
    Outbox(store, FakeTopic().open, Heard()).stop()


def published(store: ClusterStore, topic: FakeTopic, now_ms: int = 1_000) -> Outbox:
    """Publishes what there is; the outbox is new, as after a restart."""
    outbox = Outbox(store, topic.open, Heard(), QUICK, lambda: now_ms)
    while outbox.publish_available():
        pass
    return outbox


def read_heads(topic: FakeTopic) -> dict[str, str]:
    """What a consumer of all messages has."""
    heads, seen = {}, (0, 0)
    for change in (Assignment.from_json(record.value) for record in topic.records):
        if change.order > seen:
            seen = change.order
            heads[change.image_id] = change.head
    return heads


def test_a_new_store_replaces_what_one_before_it_published(store: MemoryStore) -> None:
    """Its clock is behind, and it has fewer entries: its epoch is raised above that of the first store."""
    topic = FakeTopic()
    put(store, founds(0, A), joins(1, B, A), founds(2, C))
    published(store, topic, now_ms=5_000)
    other = MemoryStore()
    put(other, founds(0, A), founds(1, B))
    published(other, topic, now_ms=10)
    assert read_heads(topic) == {"a": "a", "b": "b", "c": "c"}
    epochs = [store.epoch(), other.epoch()]
    assert [epoch and epoch.created_ms for epoch in epochs] == [5_000, 5_001]


def test_a_store_goes_on_in_its_epoch_after_a_restart(store: MemoryStore) -> None:
    topic = FakeTopic()
    put(store, founds(0, A))
    published(store, topic)
    epoch = store.epoch()
    put(store, founds(1, B))
    published(store, topic, now_ms=9_000)
    assert store.epoch() == epoch
    assert topic.numbers == [1, 2]


def test_a_store_of_the_last_release_does_not_publish_again(store: MemoryStore) -> None:
    topic = FakeTopic()
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
    epoch = replace(EPOCH, created_ms=1_000, store_id=_id(store))
    assert message_in(topic.records[-1].value) == LastMessage(3, epoch, ("c", "c"))


def _id(store: ClusterStore) -> str:
    epoch = store.epoch()
    assert epoch is not None
    return epoch.store_id


def test_a_store_that_was_put_back_publishes_all_of_its_history_again() -> None:
    """It knows nothing of being put back, but the topic has more of its entries than itself."""
    topic, ahead, back = FakeTopic(), MemoryStore(), MemoryStore()
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


@pytest.mark.parametrize("same", [False, True])
def test_a_store_that_was_put_back_and_went_on_before_it_looked(same: bool) -> None:
    """It has more entries than the topic by then, but other ones under the same numbers."""
    topic, ahead, back = FakeTopic(), MemoryStore(), MemoryStore()
    put(ahead, founds(0, A), founds(1, B))
    published(ahead, topic)
    put(back, founds(0, A), founds(1, B))
    back.begin_epoch(ahead.epoch() or EPOCH)
    back.set_published(2, ahead.published_mark())
    put(ahead, joins(2, C, A), joins(3, D, A))
    published(ahead, topic)
    head = A if same else B
    put(back, joins(2, C, head), joins(3, D, head), founds(4, ImageId("e")))
    published(back, topic, now_ms=10)
    assert read_heads(topic) == {"a": "a", "b": "b", "c": head, "d": head, "e": "e"}
    assert (back.epoch() == ahead.epoch()) == same


def test_a_store_that_was_overtaken_begins_another_epoch(store: MemoryStore) -> None:
    topic, other = FakeTopic(), MemoryStore()
    put(store, founds(0, A))
    published(store, topic)
    put(other, founds(0, A), founds(1, B))
    published(other, topic)
    put(store, joins(1, B, A))
    published(store, topic)
    assert read_heads(topic) == {"a": "a", "b": "a"}


def test_what_the_broker_lost_of_the_first_messages_of_an_epoch_is_sent_again(store: MemoryStore) -> None:
    topic, other = FakeTopic(), MemoryStore()
    put(store, *[founds(n, ImageId(f"i{n}")) for n in range(9)])
    published(store, topic)
    put(other, founds(0, A), founds(1, B))
    published(other, topic)
    del topic.records[9:]
    published(other, topic)
    assert topic.numbers == [*range(1, 10), 1, 2]


def swept(before: int, published: int) -> MemoryStore:
    """A store of nine entries, whose history begins at one of them."""
    store = MemoryStore()
    put(store, *[founds(n, ImageId(f"i{n}")) for n in range(9)])
    store.set_published(published)
    store.sweep_history(before, 100)
    return store


def test_what_was_swept_is_not_published_again_after_a_restart() -> None:
    store, topic = MemoryStore(), FakeTopic()
    put(store, *[founds(n, ImageId(f"i{n}")) for n in range(9)])
    published(store, topic)
    epoch = store.epoch()
    store.sweep_history(100, 100)
    published(store, topic)
    assert (store.state().history_first, store.epoch(), topic.numbers) == (9, epoch, list(range(1, 10)))
    put(store, founds(9, A))
    published(store, topic)
    assert (store.epoch(), topic.numbers) == (epoch, list(range(1, 11)))


@pytest.mark.parametrize("left", [0, 3, 6])
def test_what_the_topic_lost_and_the_store_does_not_keep_is_told(left: int, caplog: pytest.LogCaptureFixture) -> None:
    """Entries up to 5 were swept. The topic lost all after `left`."""
    store, topic = MemoryStore(), FakeTopic()
    put(store, *[founds(n, ImageId(f"i{n}")) for n in range(9)])
    published(store, topic)
    store.sweep_history(6, 100)
    del topic.records[left:]
    caplog.clear()
    published(store, topic)
    assert topic.numbers == [*range(1, left + 1), *range(max(6, left + 1), 10)]
    assert store.published() == 9
    lost = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
    assert len(lost) == (left < 5)
    assert all(f"those from {left + 1} to 5 are lost" in each for each in lost)
    caplog.clear()
    published(store, topic)
    put(store, founds(9, A))
    published(store, topic)
    assert topic.numbers[-2:] == [9, 10]
    assert [each for each in caplog.records if each.levelno == logging.ERROR] == []


def test_a_swept_store_whose_topic_was_made_anew(caplog: pytest.LogCaptureFixture) -> None:
    store, topic = MemoryStore(), FakeTopic()
    put(store, *[founds(n, ImageId(f"i{n}")) for n in range(9)])
    published(store, topic)
    store.sweep_history(6, 100)
    topic.make_anew()
    published(store, topic)
    assert topic.numbers == [6, 7, 8, 9]
    assert "those from 1 to 5 are lost" in caplog.text


def test_a_swept_store_that_was_put_back_publishes_what_it_keeps(caplog: pytest.LogCaptureFixture) -> None:
    store, topic = swept(6, 9), FakeTopic()
    other = MemoryStore()
    put(other, founds(0, A))
    published(other, topic, now_ms=5_000)
    published(store, topic)
    epoch = store.epoch()
    assert epoch is not None
    assert (epoch.first, epoch.created_ms > 5_000) == (6, True)
    assert topic.numbers == [1, 6, 7, 8, 9]
    assert "its history from entry 6 on, the first that it keeps" in caplog.text


def test_a_swept_store_that_was_overtaken_begins_an_epoch_with_what_it_keeps() -> None:
    store, topic = MemoryStore(), FakeTopic()
    put(store, *[founds(n, ImageId(f"i{n}")) for n in range(9)])
    published(store, topic)
    store.sweep_history(6, 100)
    other = MemoryStore()
    put(other, founds(0, A))
    published(other, topic, now_ms=5_000)
    published(store, topic)
    epoch = store.epoch()
    assert epoch is not None
    assert (epoch.first, topic.numbers) == (6, [*range(1, 10), 1, 6, 7, 8, 9])


class LoadedStore(DelegatingStore):
    """A store whose first four entries came with a first load."""

    def first_load(self) -> FirstLoad:
        """See `ClusterStore.first_load`."""
        return FirstLoad("4f0c", "s3://old", "a.json", 5, 4, 2, 1_000, 2_000)


def loaded(entries: int) -> LoadedStore:
    store = MemoryStore()
    put(store, *[founds(n, ImageId(f"i{n}")) for n in range(entries)])
    return LoadedStore(store)


def test_a_first_load_is_one_message_before_all_others() -> None:
    store, topic = loaded(6), FakeTopic()
    published(store, topic)
    assert topic.numbers == [4, 5, 6]
    first, second, _ = (Assignment.from_json(record.value) for record in topic.records)
    assert topic.records[0].key == b""
    assert (first.image_id, first.head, first.history_number, first.cause) == ("", "", 4, "bootstrapped")
    assert first.load == LoadedManifest("s3://old", "a.json", "4f0c", 1, 5, 4, 2)
    assert (second.image_id, second.load) == ("i4", None)
    published(store, topic)
    put(store, founds(6, A))
    published(store, topic)
    assert topic.numbers == [4, 5, 6, 7]


@pytest.mark.parametrize("left", range(4))
def test_a_first_load_that_the_topic_lost_comes_again(left: int) -> None:
    store, topic = loaded(6), FakeTopic()
    published(store, topic)
    epoch = store.epoch()
    topic.lose(left)
    published(store, topic)
    assert (store.epoch(), topic.numbers) == (epoch, [4, 5, 6])


def test_a_store_that_holds_nothing_but_a_first_load_goes_on_after_a_restart() -> None:
    store, topic = loaded(4), FakeTopic()
    published(store, topic)
    published(store, topic)
    assert topic.numbers == [4]
    put(store, founds(4, A))
    published(store, topic)
    assert topic.numbers == [4, 5]


def test_a_first_load_whose_history_is_swept_in_part_is_not_lost(caplog: pytest.LogCaptureFixture) -> None:
    store, topic = loaded(6), FakeTopic()
    published(store, topic)
    store.sweep_history(3, 100)
    topic.make_anew()
    published(store, topic)
    assert topic.numbers == [4, 5, 6]
    assert [each for each in caplog.records if each.levelno == logging.ERROR] == []
