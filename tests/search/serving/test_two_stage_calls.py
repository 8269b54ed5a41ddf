"""Both stages of a search over the wire: the nearest codes first, in pages of one list; no distances without a code.

A brute-force oracle over terms and codes says what every answer must be.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neardup.events_pb2 import FLOAT16
from search.ranking import FURTHER, Order, Ranking
from search.serving import search_pb2 as pb
from search.serving.limits import MAX_ORDERED, SearchLimits
from search.serving.messages import index_version
from tests.search.serving.running_server import RunningSearch, run_search_server
from tests.search.serving.search_setup import (
    LOG,
    SCORE_DIMENSION,
    SEARCH_DIMENSION,
    entry,
    replay,
    server_settings,
    vector,
)
from tests.support.ports import free_ports

RANKING = Ranking(candidates=3, depth=150)
IMAGES = 180
NOISE = 0.004

ASKED = 90
"""Whose candidates are asked for."""


def near(place: int) -> float:
    """How far an image is from the others: all are copies of one original."""
    return place * NOISE


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSearch]:
    """An index of copies that all share terms: more than `depth` of them."""
    folder: Path = tmp_path_factory.mktemp("two-stages")
    with run_search_server(server_settings(folder / "index", *free_ports(2), ranking=RANKING)) as running:
        running.client.insert_and_search(LOG, [entry(place, f"i{place}", 1, near(place)) for place in range(IMAGES)])
        yield running


def embeddings(place: int) -> dict[str, pb.Vector]:
    """Both embeddings of an image, as a query brings them."""
    names = (("vector", SEARCH_DIMENSION), ("score", SCORE_DIMENSION))
    return {
        name: pb.Vector(element_type=FLOAT16, data=vector(dimension, 1, near(place)).astype("<f2").tobytes())
        for name, dimension in names
    }


def oracle(server: RunningSearch, place: int, *, by_distance: bool = True) -> list[tuple[str, int, int]]:
    """Id, overlap and distance of the candidates of an image among all others, by brute force."""
    extractor, coder = server.settings.terms.build(), server.settings.code.build()
    search = [vector(SEARCH_DIMENSION, 1, near(each)).astype("<f2") for each in range(IMAGES)]
    score = [vector(SCORE_DIMENSION, 1, near(each)).astype("<f2") for each in range(IMAGES)]
    terms, codes = extractor.terms(search), np.unpackbits(coder.codes(score, search), axis=1)
    overlaps = (terms == terms[place]).sum(axis=1)
    distances = (codes != codes[place]).sum(axis=1)
    staged = sorted((-overlaps[each], each) for each in range(IMAGES) if each != place and overlaps[each])
    if by_distance:
        staged = sorted(staged[: RANKING.depth], key=lambda one: (distances[one[1]], *one))
    return [(f"i{each}", int(-overlap), int(distances[each])) for overlap, each in staged]


def listed(found: pb.Candidates) -> list[tuple[str, int, int]]:
    overlaps, distances = np.frombuffer(found.overlaps, "<u2"), np.frombuffer(found.distances, "<u2")
    return list(zip(found.image_ids, overlaps.tolist(), distances.tolist(), strict=True))


def free(server: RunningSearch, **query: Any) -> pb.Candidates:
    return server.client.search([pb.SearchQuery(**query)]).answers[0].candidates


def test_the_images_share_enough_terms_to_test_both_stages(server: RunningSearch) -> None:
    by_overlap = oracle(server, ASKED, by_distance=False)
    assert len(by_overlap) > RANKING.depth
    assert {one[0] for one in by_overlap[: RANKING.depth]} != {one[0] for one in by_overlap}
    assert [one[0] for one in by_overlap[:20]] != [one[0] for one in oracle(server, ASKED)[:20]]


def test_the_first_page_has_the_nearest(server: RunningSearch) -> None:
    found = free(server, image_id=f"i{ASKED}")
    assert listed(found) == oracle(server, ASKED)[:3]
    assert not found.exhausted


def test_further_pages_have_a_hundred_and_end_at_the_depth(server: RunningSearch) -> None:
    whole, after, found = oracle(server, ASKED), 0, list[tuple[str, int, int]]()
    assert len(whole) == RANKING.depth
    sizes = []
    while True:
        page = free(server, image_id=f"i{ASKED}", after=after)
        found += listed(page)
        sizes.append(len(page.image_ids))
        after += sizes[-1]
        if page.exhausted:
            break
    assert found == whole
    assert sizes == [3, FURTHER, RANKING.depth - FURTHER - 3]
    past = free(server, image_id=f"i{ASKED}", after=RANKING.depth)
    assert (list(past.image_ids), past.exhausted) == ([], True)


def test_a_query_by_both_embeddings_is_that_of_the_stored_image(server: RunningSearch) -> None:
    found = free(server, k=20, **embeddings(ASKED))
    assert listed(found)[0] == (f"i{ASKED}", 16, 0)
    assert [one for one in listed(found) if one[0] != f"i{ASKED}"] == oracle(server, ASKED)[:19]


def test_without_a_score_embedding_the_answer_is_by_overlap_and_says_so(server: RunningSearch) -> None:
    found = free(server, vector=embeddings(ASKED)["vector"], k=IMAGES)
    assert found.distances == b""
    ids = [image_id for image_id in found.image_ids if image_id != f"i{ASKED}"]
    assert ids == [one[0] for one in oracle(server, ASKED, by_distance=False)]


def test_queries_with_and_without_a_code_may_come_together(server: RunningSearch) -> None:
    queries = [
        pb.SearchQuery(vector=embeddings(5)["vector"]),
        pb.SearchQuery(image_id=f"i{ASKED}"),
        pb.SearchQuery(**embeddings(9), k=1),
        pb.SearchQuery(image_id="nobody"),
    ]
    together = server.client.search(queries).answers
    alone = [server.client.search([query]).answers[0] for query in queries]
    assert list(together) == alone
    assert [bool(one.candidates.distances) for one in together] == [False, True, True, False]


def test_records_and_replays_are_ranked_by_their_own_code(server: RunningSearch) -> None:
    answers = server.client.insert_and_search(LOG, [replay(IMAGES, f"i{ASKED}")]).answers
    assert listed(answers[0].candidates) == oracle(server, ASKED)[:3]
    more = server.client.search_more([pb.MoreQuery(place=ASKED, after=3, as_of=IMAGES)]).answers[0]
    assert listed(more) == oracle(server, ASKED)[3 : 3 + FURTHER]


def test_verdicts_name_how_candidates_were_ranked(server: RunningSearch) -> None:
    fingerprint = server.settings.terms.fingerprint
    assert server.client.describe().index_version == f"{fingerprint[:12]}/1000000/3-of-150-by-32-bits"
    nearest = Ranking(20, 1000, min_overlap=2).for_codes(1024)
    assert index_version("41d0ab93c2f1ff", 9, nearest) == "41d0ab93c2f1/9/20-of-1000-by-1024-bits-sharing-2"
    by_overlap = Ranking(100, order=Order.OVERLAP).for_codes(1024)
    assert index_version("41d0ab93c2f1ff", 9, by_overlap) == "41d0ab93c2f1/9/100-by-overlap"


@pytest.mark.parametrize(("depth", "items"), [(1_000, 1_024), (10_000, 1_000)])
def test_the_memory_of_the_depth_bounds_a_call(depth: int, items: int) -> None:
    limits = SearchLimits(1 << 30, groups=16, ranking=Ranking(20, depth), code_bytes=640, max_postings=10**6)
    assert limits.max_items == items
    assert limits.max_items * depth <= MAX_ORDERED
