"""Sends requests to the topic `replay`, leaves out what an earlier run of the same request has sent, and waits.

A run that is killed in between has sent whole chunks. Another run with the same request id reads the topic, so it sends
only the rest. An image that is sent twice all the same is decided twice, with the same verdict.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from core.errors import MismatchError
from core.known_verdicts import KnownVerdict
from core.replay_requests import Lane, ReplayRequest, parse_request
from core.types import ImageId
from storage.selecting import SelectedImage
from stream.topic_reader import TopicRecord

__all__ = [
    "FoundImages",
    "LeftOut",
    "ReplayProgress",
    "ReplaySender",
    "RequestProgress",
    "SentRequest",
    "named_pages",
    "send_requests",
    "sent_before",
    "wait_until_applied",
]

POLL_S = 0.1
"""How often storage is asked how far it is."""


@dataclass(frozen=True, slots=True)
class FoundImages:
    """Some of the images that were chosen: those that storage knows, and the named ones that it does not."""

    known: Sequence[SelectedImage]
    unknown: Sequence[ImageId] = ()


@dataclass(slots=True)
class LeftOut:
    """Chosen images that cannot be decided again."""

    unknown: list[ImageId] = field(default_factory=list)
    """Storage does not know them."""
    without_embeddings: list[ImageId] = field(default_factory=list)
    """Their embeddings are not stored."""

    def add(self, page: FoundImages) -> list[SelectedImage]:
        """Takes those of a page; returns the others."""
        self.unknown += page.unknown
        self.without_embeddings += [each.image.image_id for each in page.known if not each.replayable]
        return [each for each in page.known if each.replayable]


@dataclass(frozen=True, slots=True)
class SentRequest:
    """Where the last request for an image lies in its lane, and the verdict on it before the first one."""

    offset: int
    before: KnownVerdict | None


@dataclass(slots=True)
class ReplayProgress:
    """What became of the chosen images so far."""

    earlier: Mapping[ImageId, SentRequest] = field(default_factory=dict)
    """What an earlier run of this request has sent (`sent_before`)."""
    offsets: list[int] = field(default_factory=list)
    """Where the requests lie in their lane, ascending; those of earlier runs too."""
    applied: int = 0
    """How many storage has applied."""
    left_out: LeftOut = field(default_factory=LeftOut)
    old: dict[ImageId, KnownVerdict] = field(default_factory=dict)
    """The verdicts before, if they are wanted."""

    def __post_init__(self) -> None:
        """Counts what was sent before."""
        self.offsets = sorted(each.offset for each in self.earlier.values())

    @property
    def sent(self) -> int:
        """How many requests are in the topic."""
        return len(self.offsets)


class ReplaySender(Protocol):
    """Appends requests to the topic."""

    def send(self, lane: Lane, requests: Sequence[ReplayRequest]) -> Sequence[int]:
        """Returns the offset of each in the lane, ascending, once all are acknowledged.

        Raises:
            UnavailableError: Not all are known to be acknowledged.
        """
        ...


class RequestProgress(Protocol):
    """How far storage is."""

    def applied(self, lane: Lane) -> int:
        """The offset of the last request of a lane that it has applied; -1: none."""
        ...


def sent_before(records: Iterable[TopicRecord], request: str) -> dict[ImageId, SentRequest]:
    """The images of a request that are in a lane already.

    Args:
        records: Of the lane, in order.
        request: The id of the request.
    """
    mark = request.encode("ascii", "ignore")
    found: dict[ImageId, SentRequest] = {}
    for record in records:
        if mark not in record.value:  # most belong to others, and are not parsed
            continue
        parsed = parse_request(record.value)
        if isinstance(parsed, ReplayRequest) and parsed.request == request:
            first = found.get(parsed.image_id)
            found[parsed.image_id] = SentRequest(record.offset, parsed.before if first is None else first.before)
    return found


def send_requests(
    pages: Iterable[FoundImages],
    wanted: ReplayRequest,
    sender: ReplaySender,
    storage: RequestProgress,
    progress: ReplayProgress,
    *,
    keep_old: bool = False,
    on_page: Callable[[], None] = lambda: None,
) -> None:
    """Sends a request for each image, page by page. An image that is found twice is sent once.

    Args:
        pages: The chosen images.
        wanted: What is asked for each; its image id and its verdict before are replaced.
        sender: Of the topic.
        storage: How far it is.
        progress: Is added to after each page, so that it is true also when an error ends the run.
        keep_old: Also keep the verdicts before, those of earlier runs too.
        on_page: Called after each page.

    Raises:
        MismatchError: The topic gives offsets that storage has applied already: it has lost records.
        UnavailableError: Kafka did not take all of a page.
    """
    seen = set(progress.earlier)
    if keep_old:
        sent = progress.earlier.items()
        progress.old.update((image_id, each.before) for image_id, each in sent if each.before is not None)
    lane = wanted.lane
    applied = storage.applied(lane)
    for page in pages:
        fresh = {each.image.image_id: each for each in page.known if each.image.image_id not in seen}
        seen.update(fresh)
        found = progress.left_out.add(FoundImages(list(fresh.values()), page.unknown))
        requests = [replace(wanted, image_id=each.image.image_id, before=KnownVerdict.of(each.image)) for each in found]
        offsets = sender.send(lane, requests) if requests else ()
        if offsets and offsets[0] <= applied:
            raise MismatchError(
                f"the request lies at offset {offsets[0]} of partition {lane} of the topic `replay`, but storage has "
                f"applied requests up to {applied}: it has lost records. Delete it, run `neardup topics create`, "
                "start the job again, and give the command again"
            )
        progress.offsets += offsets
        if keep_old:
            progress.old.update((each.image_id, each.before) for each in requests if each.before is not None)
        on_page()


def wait_until_applied(
    storage: RequestProgress,
    lane: Lane,
    progress: ReplayProgress,
    on_look: Callable[[], None] = lambda: None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Returns when storage has applied all requests.

    Args:
        storage: How far it is.
        lane: Of the requests.
        progress: What was sent; `applied` is kept.
        on_look: Called after each look.
        sleep: Waits so many seconds.
    """
    while True:
        progress.applied = bisect_right(progress.offsets, storage.applied(lane))
        on_look()
        if progress.applied == progress.sent:
            return
        sleep(POLL_S)


def named_pages(
    ids: Sequence[ImageId], named: Callable[[Sequence[ImageId]], Sequence[SelectedImage]], page_images: int
) -> Iterator[FoundImages]:
    """Named images, page by page.

    Args:
        ids: Of the images.
        named: Storage's answer for some of them.
        page_images: The most of one page.
    """
    for at in range(0, len(ids), page_images):
        asked = ids[at : at + page_images]
        known = named(asked)
        found = {each.image.image_id for each in known}
        yield FoundImages(known, [each for each in asked if each not in found])
