"""What storage has decided, as a build asks for it."""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

import pytest

from core.errors import DeadlineError, FaultError, UnavailableError
from core.types import ImageId, LogPosition, Lookup, Membership
from operators.clients import Storage as StorageServer
from operators.decided import StoreDecisions, drop_needless_images, stretches
from search.serving import search_pb2 as pb
from storage.serving.storage_pb2 import UnscoredResponse
from tests.search.serving.search_setup import entry, image, replay


class Storage:
    """A storage server that stands at `position`, and names two unscored places a call."""

    def __init__(self, reports: list[tuple[int, int]], position: int) -> None:
        self.reports = reports
        """Positions, each with the place that became unscored there."""
        self.position = position
        self.asked: list[int] = []

    def unscored(self, after: int) -> UnscoredResponse:
        self.asked.append(after)
        found = [one for one in self.reports if after < one[0] <= self.position]
        complete = len(found) <= 2
        through = self.position if complete else found[1][0]
        return UnscoredResponse(places=[place for _, place in found[:2]], through=through, complete=complete)

    def look_up(self, ids: Collection[ImageId]) -> Lookup:
        places = {ImageId("moved"): 4, ImageId("old"): 2, ImageId("later"): 9}
        memberships = {one: Membership(one, 1, places[one], one) for one in ids if one in places}
        return Lookup(LogPosition("log", self.position), 0, memberships)


def test_what_an_index_has_released_is_hidden_in_it_and_not_asked_for() -> None:
    """The history of a large store takes an hour to read."""
    storage = Storage([(3, 3), (5, 5), (9, 9)], 20)
    found = StoreDecisions(cast(StorageServer, storage), released=5)
    assert found.unscored(20) == [9]
    assert storage.asked == [5]


def decisions(storage: Storage) -> StoreDecisions:
    return StoreDecisions(cast(StorageServer, storage))


def test_unscored_places_are_given_up_to_a_position_until_they_are_hidden() -> None:
    storage = Storage([(3, 3), (5, 5), (8, 2), (9, 9), (30, 30)], 20)
    found = decisions(storage)
    assert found.unscored(4) == [3]
    assert found.unscored(4) == [3]
    found.hidden(3)
    assert found.unscored(7) == [2, 5]  # the image at place 2 became unscored by a replay at 8
    found.hidden(2)
    assert found.unscored(9) == [5, 9]
    found.hidden(9)
    found.hidden(5)
    assert found.unscored(20) == []
    storage.position = 40
    assert found.unscored(29) == []
    assert found.unscored(30) == [30]
    assert storage.asked == sorted(storage.asked)


def test_a_batch_is_cut_after_each_place() -> None:
    records = list(range(10, 16))
    for places, parts in (
        ([], [records]),
        ([3, 10, 12, 13], [[], [10], [11, 12], [13], [14, 15]]),
        ([15], [records, []]),
    ):
        cut = list(stretches(10, 6, places))
        assert [records[part] for part, _ in cut] == parts
        assert [place for _, place in cut] == [*places, None]


def test_a_replay_keeps_its_image_only_if_storage_has_it_at_that_place() -> None:
    entries = [
        entry(1, "old", 1),
        replay(4, "moved", image("moved", 1)),
        replay(5, "old", image("old", 1)),
        replay(6, "later", image("later", 1)),
        replay(7, "deleted", image("deleted", 1)),
        replay(8, "old"),
        replay(21, "old", image("old", 1)),
    ]
    before = [pb.LogEntry.FromString(one.SerializeToString()) for one in entries]
    drop_needless_images(entries, decisions(Storage([], 20)))
    assert [one.replay.HasField("image") for one in entries] == [False, True, False, False, True, False, True]
    assert entries[:2] == before[:2]


def test_a_replay_keeps_an_image_that_became_unscored_at_its_place() -> None:
    entries = [replay(5, "later", image("later", 1)), replay(6, "later", image("later", 1))]
    drop_needless_images(entries, decisions(Storage([(5, 5), (12, 2)], 20)))
    assert [one.replay.HasField("image") for one in entries] == [True, False]
    entries = [replay(5, "later", image("later", 1)), replay(6, "later", image("later", 1))]
    drop_needless_images(entries, decisions(Storage([(5, 5), (6, 6)], 20)))
    assert [one.replay.HasField("image") for one in entries] == [True, True]


def test_an_error_of_storage_is_waited_out_and_blames_no_record() -> None:
    class Slow(Storage):
        def unscored(self, after: int) -> UnscoredResponse:
            raise DeadlineError("no answer in 5 s")

        def look_up(self, ids: Collection[ImageId]) -> Lookup:
            raise FaultError("it failed")

    found = decisions(Slow([], 20))
    with pytest.raises(UnavailableError, match="storage: no answer in 5 s"):
        found.unscored(3)
    with pytest.raises(UnavailableError, match="storage: it failed"):
        found.look_up([])
