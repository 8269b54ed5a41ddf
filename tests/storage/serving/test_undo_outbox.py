"""After an undo the images that the override moved or names are asked for again, also after a failure or a restart."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import UnavailableError
from core.overrides import OverrideKind
from core.replay_requests import Lane, ReplayRequest, parse_request
from core.types import ImageId, ImageRules
from storage.bulk.operations import Operation, OperationState
from storage.interfaces import ClusterStore
from storage.memory import MemoryStore
from storage.overrides.affected import affected, moves_are_kept
from storage.rocks.options import RocksOptions
from storage.rocks.store import RocksStore
from storage.rocks.views import SnapshotView
from storage.serving import undo_outbox
from storage.serving.assignments import Message
from storage.serving.topic_loss import TopicView
from storage.serving.undo_outbox import UndoOutbox
from storage.testing.decisions import A, B, C, deletes, founds, joins, put
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
        assert list(affected(view, first)) == [B, A]
        assert list(affected(view, second)) == [C, A]
        assert list(affected(view, third)) == [A, ImageId("d")]


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


D, X = ImageId("d"), ImageId("x")


class Clock:
    """Tells the second that it is set to."""

    second = 100

    def __call__(self) -> int:
        return 1_000 * self.second


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bulk(tmp_path: Path, clock: Clock) -> Iterator[RocksStore]:
    """a with its members b and c; d alone. Every override that moves images is a bulk move."""
    store = RocksStore(tmp_path, options=RocksOptions(sync=False), now_ms=clock, moves_at_once=0)
    put(store, founds(0, A), joins(1, B, A), joins(2, C, A), founds(3, D), kinds=(*JOB, "replay"))
    yield store
    store.close()


def settle_all(store: ClusterStore) -> None:
    while store.settle(1):
        pass


def done(store: ClusterStore, number: int) -> Operation:
    (operation,) = store.operations(number - 1, 1)
    assert operation.state is OperationState.DONE
    return operation


def test_the_images_of_an_undone_bulk_move_are_decided_again_once_it_is_over(bulk: RocksStore) -> None:
    """The stream writes between its entries, and deletes b. The pin and the undos after it wait too."""
    topic = Topic()
    outbox = outbox_of(bulk, topic)
    say(bulk, OverrideKind.MERGE, A, target=D)
    put(bulk, founds(4, X), kinds=(*JOB, "replay"))
    say(bulk, OverrideKind.FORBID, X, target=C)
    say(bulk, OverrideKind.UNDO, undoes=1)
    say(bulk, OverrideKind.UNDO, undoes=2)
    for _ in range(2):
        bulk.settle(1)
        put(bulk, joins(bulk.position().offset + 1, ImageId(f"y{bulk.position().offset}"), X), kinds=(*JOB, "replay"))
    assert (outbox.publish_available(), outbox.publish_available()) == (2, 0)
    put(bulk, deletes(7, B, D), kinds=(*JOB, "replay", "delete"))
    assert (topic.requests[Lane.NAMED], bulk.state().requeued) == ([], 0)
    settle_all(bulk)
    assert (outbox.publish_available(), outbox.publish_available()) == (2, 0)
    sent = [(each.request, each.image_id) for each in topic.requests[Lane.NAMED]]
    assert sorted(sent[:-2]) == [("undo-1", A), ("undo-1", C), ("undo-1", D)]
    assert sent[-2:] == [("undo-2", X), ("undo-2", C)]
    assert bulk.state().requeued == 4


def test_a_bulk_move_that_rests_holds_up_its_undo(bulk: RocksStore) -> None:
    topic = Topic()
    outbox = outbox_of(bulk, topic)
    say(bulk, OverrideKind.MERGE, A, target=D)
    bulk.pause(1, rests=True)
    say(bulk, OverrideKind.UNDO, undoes=1)
    assert (outbox.publish_available(), outbox.publish_available()) == (1, 0)
    bulk.pause(1, rests=False)
    settle_all(bulk)
    assert outbox_of(bulk, topic).publish_available() == 2
    assert {each.image_id for each in topic.requests[Lane.NAMED]} == {A, B, C, D}


def test_a_planned_move_that_is_to_have_the_number_is_another_one(store: ClusterStore) -> None:
    """The override took the number first, and the plan is made again with another one."""
    planned = Operation(1, OperationState.PLANNING, 9, 0, 0, 7, override=1)

    class Planning(MemoryStore):
        def operations(self, after: int, limit: int) -> Sequence[Operation]:
            return [planned] if after < planned.number else []

    planning = Planning()
    put(planning, founds(0, A), joins(1, B, A), kinds=(*JOB, "replay"))
    say(planning, OverrideKind.FORBID, B, target=A)
    say(planning, OverrideKind.UNDO, undoes=1)
    topic = Topic()
    assert outbox_of(planning, topic).publish_available() == 2
    assert {each.image_id for each in topic.requests[Lane.NAMED]} == {A, B}


def test_the_images_of_a_bulk_move_are_not_held_all_at_once(bulk: RocksStore, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [ImageId(f"i{number:03d}") for number in range(200)]
    put(bulk, *(joins(4 + at, each, A) for at, each in enumerate(ids)), kinds=(*JOB, "replay"))
    say(bulk, OverrideKind.MERGE, A, target=D)
    while bulk.settle(50):
        pass
    say(bulk, OverrideKind.UNDO, undoes=1)
    monkeypatch.setattr(undo_outbox, "CHUNK", 50)
    topic, read, held = Topic(), list[ImageId](), list[int]()

    def reading(*given: object) -> Iterator[ImageId]:
        for each in affected(*given):  # type: ignore[arg-type]
            read.append(each)
            yield each

    class Counting(_Sender):
        def send(self, messages: Sequence[Message], stopping: Callable[[], bool]) -> Sequence[int]:
            held.append(len(read) - len(self._topic.requests[Lane.BULK]))
            return super().send(messages, stopping)

    monkeypatch.setattr(undo_outbox, "affected", reading)
    outbox = UndoOutbox(bulk, lambda lane: Counting(topic, lane), topic.required.append, lambda: None)
    assert outbox.publish_available() == 2
    sent = [each.image_id for each in topic.requests[Lane.BULK]]
    assert sorted(sent) == sorted([A, B, C, D, *ids])
    assert len(held) == 5
    assert max(held) <= 101
    assert topic.requests[Lane.NAMED] == []


def test_it_stops_between_two_chunks_and_begins_again(bulk: RocksStore, monkeypatch: pytest.MonkeyPatch) -> None:
    say(bulk, OverrideKind.MERGE, A, target=D)
    settle_all(bulk)
    say(bulk, OverrideKind.UNDO, undoes=1)
    monkeypatch.setattr(undo_outbox, "CHUNK", 2)
    topic = Topic()

    class Stopping(_Sender):
        def send(self, messages: Sequence[Message], stopping: Callable[[], bool]) -> Sequence[int]:
            outbox.stop()
            return super().send(messages, stopping)

    outbox = UndoOutbox(bulk, lambda lane: Stopping(topic, lane), topic.required.append, lambda: None)
    # The merge is passed, and of the undo one chunk is sent.
    assert (outbox.publish_available(), len(topic.requests[Lane.NAMED]), bulk.state().requeued) == (1, 2, 0)
    assert outbox_of(bulk, topic).publish_available() == 2
    assert {each.image_id for each in topic.requests[Lane.NAMED]} == {A, B, C, D}
    assert bulk.state().requeued == 2


def test_what_is_kept_of_a_bulk_move_is_found_and_nothing_after_it_is_read(
    bulk: RocksStore, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The history is 1 to 4 first verdicts, 5 to 7 moves, 8 to 11 later verdicts; 6 and above are kept."""
    merged = say(bulk, OverrideKind.MERGE, A, target=D).override
    settle_all(bulk)
    clock.second = 200
    put(bulk, *(founds(4 + n, ImageId(f"z{n}")) for n in range(4)), kinds=(*JOB, "replay"))
    operation = done(bulk, 1)
    assert (operation.first, operation.total, operation.ended_ms) == (5, 3, 100_000)
    last_moved = [entry.image_id for entry in bulk.history(5, 2)]
    with bulk.snapshot() as view:
        assert moves_are_kept(view, merged, operation)
        assert set(affected(view, merged, operation)) == {A, B, C, D}
    bulk.set_published(11)
    bulk.sweep_history(6, 5)
    numbers: list[int] = []
    plain = SnapshotView.history_from

    def counted(view: SnapshotView, after: int) -> Iterator[object]:
        for entry in plain(view, after):
            numbers.append(entry.number)
            yield entry

    monkeypatch.setattr(SnapshotView, "history_from", counted)
    with bulk.snapshot() as view:
        assert not moves_are_kept(view, merged, operation)
        assert list(affected(view, merged, operation)) == [*last_moved, *sorted({A, D} - set(last_moved))]
        assert numbers == [6, 7, 8]
        assert set(affected(view, merged, replace(operation, ended_ms=None))) >= {*last_moved, A, D}
    say(bulk, OverrideKind.UNDO, undoes=1)
    topic = Topic()
    outbox_of(bulk, topic).publish_available()
    assert {each.image_id for each in topic.requests[Lane.NAMED]} == {*last_moved, A, D}
    assert "the history of the override 1 is not kept" in caplog.text


def test_the_images_of_an_undone_bulk_split_are_decided_again_each_once(
    bulk: RocksStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The override names all of them, its history tells of all of them, and of one that follows."""
    ids = [ImageId(f"i{number:03d}") for number in range(200)]
    put(bulk, *(joins(4 + at, each, A) for at, each in enumerate(ids)), kinds=(*JOB, "replay"))
    say(bulk, OverrideKind.PIN, B, target=ids[7])
    settle_all(bulk)
    say(bulk, OverrideKind.SPLIT, *ids, target=A)
    say(bulk, OverrideKind.UNDO, undoes=2)
    monkeypatch.setattr(undo_outbox, "CHUNK", 50)
    topic = Topic()
    outbox = outbox_of(bulk, topic)
    outbox.publish_available()
    assert topic.requests[Lane.BULK] == []
    while bulk.settle(50):
        pass
    outbox.publish_available()
    sent = [each.image_id for each in topic.requests[Lane.BULK]]
    assert sorted(sent) == sorted([A, B, *ids])
    assert bulk.look_up([A, *ids]).rules == {ids[7]: ImageRules(None, (), (B,))}
