"""Deletes and replays over real gRPC: what the answers say, further pages, metrics."""

from __future__ import annotations

import pytest

from core.errors import RefusedError
from search.serving import search_pb2 as pb
from tests.search.serving.running_server import RunningSearch
from tests.search.serving.search_setup import LOG, entry, image, remove, replay, skip


def told(answer: pb.Answer) -> tuple[int, int, bool, list[str]]:
    return answer.place, answer.image_version, answer.deleted, list(answer.candidates.image_ids)


def test_answers_tell_what_a_delete_or_a_replay_met(server: RunningSearch) -> None:
    entries = [
        entry(0, "a", 1, version=4),
        entry(1, "b", 1),
        replay(2, "a"),
        skip(3, "c", 2),
        replay(4, "c", image("c", 1, version=2)),
        replay(5, "d"),
        remove(6, "a"),
        entry(7, "a", 1, version=4),
        replay(8, "a", image("a", 1, version=4)),
        remove(9, "a"),
    ]
    for size in (10, 3):
        answers = [
            answer
            for first in range(0, len(entries), size)
            for answer in server.client.insert_and_search(LOG, entries[first : first + size]).answers
        ]
        assert told(answers[2]) == (0, 4, False, ["b"])
        assert answers[2].score_code == answers[0].score_code
        assert told(answers[4]) == (4, 2, False, ["a", "b"])
        assert told(answers[5]) == (-1, 0, False, [])
        assert told(answers[6]) == (6, 4, True, [])
        assert told(answers[7]) == (6, 0, True, [])
        assert told(answers[8]) == (6, 4, True, [])
        assert told(answers[9]) == (6, 4, False, [])
    stored = server.client.get(["a", "b"]).images
    assert [(one.place, one.hidden, one.deleted) for one in stored] == [(6, True, True), (1, False, False)]


def test_a_forgotten_image_is_counted_until_it_is_erased(server: RunningSearch) -> None:
    entries = [entry(0, "a", 1), entry(1, "b", 1), remove(2, "a")]
    entries[2].remove.forget = True
    server.client.insert_and_search(LOG, entries)
    assert server.client.stats().forgetting == 1
    (stored,) = server.client.get(["a"]).images
    assert (stored.place, stored.deleted, stored.erased) == (2, True, False)
    server.client.release(LOG, 2)
    while server.client.stats().forgetting:
        server.client.release(LOG, 2)
    (stored,) = server.client.get(["a"]).images
    assert (stored.place, stored.deleted, stored.erased) == (2, True, True)


def test_further_pages_of_a_replay_are_never_asked_for_below_what_is_released(server: RunningSearch) -> None:
    server.client.insert_and_search(LOG, [entry(0, "a", 1), entry(1, "b", 1), entry(2, "c", 1), replay(3, "a")])
    (page,) = server.client.search_more([pb.MoreQuery(place=0, after=1, as_of=3)]).answers
    assert list(page.image_ids) == ["c"]
    server.client.release(LOG, 2)
    assert server.client.search_more([pb.MoreQuery(place=0, as_of=3)]).answers[0].image_ids == ["b", "c"]
    for query in (pb.MoreQuery(place=0), pb.MoreQuery(place=0, as_of=2), pb.MoreQuery(place=0, as_of=4)):
        with pytest.raises(RefusedError, match="the places from 3 to 3 are applied and not released") as caught:
            server.client.search_more([query])
        assert caught.value.offset == query.as_of


def test_a_server_names_the_kinds_of_records_that_it_takes(server: RunningSearch) -> None:
    assert list(server.client.describe().kinds) == ["image", "delete", "replay", "member"]


def test_metrics_tell_deletes_and_replays_from_images(server: RunningSearch) -> None:
    server.client.insert_and_search(
        LOG,
        [
            entry(0, "a", 1),
            replay(1, "a"),
            replay(2, "b", image("b", 1)),
            replay(3, "c"),
            remove(4, "a"),
            remove(5, "a"),
            replay(6, "a"),
            entry(7, "a", 1),
        ],
    )
    metrics = server.metrics()
    outcomes = {"found": 1, "placed": 1, "missing": 1, "deleted": 1}
    assert {one: metrics[f'neardup_search_replays_total{{outcome="{one}"}}'] for one in outcomes} == outcomes
    assert metrics['neardup_search_deletes_total{outcome="deleted"}'] == 1
    assert metrics['neardup_search_deletes_total{outcome="nothing"}'] == 1
    assert metrics['neardup_search_queries_total{kind="record"}'] == 1
    assert metrics['neardup_search_queries_total{kind="replay"}'] == 2
    assert metrics["neardup_search_skipped_total"] == 0
    assert metrics["neardup_search_superseded_total"] == 1
    assert metrics["neardup_search_images"] == 1
