"""What a reader learns from the topic `assignments`: each image's head, and how long its verdict took."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from core.errors import BadInputError
from core.types import Cause
from stream.topic_reader import TopicRecord

__all__ = ["Latency", "Verdicts", "latency"]


@dataclass(frozen=True, slots=True)
class Latency:
    """How long verdicts took, in milliseconds; all 0 without images."""

    count: int
    p50_ms: int
    p99_ms: int
    max_ms: int


def latency(waits_ms: Iterable[int]) -> Latency:
    """The percentiles of waits, by nearest rank."""
    ranked = sorted(waits_ms)
    if not ranked:
        return Latency(0, 0, 0, 0)
    return Latency(len(ranked), _rank(ranked, 0.50), _rank(ranked, 0.99), ranked[-1])


def _rank(ranked: Sequence[int], share: float) -> int:
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)]


@dataclass(slots=True)
class Verdicts:
    """Heads and waits, from changes in the order of their epochs and history numbers. A repeated change counts once."""

    heads: dict[str, str] = field(default_factory=dict)
    waits_ms: dict[tuple[str, int], int] = field(default_factory=dict)
    """By image and version: from the arrival of its second half in Kafka to Kafka's time of its verdict in
    `assignments`. The verdict was synced to disk before it was published, so this is an upper bound."""
    causes: Counter[str] = field(default_factory=Counter)
    history_number: int = 0
    """The number of the newest change that was read, within its epoch."""
    epoch: int = 0
    """The epoch of that change."""

    def take(self, records: Iterable[TopicRecord]) -> None:
        """Reads records of `assignments`, in order.

        Raises:
            BadInputError: A record is not of the form that the storage server publishes.
        """
        for record in records:
            self._take(record)

    def clusters(self) -> dict[str, list[str]]:
        """Members by head, the largest clusters first, ties by head."""
        members: dict[str, list[str]] = {}
        for image_id, head in self.heads.items():
            members.setdefault(head, []).append(image_id)
        return dict(sorted(members.items(), key=lambda item: (-len(item[1]), item[0])))

    def _take(self, record: TopicRecord) -> None:
        try:
            change = json.loads(record.value)
            number, image_id, head = int(change["history_number"]), str(change["image_id"]), str(change["head"])
            epoch = int(change.get("epoch", 0))
            cause, version, arrived_at_ms = str(change["cause"]), int(change["version"]), int(change["arrived_at_ms"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadInputError(f"record {record.offset} of the assignments has an unknown form: {error!r}") from error
        if (epoch, number) <= (self.epoch, self.history_number):
            return
        self.epoch, self.history_number = epoch, number
        if change.get("load"):
            return  # the images of a first load are in the files of its manifest
        self.heads[image_id] = head
        if not head:
            del self.heads[image_id]
        self.causes[cause] += 1
        if cause not in (Cause.ADOPTED, Cause.DELETED, Cause.PARTED, Cause.RENAMED, Cause.FORGOTTEN):
            # It moves because of another image or an override, or goes; its own verdict came earlier.
            self.waits_ms.setdefault((image_id, version), record.timestamp_ms - arrived_at_ms)
