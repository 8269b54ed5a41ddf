"""The terms that a search looked for are told to those who ask, over real gRPC."""

from __future__ import annotations

import numpy as np

from search.serving import search_pb2 as pb
from tests.search.serving.running_server import RunningSearch
from tests.search.serving.search_setup import LOG, entry, image, remove, replay, skip


def terms(message: pb.Answer | pb.SearchAnswer) -> list[int]:
    return [int(each) for each in np.frombuffer(message.terms.values, "<u4")]


def test_a_traced_record_gets_its_terms_and_no_other_does(server: RunningSearch) -> None:
    entries = [
        entry(0, "a", 1),
        entry(1, "b", 1),
        replay(2, "a"),
        skip(3, "c", 2),
        replay(4, "c", image("c", 2, version=2)),
        replay(5, "unknown"),
        remove(6, "b"),
    ]
    for each in (entries[0], *entries[2:]):
        each.trace = True
    answers = server.client.insert_and_search(LOG, entries).answers
    told = [terms(answer) for answer in answers]
    assert len(told[0]) > 1
    assert told[2] == told[0]
    assert told[4]
    assert told[4] != told[0]
    assert told[1] == told[3] == told[5] == told[6] == []


def test_the_terms_are_those_that_were_searched_for_and_not_those_that_came(server: RunningSearch) -> None:
    entries = [
        entry(0, "a", 1, version=2),
        entry(1, "a", 5, version=2),
        replay(2, "a", image("a", 6, version=2)),
        replay(3, "a", image("a", 6, version=1)),
        entry(4, "a", 7, version=1),
        entry(5, "a", 8, version=3),
        replay(6, "a"),
        remove(7, "a"),
        replay(8, "a", image("a", 8, version=3)),
        entry(9, "a", 8, version=3),
    ]
    for each in entries:
        each.trace = True
    for _ in range(2):
        told = [terms(answer) for answer in server.client.insert_and_search(LOG, entries).answers]
        assert told[0] == told[1] == told[2] == told[3] != []
        assert told[5] == told[6] not in ([], told[0])
        assert told[4] == told[7] == told[8] == told[9] == []


def test_shared_terms_of_two_images_are_their_overlap(server: RunningSearch) -> None:
    server.client.insert_and_search(LOG, [entry(0, "a", 1), entry(1, "b", 1, near=0.2), entry(2, "c", 9)])
    queries = [pb.SearchQuery(image_id=name, with_terms=True) for name in ("a", "b")]
    of_a, of_b = server.client.search([*queries, pb.SearchQuery(image_id="a")]).answers[:2]
    shared = sum(one == other for one, other in zip(terms(of_a), terms(of_b), strict=True))
    row = list(of_a.candidates.image_ids).index("b")
    assert shared == np.frombuffer(of_a.candidates.overlaps, "<u2")[row]
    assert terms(server.client.search([pb.SearchQuery(image_id="a")]).answers[0]) == []
