"""After an undo the images that the override moved or names are asked for again, also after a failure or a restart."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager

import pytest

from core.errors import UnavailableError
from core.overrides import OverrideKind
from core.replay_requests import Lane, ReplayRequest, parse_request
from core.types import ImageId
from storage.interfaces import ClusterStore
from storage.memory import MemoryStore
from storage.overrides.affected import affected
from storage.serving.assignments import Message
from storage.serving.topic_loss import TopicView
from storage.serving.undo_outbox import UndoOutbox
from storage.testing.decisions import A, B, C, founds, joins, put
from storage.testing.overrides import JOB, say

SEEN = ImageId("unseen")


class Topic:
    """What was sent to each lane."""

    def __init__(self) -> None:
        self.requests: dict[Lane, list[ReplayRequest]] = {lane: [] for lane in Lane}
        self.down = False
        self.required: list[Collection[str]] = []

    def open(self, lane: Lane) -> _Sender:
        return _Sender(self, lane)


class _Sender:
    def __init__(self, topic: Topic, lane: Lane) -> None:
        self._topic, self._lane = topic, lane

    def look(self) -> AbstractContextManager[TopicView]:
        raise NotImplementedError

    def send(self, messages: Sequence[Message], stopping: Callable[[], bool]) -> Sequence[int]:
        if self._topic.down:
            raise UnavailableError("no broker")
        for each in messages:
            request = parse_request(each.value)
            assert isinstance(request, ReplayRequest)
            assert (each.key.decode(), request.lane) == (request.image_id, self._lane)
            self._topic.requests[self._lane].append(request)
        return range(len(messages))

    def close(self) -> None:
        """There is nothing to close."""


@pytest.fixture
def store() -> Iterator[ClusterStore]:
    store = MemoryStore()
    put(store, founds(0, A), joins(1, B, A), joins(2, C, A), kinds=(*JOB, "replay"))
    yield store
    store.close()


def outbox_of(store: ClusterStore, topic: Topic) -> UndoOutbox:
    return UndoOutbox(store, topic.open, topic.required.append, lambda: None)


def test_the_images_of_an_undone_override_are_decided_again(store: ClusterStore) -> None:
    topic = Topic()
    outbox = outbox_of(store, topic)
    say(store, OverrideKind.PIN, C, target=B)
    say(store, OverrideKind.FORBID, B, SEEN, target=A)
    assert (outbox.publish_available(), topic.required) == (2, [])
    say(store, OverrideKind.UNDO, undoes=2)
    topic.down = True
    with pytest.raises(UnavailableError):
        outbox.publish_available()
    assert store.state().requeued == 0
    topic.down = False
    assert (outbox.publish_available(), outbox.publish_available()) == (1, 0)
    assert topic.required[-1] == ("replay",)
    # c followed b, and the unseen image is not there.
    sent = topic.requests[Lane.NAMED]
    assert [each.image_id for each in sent] == [B, C, A]
    assert {(each.request, each.force, each.author, each.requested_at_ms) for each in sent} == {
        ("undo-2", True, "me", 99)
    }
    assert store.state().requeued == 3
    assert outbox_of(store, topic).publish_available() == 0
    assert topic.requests[Lane.BULK] == []


def test_many_images_wait_behind_those_that_somebody_named(store: ClusterStore) -> None:
    topic = Topic()
    ids = [ImageId(f"i{number}") for number in range(101)]
    put(store, *(joins(3 + at, each, A) for at, each in enumerate(ids)), kinds=(*JOB, "replay"))
    say(store, OverrideKind.SPLIT, *ids, target=A)
    say(store, OverrideKind.UNDO, undoes=1)
    outbox_of(store, topic).publish_available()
    assert len(topic.requests[Lane.BULK]) == 102
    assert topic.requests[Lane.NAMED] == []


def test_what_an_override_moved_is_found_among_other_changes(store: ClusterStore) -> None:
    first = say(store, OverrideKind.FORBID, B, target=A).override
    second = say(store, OverrideKind.FORBID, C, target=A).override
    put(store, founds(3, ImageId("d")), joins(4, ImageId("e"), ImageId("d")), kinds=JOB)
    third = say(store, OverrideKind.MERGE, A, target=ImageId("d")).override
    with store.snapshot() as view:
        assert affected(view, first) == [B, A]
        assert affected(view, second) == [C, A]
        assert affected(view, third) == [A, ImageId("d")]


def test_an_override_of_which_the_history_is_not_kept_is_told(
    store: ClusterStore, caplog: pytest.LogCaptureFixture
) -> None:
    """The merge moved a, b and c. Later only what it names is known."""
    put(store, founds(3, ImageId("d")), kinds=(*JOB, "replay"))
    say(store, OverrideKind.MERGE, A, target=ImageId("d"))
    put(store, founds(4, ImageId("e")), founds(5, ImageId("f")), kinds=(*JOB, "replay"))
    store.set_published(9)
    store.sweep_history(9, 10)
    say(store, OverrideKind.UNDO, undoes=1)
    topic = Topic()
    outbox_of(store, topic).publish_available()
    assert {each.image_id for each in topic.requests[Lane.NAMED]} == {A, "d"}
    assert "the history of the override 1 is not kept: only images that it names" in caplog.text
