"""Dead letters that were stored with decisions are published at least once, whatever fails between the two."""

from __future__ import annotations

import json

import pytest

from core.dead_letters import BadRecord, Provenance, Reason, dead_letter, parse_dead_letter
from core.errors import UnavailableError
from core.types import Cause, DeadLetterRecord, Decision, ImageId, Move, Outcome
from storage.memory import MemoryStore
from storage.serving.assignments import Message
from storage.serving.dead_letter_outbox import HEADROOM_BYTES, HOLD_S, DeadLetterOutbox
from tests.support.fake_topic import FakeTopic

LIMIT_BYTES = 100_000


class Listener:
    def __init__(self) -> None:
        self.count = self.truncated = self.failures = 0

    def dead_letters_published(self, count: int, truncated: int) -> None:
        self.count += count
        self.truncated += truncated

    def publish_failed(self) -> None:
        self.failures += 1


def value(offset: int, payload: bytes = b"record") -> bytes:
    return dead_letter(BadRecord(Reason.FAULTED, "no"), Provenance("joined", 0, offset, 5), payload, None)


def unscored(offset: int, payload: bytes = b"record") -> Decision:
    image = ImageId(f"image-{offset}")
    return Decision(
        offset=offset,
        checksum=offset,
        outcome=Outcome.DECIDED,
        image_id=image,
        version=1,
        place=offset,
        moves=(Move(image, None, image, Cause.UNSCORED),),
        dead_letter=DeadLetterRecord(image.encode(), value(offset, payload), b"trace" if offset else b""),
    )


def unreadable(offset: int) -> Decision:
    record = DeadLetterRecord(b"", value(offset))
    return Decision(offset, offset, Outcome.UNREADABLE, ImageId(""), 0, offset, dead_letter=record)


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    store.apply("log", [unscored(0), unscored(1), unreadable(2)], -1, 0)
    return store


def waiting(store: MemoryStore) -> list[int]:
    with store.snapshot() as view:
        return [offset for offset, _ in view.dead_letters()]


def test_each_is_sent_with_key_and_headers_and_removed(store: MemoryStore) -> None:
    topic, listener, now = FakeTopic(), Listener(), [0.0]
    outbox = DeadLetterOutbox(store, topic.open, listener, LIMIT_BYTES, clock=lambda: now[0])
    assert waiting(store) == [0, 1, 2]
    assert outbox.publish_available() == 3
    assert outbox.publish_available() == 0
    assert waiting(store) == [0, 1, 2]
    now[0] = HOLD_S
    assert outbox.publish_available() == 0
    assert [(one.key, parse_dead_letter(one.value).source.offset) for one in topic.records] == [
        (b"image-0", 0),
        (b"image-1", 1),
        (b"", 2),
    ]
    assert [dict(one.headers).get("traceparent") for one in topic.records] == [None, b"trace", None]
    assert {dict(one.headers)["content-type"] for one in topic.records} == {b"application/json"}
    assert waiting(store) == []
    assert listener.count == 3


def test_nothing_is_removed_before_it_is_acknowledged(store: MemoryStore) -> None:
    topic = FakeTopic([0])
    outbox = DeadLetterOutbox(store, topic.open, Listener(), LIMIT_BYTES)
    with pytest.raises(UnavailableError):
        outbox.publish_available()
    assert waiting(store) == [0, 1, 2]
    assert outbox.publish_available() == 3
    assert topic.opened == 2


def test_a_kill_before_the_removal_sends_again(store: MemoryStore) -> None:
    topic = FakeTopic()
    for _ in range(2):
        DeadLetterOutbox(store, topic.open, Listener(), LIMIT_BYTES).publish_available()
    assert topic.numbers == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("kept", [0, 2])
def test_what_the_broker_lost_is_sent_again(store: MemoryStore, kept: int) -> None:
    """Others write to the topic too: their dead letters may get the offsets."""
    topic, now = FakeTopic(), [0.0]
    outbox = DeadLetterOutbox(store, topic.open, Listener(), LIMIT_BYTES, clock=lambda: now[0])
    assert outbox.publish_available() == 3
    topic.lose(kept)
    topic.records += [Message(90 + n, b"", b"of another part") for n in range(3)]
    now[0] = HOLD_S
    assert outbox.publish_available() == 3
    assert topic.numbers[-3:] == [0, 1, 2]
    assert waiting(store) == [0, 1, 2]
    now[0] = 2 * HOLD_S
    assert outbox.publish_available() == 0
    assert waiting(store) == []


def test_what_has_expired_or_is_damaged_there_is_removed(store: MemoryStore) -> None:
    for trouble in ("expired", "damaged"):
        topic, now = FakeTopic(), [0.0]
        outbox = DeadLetterOutbox(store, topic.open, Listener(), LIMIT_BYTES, clock=lambda now=now: now[0])  # type: ignore[misc]
        assert outbox.publish_available() == 3 - 2 * (trouble == "damaged")
        topic.first, topic.damaged = (3, False) if trouble == "expired" else (0, True)
        now[0] = HOLD_S
        assert outbox.publish_available() == 0
        assert waiting(store) == []
        store.apply("log", [unscored(store.position().offset + 1)], store.position().offset, 0)


def test_one_that_the_topic_does_not_take_is_cut_and_marked() -> None:
    store, topic = MemoryStore(), FakeTopic()
    store.apply("log", [unscored(0, bytes(200_000))], -1, 0)
    store.apply("log", [unscored(1)], 0, 0)
    listener = Listener()
    DeadLetterOutbox(store, topic.open, listener, LIMIT_BYTES).publish_available()
    assert (listener.count, listener.truncated) == (2, 1)
    message, _ = topic.records
    assert LIMIT_BYTES - 2 * HEADROOM_BYTES < len(message.value) <= LIMIT_BYTES - HEADROOM_BYTES
    found = parse_dead_letter(message.value)
    assert found.truncated
    assert found.payload_bytes == 200_000


def test_the_loop_goes_on_after_a_failure(store: MemoryStore) -> None:
    topic, listener = FakeTopic([0]), Listener()
    outbox = DeadLetterOutbox(store, topic.open, listener, LIMIT_BYTES, pause_s=0.01)
    outbox.start()
    try:
        while not listener.failures:
            pass
        while listener.count < 3:
            pass
        store.apply("log", [unscored(3)], 2, 0)
        while listener.count < 4:
            pass
    finally:
        outbox.stop()
    assert [json.loads(one.value)["offset"] for one in topic.records] == [0, 1, 2, 3]
