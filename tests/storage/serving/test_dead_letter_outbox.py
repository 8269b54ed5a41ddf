"""Dead letters that were stored with decisions are published at least once, whatever fails between the two."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pytest

from core.dead_letters import BadRecord, Provenance, Reason, dead_letter, parse_dead_letter
from core.errors import UnavailableError
from core.types import Cause, DeadLetterRecord, Decision, ImageId, Move, Outcome
from storage.memory import MemoryStore
from storage.serving.assignments import Message
from storage.serving.dead_letter_outbox import HEADROOM_BYTES, DeadLetterOutbox

LIMIT_BYTES = 100_000


class Topic:
    """A sender that keeps what it was given, and fails when told to."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.fails = False
        self.opened = 0

    def open(self) -> Topic:
        self.opened += 1
        return self

    def send(self, messages: Sequence[Message], stopping: Callable[[], bool]) -> None:
        if self.fails:
            raise UnavailableError("broker is down")
        self.messages += messages

    def close(self) -> None: ...


class Listener:
    def __init__(self) -> None:
        self.count = self.failures = 0

    def dead_letters_published(self, count: int) -> None:
        self.count += count

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
    topic, listener = Topic(), Listener()
    outbox = DeadLetterOutbox(store, topic.open, listener, LIMIT_BYTES)
    assert waiting(store) == [0, 1, 2]
    assert outbox.publish_available() == 3
    assert outbox.publish_available() == 0
    assert [(one.key, parse_dead_letter(one.value).source.offset) for one in topic.messages] == [
        (b"image-0", 0),
        (b"image-1", 1),
        (b"", 2),
    ]
    assert [dict(one.headers).get("traceparent") for one in topic.messages] == [None, b"trace", None]
    assert {dict(one.headers)["content-type"] for one in topic.messages} == {b"application/json"}
    assert waiting(store) == []
    assert listener.count == 3


def test_nothing_is_removed_before_it_is_acknowledged(store: MemoryStore) -> None:
    topic = Topic()
    topic.fails = True
    outbox = DeadLetterOutbox(store, topic.open, Listener(), LIMIT_BYTES)
    with pytest.raises(UnavailableError):
        outbox.publish_available()
    assert waiting(store) == [0, 1, 2]
    topic.fails = False
    assert outbox.publish_available() == 3
    assert topic.opened == 2


def test_a_kill_between_acknowledgement_and_removal_sends_again(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = Topic()
    with monkeypatch.context() as patched:
        patched.setattr(store, "remove_dead_letters", lambda offsets: (_ for _ in ()).throw(UnavailableError("killed")))
        with pytest.raises(UnavailableError):
            DeadLetterOutbox(store, topic.open, Listener(), LIMIT_BYTES).publish_available()
    DeadLetterOutbox(store, topic.open, Listener(), LIMIT_BYTES).publish_available()
    assert [one.number for one in topic.messages] == [0, 1, 2, 0, 1, 2]


def test_one_that_the_topic_does_not_take_is_cut_and_marked() -> None:
    store, topic = MemoryStore(), Topic()
    store.apply("log", [unscored(0, bytes(200_000))], -1, 0)
    DeadLetterOutbox(store, topic.open, Listener(), LIMIT_BYTES).publish_available()
    (message,) = topic.messages
    assert LIMIT_BYTES - 2 * HEADROOM_BYTES < len(message.value) <= LIMIT_BYTES - HEADROOM_BYTES
    found = parse_dead_letter(message.value)
    assert found.truncated
    assert found.payload_bytes == 200_000


def test_the_loop_goes_on_after_a_failure(store: MemoryStore) -> None:
    topic, listener = Topic(), Listener()
    topic.fails = True
    outbox = DeadLetterOutbox(store, topic.open, listener, LIMIT_BYTES, pause_s=0.01)
    outbox.start()
    try:
        while not listener.failures:
            pass
        topic.fails = False
        while listener.count < 3:
            pass
        store.apply("log", [unscored(3)], 2, 0)
        while listener.count < 4:
            pass
    finally:
        outbox.stop()
    assert [json.loads(one.value)["offset"] for one in topic.messages] == [0, 1, 2, 3]
