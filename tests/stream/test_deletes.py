"""Deletes of many images: a chunk at a time, never ahead of storage, and what became of each."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.delete_requests import DeleteRequest
from core.errors import MismatchError, UnavailableError
from core.types import ImageId, LogPosition, Lookup, Membership, Tombstone
from stream.deletes import CHUNK, DeleteFate, DeleteReport, check_log, delete_images

BASE = 1_000


@dataclass
class FakeService:
    """The order with other records in it, and a storage that applies a few records at each look."""

    living: dict[ImageId, int] = field(default_factory=dict)
    """Versions."""
    gone: dict[ImageId, int] = field(default_factory=dict)
    """Positions of tombstones."""
    pace: int = 1_000
    order: list[DeleteRequest | None] = field(default_factory=list)
    applied: int = 0
    most_ahead: int = 0
    fails_after: int = 10**9
    loads_for: int = 0
    """Looks during which a first load is under way: nothing is applied, and positions begin at 0."""

    def delete(self, requests: Sequence[DeleteRequest]) -> Sequence[int]:
        if len(self.order) > self.fails_after:
            raise UnavailableError("no broker")
        offsets = []
        for each in requests:
            self.order += [None, each]
            offsets.append(len(self.order) - 1)
        self.most_ahead = max(self.most_ahead, sum(each is not None for each in self.order[self.applied :]))
        return offsets

    def look_up(self, ids: Collection[ImageId]) -> Lookup:
        if self.loads_for:
            self.loads_for -= 1
            return Lookup(LogPosition(), 0, {}, {}, {})
        for _ in range(min(self.pace, len(self.order) - self.applied)):
            request = self.order[self.applied]
            if request is not None:
                self._apply(request, BASE + self.applied)
            self.applied += 1
        return Lookup(
            LogPosition("topic", BASE + self.applied - 1, 0, BASE),
            0,
            {each: Membership(each, self.living[each], 0, each) for each in ids if each in self.living},
            {},
            {each: Tombstone(each, 1, self.gone[each], 0) for each in ids if each in self.gone},
        )

    def _apply(self, request: DeleteRequest, position: int) -> None:
        version = self.living.get(request.image_id)
        if version is not None and (request.version is None or request.version >= version):
            del self.living[request.image_id]
            self.gone[request.image_id] = position


def asked(ids: Collection[str], version: int | None = None) -> Iterator[DeleteRequest]:
    return (DeleteRequest(ImageId(each), "r", version) for each in ids)


def ids_of(numbers: Collection[int]) -> list[ImageId]:
    return [ImageId(f"i{number}") for number in numbers]


@settings(deadline=None)
@given(
    living=st.sets(st.integers(0, 300), max_size=200),
    gone=st.sets(st.integers(0, 300), max_size=100),
    named=st.lists(st.integers(0, 300), max_size=250),
    version=st.none() | st.integers(0, 3),
    pace=st.integers(1, 200),
)
def test_each_image_has_the_fate_that_storage_tells(
    living: set[int], gone: set[int], named: list[int], version: int | None, pace: int
) -> None:
    gone -= living
    service = FakeService(
        {image_id: number % 3 for number, image_id in zip(sorted(living), ids_of(sorted(living)), strict=True)},
        dict.fromkeys(ids_of(gone), 5),
        pace,
    )
    before = dict(service.living)
    report = DeleteReport()
    waits: list[bool] = []
    delete_images(asked(ids_of(named), version), service, service, report, waits.append, lambda _: None)
    for image_id in ids_of(named):
        if image_id in before:
            deleted = version is None or version >= before[image_id]
            assert report.fates[image_id] is (DeleteFate.DELETED if deleted else DeleteFate.NEWER)
        else:
            known = image_id in ids_of(gone)
            assert report.fates[image_id] is (DeleteFate.BEFORE if known else DeleteFate.UNKNOWN)
    assert set(report.fates) == set(ids_of(named))
    assert service.most_ahead <= CHUNK
    assert sum(each is not None for each in service.order) == len(set(named))
    assert report.position == (BASE + len(service.order) - 1 if named else -1)
    assert not named or waits[-1] is False


def test_after_an_error_the_report_names_what_is_done_and_a_second_run_does_the_rest() -> None:
    ids = ids_of(range(3 * CHUNK))
    service = FakeService(dict.fromkeys(ids, 1), fails_after=CHUNK)
    report = DeleteReport()
    with pytest.raises(UnavailableError):
        delete_images(asked(ids), service, service, report)
    assert list(report.fates) == ids[:CHUNK]
    service.fails_after = 10**9
    again = DeleteReport()
    delete_images(asked(ids), service, service, again)
    assert (again.count(DeleteFate.BEFORE), again.count(DeleteFate.DELETED)) == (CHUNK, 2 * CHUNK)
    assert service.living == {}


def test_a_topic_that_storage_does_not_follow_is_refused_with_both() -> None:
    service = FakeService()
    check_log(service, "joined", "topic")
    with pytest.raises(MismatchError, match=r"storage follows the topic topic, but joined is other now.*log renew"):
        check_log(service, "joined", "other")


def test_deletes_that_wait_for_a_first_load_are_told_once_they_are_applied() -> None:
    """The load moves the position of the order's offset 0: nothing at its old place has been applied."""
    ids = ids_of(range(3))
    service = FakeService(dict.fromkeys(ids, 1), loads_for=5, pace=1)
    check_log(service, "joined", "topic")
    report = DeleteReport()
    delete_images(asked(ids), service, service, report, sleep=lambda _: None)
    assert set(report.fates.values()) == {DeleteFate.DELETED}
    assert report.position == BASE + len(service.order) - 1
