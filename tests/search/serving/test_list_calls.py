"""What the index holds, page by page, over the wire: pages, limits, rights and admission."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from core.access import Access, Credentials, Keys, Right
from core.errors import BusyError, DeniedError, RefusedError
from search.serving import search_pb2 as pb
from search.serving.admission import Caller
from search.serving.client import SearchClient
from tests.search.serving.running_server import RunningSearch, run_search_server
from tests.search.serving.search_setup import LOG, MAX_MESSAGE_BYTES, entry, remove, server_settings, skip
from tests.support.ports import free_ports


@pytest.fixture
def filled(server: RunningSearch) -> RunningSearch:
    """Six images: one came again, one was deleted, one is hidden; and one that could not be indexed."""
    entries = [entry(place, f"i{place}", place) for place in range(6)]
    entries += [entry(6, "i0", 6, version=2), remove(7, "i1"), skip(8, "i8", 1)]
    server.client.insert_and_search(LOG, entries)
    server.client.hide(3)
    return server


def rows(images: list[pb.StoredImage]) -> list[tuple[str, int, int, bool]]:
    return [(one.image_id, one.image_version, one.place, one.deleted) for one in images]


HELD = [("i2", 1, 2, False), ("i4", 1, 4, False), ("i5", 1, 5, False), ("i0", 2, 6, False), ("i1", 1, 7, True)]


def test_pages_of_any_size_make_the_same_whole(filled: RunningSearch) -> None:
    for limit in range(7):
        found: list[tuple[str, int, int, bool]] = []
        page = pb.ListResponse(through=-1)
        while not page.complete:
            page = filled.client.list_page(page.through, limit)
            assert limit == 0 or len(page.images) <= limit
            found += rows(list(page.images))
        assert found == HELD
    assert not any(one.score_code for one in filled.client.list_page(-1).images)


def test_single_places_give_what_is_listed_there(filled: RunningSearch) -> None:
    answer = filled.client.get(["i0"], [7, 3, 2, 99, 8])
    assert [one.image_id for one in answer.images] == ["i0"]
    assert rows(list(answer.listed)) == [HELD[4], HELD[0]]


def test_a_share_gives_some(filled: RunningSearch) -> None:
    half = rows(list(filled.client.list_page(-1, share=1 << 31).images))
    assert 0 < len(half) < len(HELD)
    assert set(half) < set(HELD)


def test_a_page_is_as_large_as_other_calls_may_be(filled: RunningSearch) -> None:
    with pytest.raises(RefusedError, match="at most 665 items, not 666"):
        filled.client.list_page(-1, 666)
    with pytest.raises(RefusedError, match="at most 665 items, not 666"):
        filled.client.get(["i0"], [2] * 665)


def test_a_page_counts_as_the_images_that_it_may_have(filled: RunningSearch) -> None:
    with closing(SearchClient(filled.client.address, 30.0, MAX_MESSAGE_BYTES, Caller.SHADOW)) as shadow:
        shadow.list_page(-1, 9)
        with pytest.raises(BusyError):  # of ten a second
            shadow.list_page(-1, 9)
    assert filled.metrics()['neardup_search_admitted_items_total{caller="shadow"}'] == 9


def test_readers_may_list_and_nobody_else(tmp_path: Path) -> None:
    port, metrics_port = free_ports(2)
    base = server_settings(tmp_path / "index", port, metrics_port)
    access = Access(Keys(read="read-word"), frozenset[Right]())
    with run_search_server(replace(base, listen=replace(base.listen, access=access))) as server:

        def listed(key: str) -> pb.ListResponse:
            address, proof = server.client.address, Credentials(key)
            with closing(SearchClient(address, 30.0, MAX_MESSAGE_BYTES, credentials=proof)) as client:
                return client.list_page(-1)

        assert listed("read-word").complete
        with pytest.raises(DeniedError, match="secrets/read/key"):
            listed("")
