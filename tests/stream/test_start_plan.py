"""Where a new job begins, and every way in which stores and log can contradict each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import MismatchError
from core.types import LogPosition
from stream.start_plan import (
    Log,
    ReadPosition,
    base_of,
    check_kinds,
    check_released,
    check_required,
    only_partition,
    replay_starts,
    rewind_times,
    starting_position,
)

LOG = Log("joined", "id-1", first=10, end=50)
CHECKSUMS = {offset: offset * 7 for offset in range(LOG.first, LOG.end)}


def at(offset: int, log_id: str = "id-1", checksum: int | None = None) -> LogPosition:
    return LogPosition(log_id, offset, offset * 7 if checksum is None else checksum)


def start(index: LogPosition, storage: LogPosition, log: Log = LOG) -> int:
    return starting_position(log, {"the index": index, "storage": storage}, CHECKSUMS.get)


def test_the_order_has_one_partition() -> None:
    assert only_partition("joined", {0: "ends"}) == "ends"
    with pytest.raises(MismatchError, match="joined has 3 partitions"):
        only_partition("joined", {0: "a", 1: "b", 2: "c"})


def test_fresh_stores_begin_at_the_first_record() -> None:
    assert start(LogPosition(), LogPosition(), Log("joined", "id-1", 0, 0)) == 0


@given(st.integers(10, 49), st.integers(10, 49))
def test_begins_one_after_the_store_that_is_least_far(index: int, storage: int) -> None:
    assert start(at(index), at(storage)) == min(index, storage) + 1


def test_a_log_that_retention_has_emptied_goes_on_where_the_stores_are() -> None:
    emptied = Log("joined", "id-1", first=50, end=50)
    assert start(at(49), at(49), emptied) == 50


def test_the_record_at_a_position_may_be_gone_if_the_next_one_is_there() -> None:
    assert start(at(9), at(20)) == 10


def test_a_gap_in_the_log_is_refused() -> None:
    with pytest.raises(MismatchError, match=r"storage is at position 20 of joined, where there is no record"):
        starting_position(LOG, {"storage": at(20)}, lambda offset: None)


def test_an_emptied_log_of_another_topic_is_refused() -> None:
    with pytest.raises(MismatchError, match=r"the index followed the topic id-1, but joined is id-2"):
        start(at(49), at(49), Log("joined", "id-2", first=50, end=50))


@pytest.mark.parametrize(
    ("index", "storage", "message"),
    [
        (at(20, log_id="id-0"), at(20), r"the index followed the topic id-0, but joined is id-1"),
        (at(20), at(20, log_id="id-0"), r"storage followed the topic id-0"),
        (at(20), at(50), r"storage has applied joined up to position 50, but the log ends at 49"),
        (at(8), at(20), r"the index needs joined from position 9, but its oldest record is 10"),
        (at(50), at(50), r"the index has applied joined up to position 50, but the log ends at 49"),
        (at(20), at(21, checksum=5), r"storage saw a record with checksum 00000005 at position 21"),
        (LogPosition(), at(20), r"the index needs joined from position 0, but its oldest record is 10"),
    ],
)
def test_contradictions_are_refused_with_both_values(index: LogPosition, storage: LogPosition, message: str) -> None:
    with pytest.raises(MismatchError, match=message):
        start(index, storage)


@given(st.integers(-1, 49), st.integers(-1, 49))
def test_storage_is_never_behind_what_the_index_has_released(released: int, stored: int) -> None:
    storage = LogPosition() if stored < 0 else at(stored)
    if released <= stored:
        check_released("the index", released, storage)
    else:
        with pytest.raises(MismatchError, match=rf"released the order up to position {released}.* at {stored}: .*"):
            check_released("the index", released, storage)


#   old log   0 ... 29    epoch 1: base 30    new log, offsets 0 ... 9    positions 30 ... 39


RENEWED = Log.at("joined", "id-2", (0, 10), base=30)
NEW_CHECKSUMS = {position: position * 7 for position in range(30, 40)}


def renewed(offset: int, base: int = 30) -> LogPosition:
    return LogPosition("id-2", offset, offset * 7 if offset >= base else 999, base)


def test_a_server_takes_every_kind_of_record_that_is_sent_to_it() -> None:
    check_kinds("the search server", ["image", "delete", "member"], ["image", "delete"])
    refused: list[tuple[list[str], str]] = [
        ([], r"image, delete .*\(it names none\)"),
        (["image"], r"delete .*\(it names image\)"),
    ]
    for taken, message in refused:
        with pytest.raises(MismatchError, match=f"the search server does not take the kinds of records {message}"):
            check_kinds("the search server", taken, ["image", "delete"])


@pytest.mark.parametrize(("index", "storage", "first"), [(29, 29, 30), (33, 29, 30), (33, 35, 34), (39, 39, 40)])
def test_a_renewed_log_begins_at_its_base(index: int, storage: int, first: int) -> None:
    stores = {"the index": renewed(index), "storage": renewed(storage)}
    assert base_of("id-2", stores.values()) == 30
    assert starting_position(RENEWED, stores, NEW_CHECKSUMS.get) == first


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (at(29), "the index followed the topic id-1, but joined is id-2 now.*`neardup log renew`"),
        (renewed(30, base=31), "the index counts joined from position 31, another store from 30"),
        (LogPosition(), "the index needs joined from position 0, but its oldest record is 30"),
    ],
)
def test_a_store_of_another_epoch_is_refused(index: LogPosition, message: str) -> None:
    with pytest.raises(MismatchError, match=message):
        starting_position(RENEWED, {"the index": index, "storage": renewed(29)}, NEW_CHECKSUMS.get)


#            0        60       100  (time; timeout 30, idle after 20)
#   search   ------------------|    read to its end
#   score    ---------|             40 more to read: event time is 60, a search half of 31 still waits


def test_no_partition_is_rewound_less_than_the_slowest_that_has_records_to_read() -> None:
    positions = {("search", 0): ReadPosition(100, behind=False), ("score", 0): ReadPosition(60, behind=True)}
    assert rewind_times(positions, 30, 20) == {("search", 0): 30, ("score", 0): 30}


def test_a_partition_that_is_read_to_its_end_holds_the_others_back_until_it_is_idle() -> None:
    positions = {("search", 0): ReadPosition(100, behind=False), ("score", 0): ReadPosition(90, behind=False)}
    assert rewind_times(positions, 30, 20) == {("search", 0): 60, ("score", 0): 60}
    positions["score", 0] = ReadPosition(50, behind=False, idle_ms=21)
    assert rewind_times(positions, 30, 20) == {("search", 0): 70, ("score", 0): 20}


def test_old_records_alone_do_not_make_a_partition_idle() -> None:
    """A job that catches up reads them within seconds; until the clock says idle, event time stands at 50."""
    positions = {("search", 0): ReadPosition(100, behind=False), ("score", 0): ReadPosition(50, behind=False)}
    assert rewind_times(positions, 30, 20) == {("search", 0): 20, ("score", 0): 20}


def test_if_all_are_idle_the_slowest_counts() -> None:
    positions = {
        ("search", 0): ReadPosition(100, behind=False, idle_ms=99),
        ("score", 0): ReadPosition(50, behind=False, idle_ms=99),
    }
    assert rewind_times(positions, 30, 20) == {("search", 0): 20, ("score", 0): 20}


def test_no_time_before_the_epoch_is_asked_for() -> None:
    assert rewind_times({("search", 0): ReadPosition(5, behind=True)}, 30, 20) == {("search", 0): 0}
    assert rewind_times({}, 30, 20) == {}


@pytest.mark.parametrize(
    ("applied", "ends", "start"),
    [
        (None, (0, 0), 0),
        (None, (0, 9), 0),
        (4, (0, 9), 5),
        (4, (7, 9), 7),  # retention passed what was not read
        (8, (0, 9), 9),
        (20, (0, 9), 9),  # the topic lost its end
    ],
)
def test_each_lane_of_replays_goes_on_after_what_is_applied(
    applied: int | None, ends: tuple[int, int], start: int
) -> None:
    known = {} if applied is None else {1: applied}
    assert replay_starts(known, {0: (2, 5), 1: ends}) == {0: 2, 1: start}


def test_a_job_that_does_not_know_a_required_kind_is_refused() -> None:
    check_required([], ["image"])
    check_required(["delete"], ["image", "delete"])
    with pytest.raises(MismatchError, match="kinds member, and this release knows image, delete"):
        check_required(["delete", "member"], ["image", "delete"])
