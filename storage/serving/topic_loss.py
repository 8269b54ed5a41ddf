"""How much of the history is provably in the topic `assignments`. Pure.

A broker may lose the last messages that it acknowledged, for example in a power cut. New messages then get their
offsets, so the last number in the topic proves nothing. What proves is a message that lies where it was acknowledged: a
log loses its end, and never a part before a message that is still there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from storage.records import PublishedMark, StoreEpoch

__all__ = ["NOTHING_KEPT", "Kept", "LastMessage", "TopicView", "find_kept", "last_in", "lies_there", "message_in"]

_BACK = 8
"""So many offsets are searched for a message: a producer with transactions leaves offsets without one."""

_WINDOW = 1_024
"""So many offsets are read first to find the last message that was kept, then twice as many each time."""


class TopicView(Protocol):
    """Partition 0 of a topic at one moment."""

    @property
    def topic_id(self) -> str:
        """Kafka's id; empty if the broker does not tell. A topic that was deleted and created again has another."""
        ...

    @property
    def first(self) -> int:
        """The first offset that retention has left."""
        ...

    @property
    def end(self) -> int:
        """The offset that the next message gets."""
        ...

    @property
    def partitions(self) -> int:
        """How many partitions the topic has."""
        ...

    def records(self, start: int, end: int) -> Sequence[tuple[int, bytes]] | None:
        """Offset and value of the records from `start` to before `end`; None: some are damaged on the broker's disk."""
        ...


@dataclass(frozen=True, slots=True)
class LastMessage:
    """The last message of the topic: its history number (0: none was ever sent), and the epoch that it is of.

    Messages of release 0.1 have no epoch.
    """

    number: int
    epoch: StoreEpoch | None = None
    change: tuple[str, str] = ("", "")
    """The image, and the head that it got."""

    def is_of(self, epoch: StoreEpoch) -> bool:
        """Whether it was published in an epoch."""
        mine = self.epoch
        return mine is not None and (mine.created_ms, mine.store_id) == (epoch.created_ms, epoch.store_id)


@dataclass(frozen=True, slots=True)
class Kept:
    """All history entries up to `number` are in the topic, up to the message at `offset` (-1: none)."""

    number: int
    offset: int


NOTHING_KEPT = Kept(0, -1)


def message_in(value: bytes) -> LastMessage | None:
    """What a message says of itself; None if it is not one of ours."""
    try:
        content = json.loads(value)
        number, created_ms = int(content["history_number"]), int(content.get("epoch", 0))
        epoch = StoreEpoch(created_ms, str(content["store_id"])) if created_ms else None
        return LastMessage(number, epoch, (str(content.get("image_id", "")), str(content.get("head", ""))))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def last_in(topic: TopicView) -> LastMessage | None:
    """The last message of the topic; None: it is not known."""
    if topic.partitions != 1:
        return None  # release 0.1 spread the messages over all partitions
    if topic.end == 0:
        return LastMessage(0)
    found = topic.records(max(topic.first, topic.end - _BACK), topic.end)
    return next((message for _, value in reversed(found or ()) if (message := message_in(value))), None)


def find_kept(topic: TopicView, mark: PublishedMark, epoch: StoreEpoch) -> Kept | None:
    """What the topic provably holds; None: damage on the broker's disk hides it.

    Args:
        topic: As it is now.
        mark: The last message that was acknowledged.
        epoch: The epoch that it was published in.
    """
    if mark.topic_id and topic.topic_id and topic.topic_id != mark.topic_id:
        return NOTHING_KEPT
    if _has_entry(topic, mark.number, mark.offset, epoch):
        return Kept(mark.number, mark.offset)
    end, size = min(mark.offset, topic.end), _WINDOW
    lowest = max(topic.first, mark.run_offset)
    while end > lowest:
        start = max(lowest, end - size)
        found = topic.records(start, end)
        if found is None:
            return None
        for offset, value in reversed(found):
            message = message_in(value)
            # Higher numbers were sent after the loss, before it was noticed.
            if message is not None and message.is_of(epoch) and message.number <= mark.number:
                return Kept(message.number, offset)
        end, size = start, 2 * size
    if mark.base_offset >= 0 and _has_entry(topic, mark.base_number, mark.base_offset, epoch):
        return Kept(mark.base_number, mark.base_offset)
    return NOTHING_KEPT


def lies_there(topic: TopicView, offset: int, is_it: Callable[[bytes], bool]) -> bool:
    """Whether a message lies where it was acknowledged, and so do all before it.

    One that retention removed, or that is damaged, counts.

    Args:
        topic: As it is now.
        offset: Where it was acknowledged.
        is_it: Whether a value is that of the message.
    """
    if offset < topic.first:
        return True
    if offset >= topic.end:
        return False
    found = topic.records(offset, offset + 1)
    return found is None or any(is_it(value) for _, value in found)


def _has_entry(topic: TopicView, number: int, offset: int, epoch: StoreEpoch) -> bool:
    def is_it(value: bytes) -> bool:
        message = message_in(value)
        return message is not None and message.number == number and message.is_of(epoch)

    return lies_there(topic, offset, is_it)
