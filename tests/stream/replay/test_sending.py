"""Sending requests: each image once, whatever ends a run, and the rest by another run with the same id."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import MismatchError, UnavailableError
from core.known_verdicts import KnownVerdict
from core.replay_requests import LANES, Lane, ReplayRequest, encode_request
from core.types import Cause, ImageId, Versions
from storage.records import ImageRecord
from storage.selecting import SelectedImage
from stream.replay.sending import (
    FoundImages,
    LeftOut,
    ReplayProgress,
    named_pages,
    send_requests,
    sent_before,
    wait_until_applied,
)
from stream.topic_reader import TopicRecord


@dataclass
class FakeReplays:
    """The topic, and a storage that applies some of it at each look."""

    lanes: dict[Lane, list[bytes]] = field(default_factory=lambda: {lane: [] for lane in LANES})
    fails_at: int = 10**9
    """The call that fails, after its records are there."""
    calls: int = 0
    pace: int = 10**9
    done: dict[Lane, int] = field(default_factory=lambda: dict.fromkeys(LANES, -1))

    def send(self, lane: Lane, requests: Sequence[ReplayRequest]) -> Sequence[int]:
        first = len(self.lanes[lane])
        self.lanes[lane] += map(encode_request, requests)
        self.calls += 1
        if self.calls == self.fails_at:
            raise UnavailableError("no broker")
        return range(first, len(self.lanes[lane]))

    def applied(self, lane: Lane) -> int:
        self.done[lane] = min(len(self.lanes[lane]) - 1, self.done[lane] + self.pace)
        return self.done[lane]

    def records(self, lane: Lane) -> Iterator[TopicRecord]:
        return (TopicRecord(offset, 0, b"", value) for offset, value in enumerate(self.lanes[lane]))


class Idle(FakeReplays):
    """Nothing is applied."""

    def applied(self, lane: Lane) -> int:
        return self.done[lane]


def image(name: str, *, replayable: bool = True) -> SelectedImage:
    record = ImageRecord(ImageId(name), 1, 0, ImageId(name), None, None, Cause.FOUNDED, 0, 0, 0, Versions("1", "i"), 1)
    return SelectedImage(record, replayable)


def pages(*names: str, size: int = 3, lost: frozenset[str] = frozenset()) -> list[FoundImages]:
    found = [image(name, replayable=name not in lost) for name in names]
    return [FoundImages(found[at : at + size]) for at in range(0, len(found), size)]


BULK = ReplayRequest("r-1", ImageId("-"), bulk=True, force=True)
NAMED = ReplayRequest("r-1", ImageId("-"))


def sent_ids(topic: FakeReplays, lane: Lane, request: str = "r-1") -> list[str]:
    return list(sent_before(topic.records(lane), request))


@pytest.mark.parametrize("wanted", [BULK, NAMED])
def test_every_image_is_sent_once_into_the_lane_of_its_request(wanted: ReplayRequest) -> None:
    topic, progress = FakeReplays(), ReplayProgress()
    found = [*pages("a", "b", "c", "b", "d", "a", lost=frozenset("c")), FoundImages([], [ImageId("x")])]
    send_requests(found, wanted, topic, topic, progress, keep_old=True)
    assert sent_ids(topic, wanted.lane) == ["a", "b", "d"]
    assert [len(topic.lanes[lane]) for lane in LANES] == ([0, 3] if wanted.bulk else [3, 0])
    assert (progress.sent, progress.left_out) == (3, LeftOut([ImageId("x")], [ImageId("c")]))
    assert progress.old["a"] == KnownVerdict.of(image("a").image)
    assert set(progress.old) == {"a", "b", "d"}
    again = ReplayProgress(sent_before(topic.records(wanted.lane), "r-1"))
    send_requests([*found, *pages("e")], wanted, topic, Idle(), again, keep_old=True)
    assert sent_ids(topic, wanted.lane) == ["a", "b", "d", "e"]
    assert again.old == progress.old | {"e": KnownVerdict.of(image("e").image)}


@settings(deadline=None)
@given(
    count=st.integers(0, 40),
    size=st.integers(1, 7),
    seed=st.integers(0, 10**6),
    crashes=st.integers(0, 4),
    pace=st.integers(1, 50),
)
def test_runs_that_are_broken_off_and_given_again_send_all_once_and_wait_for_all(
    count: int, size: int, seed: int, crashes: int, pace: int
) -> None:
    dice = random.Random(seed)
    names = [f"i{number}" for number in range(count)]
    topic = FakeReplays(pace=pace)
    others = [ReplayRequest("r-10", ImageId(name), bulk=True) for name in names]
    for crash in range(crashes + 1):
        topic.fails_at = topic.calls + 1 + dice.randrange(10) if crash < crashes else 10**9
        topic.lanes[Lane.BULK] += map(encode_request, others[:3])  # somebody else's
        progress = ReplayProgress(sent_before(topic.records(Lane.BULK), "r-1"))
        dice.shuffle(names)
        try:
            send_requests(pages(*names, size=size), BULK, topic, Idle(), progress)
        except UnavailableError:
            continue
        break
    assert sorted(sent_ids(topic, Lane.BULK)) == sorted(names)
    ours = [record.offset for record in topic.records(Lane.BULK) if b'"r-1"' in record.value]
    assert len(ours) == len(names)
    assert progress.offsets == ours
    looks: list[int] = []
    wait_until_applied(topic, Lane.BULK, progress, lambda: looks.append(progress.applied), lambda _: None)
    assert looks == sorted(looks)
    assert progress.applied == progress.sent == len(names)
    assert not ours or topic.done[Lane.BULK] >= ours[-1]


def test_offsets_that_storage_has_applied_already_are_refused() -> None:
    topic, storage = FakeReplays(), Idle(done=dict.fromkeys(LANES, 7))
    with pytest.raises(MismatchError, match=r"offset 0 of partition 1.*requests up to 7.*lost records"):
        send_requests(pages("a"), BULK, topic, storage, ReplayProgress())


def test_named_images_come_in_pages_with_those_that_are_unknown() -> None:
    ids = [ImageId(name) for name in "abcde"]
    known = {name: image(name) for name in "ace"}
    found = list(named_pages(ids, lambda asked: [known[each] for each in asked if each in known], 2))
    assert [[each.image.image_id for each in page.known] for page in found] == [["a"], ["c"], ["e"]]
    assert [list(page.unknown) for page in found] == [["b"], ["d"], []]
    assert list(named_pages([], lambda asked: [], 2)) == []
