"""What is read from `assignments`: heads, waits, percentiles."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.errors import BadInputError
from stream.topic_reader import TopicRecord
from stream.verdicts import Latency, Verdicts, latency


def change(number: int, image: str, head: str, *, at_ms: int = 1_500, **other: Any) -> TopicRecord:
    """One record: the image's second half arrived at 1,000 ms."""
    fields = {
        "history_number": number,
        "image_id": image,
        "head": head,
        "cause": "matched" if image != head else "founded",
        "version": 1,
        "arrived_at_ms": 1_000,
        **other,
    }
    return TopicRecord(number, at_ms, image.encode(), json.dumps(fields).encode())


def test_the_last_change_of_an_image_is_its_head() -> None:
    verdicts = Verdicts()
    verdicts.take([change(1, "a", "a"), change(2, "b", "a"), change(3, "c", "c")])
    verdicts.take([change(4, "c", "a", cause="adopted")])
    assert verdicts.heads == {"a": "a", "b": "a", "c": "a"}
    assert verdicts.clusters() == {"a": ["a", "b", "c"]}
    assert verdicts.causes == {"founded": 2, "matched": 1, "adopted": 1}


def test_a_deleted_image_has_no_head() -> None:
    verdicts = Verdicts()
    verdicts.take([change(1, "a", "a"), change(2, "b", "a"), change(3, "a", "", at_ms=90_000, cause="deleted")])
    assert verdicts.heads == {"b": "a"}
    assert verdicts.causes == {"founded": 1, "matched": 1, "deleted": 1}
    assert set(verdicts.waits_ms.values()) == {500}


def test_a_first_load_is_no_verdict() -> None:
    verdicts = Verdicts()
    verdicts.take([change(5, "", "", cause="bootstrapped", load={"images": 5}), change(6, "f", "a")])
    assert (verdicts.heads, verdicts.causes) == ({"f": "a"}, {"matched": 1})
    assert verdicts.history_number == 6
    assert len(verdicts.waits_ms) == 1


def test_clusters_come_largest_first_then_by_head() -> None:
    verdicts = Verdicts()
    verdicts.take([change(1, "z", "z"), change(2, "m", "m"), change(3, "b", "b"), change(4, "n", "m")])
    assert list(verdicts.clusters()) == ["m", "b", "z"]


def test_a_change_that_is_told_twice_counts_once() -> None:
    verdicts = Verdicts()
    records = [change(1, "a", "a"), change(2, "b", "a")]
    verdicts.take(records + records)
    assert sum(verdicts.causes.values()) == 2
    assert verdicts.history_number == 2


def test_a_new_epoch_begins_its_numbers_again() -> None:
    verdicts = Verdicts()
    verdicts.take([change(1, "a", "a", epoch=5), change(2, "b", "a", epoch=5), change(1, "b", "b", epoch=6)])
    verdicts.take([change(3, "a", "b", epoch=5)])
    assert verdicts.heads == {"a": "a", "b": "b"}
    assert (verdicts.epoch, verdicts.history_number) == (6, 1)


def test_waits_count_from_the_second_half_and_once_per_version() -> None:
    """
    a v1  arrives 1000, verdict 1500              500
    a v2  arrives 2000, verdict 2100              100
    b     arrives 1000, verdict 1700              700
    b     adopted at 9000 because of another      not a wait of b
    """
    verdicts = Verdicts()
    verdicts.take(
        [
            change(1, "a", "a"),
            change(2, "b", "b", at_ms=1_700),
            change(3, "b", "a", at_ms=9_000, cause="adopted"),
            change(4, "a", "a", at_ms=2_100, version=2, arrived_at_ms=2_000, cause="kept"),
        ]
    )
    assert verdicts.waits_ms == {("a", 1): 500, ("b", 1): 700, ("a", 2): 100}


@pytest.mark.parametrize("value", [b"", b"{}", b"[]", b'{"history_number": "x"}', b"\xff"])
def test_a_record_of_another_form_is_refused(value: bytes) -> None:
    with pytest.raises(BadInputError, match="record 7"):
        Verdicts().take([TopicRecord(7, 0, b"", value)])


@pytest.mark.parametrize(
    ("waits", "expected"),
    [
        ([], Latency(0, 0, 0, 0)),
        ([5], Latency(1, 5, 5, 5)),
        (range(1, 101), Latency(100, 50, 99, 100)),
        ([3, 1, 2], Latency(3, 2, 3, 3)),
    ],
)
def test_percentiles_are_by_nearest_rank(waits: list[int], expected: Latency) -> None:
    assert latency(waits) == expected
