"""The first load of two servers: whatever happens to one of them, both end in the same state."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import replace

import pytest

from core.errors import MismatchError, UnavailableError
from core.first_loads import LoadRequest, LoadState
from core.types import LogPosition
from operators.first_load import FirstLoad, abort, begin, follow, look
from tests.support.loading_server import ROWS
from tests.support.loading_server import LoadingServer as Server

REQUEST = LoadRequest("folder", "one.json", "id-1", "topic")
OTHER = replace(REQUEST, manifest_id="id-2")
ACTIVE = (LoadState.LOADING, LoadState.WAITING, LoadState.READY)


def state(server: Server) -> LoadState | None:
    return None if server.report is None else server.report.state


def test_storage_decides_and_search_follows() -> None:
    storage, search = Server(), Server()
    found = begin(REQUEST, storage, search)
    seen = [(found.state, found.rows_done, found.rows_total)]
    while found.state is not LoadState.LIVE:
        found = look(REQUEST, storage, search)
        if state(search) is LoadState.LIVE:
            assert state(storage) is LoadState.LIVE
        seen.append((found.state, found.rows_done, found.rows_total))
    assert seen == [
        (LoadState.LOADING, 0, ROWS),
        (LoadState.LOADING, 10, ROWS),
        (LoadState.LOADING, 20, ROWS),
        (LoadState.READY, ROWS, ROWS),  # storage is live in the same look
        (LoadState.READY, ROWS, ROWS),  # search is told to follow
        (LoadState.READY, ROWS, ROWS),  # and starts again
        (LoadState.LIVE, ROWS, ROWS),
    ]
    assert search.adopted == ("topic", ROWS)
    assert look(REQUEST, storage, search).state is LoadState.LIVE
    assert begin(REQUEST, storage, search).state is LoadState.LIVE


@pytest.mark.parametrize("which", [0, 1])
def test_if_one_fails_the_other_is_ended_and_both_may_begin_again(which: int) -> None:
    servers = storage, search = Server(), Server()
    servers[which].fails_at = 20
    begin(REQUEST, storage, search)
    for _ in range(5):
        found = look(REQUEST, storage, search)
    assert found.state is LoadState.FAILED
    assert (state(servers[which]), state(servers[1 - which])) == (LoadState.FAILED, LoadState.ABORTED)
    servers[which].fails_at = ROWS + 1
    begin(REQUEST, storage, search)
    for _ in range(7):
        found = look(REQUEST, storage, search)
    assert found.state is LoadState.LIVE


def test_what_a_server_refuses_leaves_nothing_under_way() -> None:
    storage, search = Server(), Server()
    search.load(OTHER)
    with pytest.raises(MismatchError, match="another load"):
        begin(REQUEST, storage, search)
    assert state(storage) is LoadState.ABORTED
    storage.applied = True
    with pytest.raises(MismatchError, match="something was applied"):
        begin(OTHER, storage, search)


def test_what_search_refuses_does_not_end_what_was_under_way() -> None:
    storage, search = Server(), Server()
    storage.load(REQUEST)
    search.load(OTHER)
    with pytest.raises(MismatchError, match="another load"):
        begin(REQUEST, storage, search)
    assert state(storage) is LoadState.LOADING


def test_a_load_goes_on_before_another_log() -> None:
    storage, search = Server(), Server()
    begin(REQUEST, storage, search)
    found = begin(replace(REQUEST, log_id="new"), storage, search)
    assert {each.request.log_id for each in found.reports} == {"new"}
    assert found.state is LoadState.LOADING


def test_a_search_server_that_lost_its_load_begins_it_again() -> None:
    storage, search = Server(), Server()
    begin(REQUEST, storage, search)
    search.report = None
    for _ in range(8):
        found = look(REQUEST, storage, search)
    assert found.state is LoadState.LIVE


def test_a_load_that_has_ended_is_not_begun_in_a_search_server_that_lost_it() -> None:
    storage, search = Server(), Server()
    begin(REQUEST, storage, search)
    abort("id-1", storage, search)
    search.report = None
    assert look(REQUEST, storage, search).state is LoadState.ABORTED
    assert search.report is None


def test_abort_ends_it_in_both_unless_it_is_live() -> None:
    storage, search = Server(), Server()
    with pytest.raises(MismatchError, match="no load of the manifest id-1"):
        abort("id-1", storage, search)
    begin(REQUEST, storage, search)
    assert abort("id-1", storage, search).state is LoadState.ABORTED
    assert abort("id-1", storage, search).state is LoadState.ABORTED
    begin(REQUEST, storage, search)
    while look(REQUEST, storage, search).state is not LoadState.LIVE:
        pass
    with pytest.raises(MismatchError, match="it is live"):
        abort("id-1", storage, search)
    assert state(search) is LoadState.LIVE


def both_ready() -> tuple[Server, Server]:
    storage, search = Server(), Server()
    begin(REQUEST, storage, search)
    while (state(storage), state(search)) != (LoadState.READY, LoadState.READY):
        assert follow(storage, search).state in ACTIVE
    return storage, search


def test_a_start_lets_search_follow_and_nothing_else() -> None:
    storage, search = Server(), Server()
    assert follow(storage, search).state is None
    storage, search = both_ready()
    assert follow(storage, search).state is LoadState.READY
    assert (state(storage), search.adopted) == (LoadState.READY, None)
    storage.finish_load("id-1")
    for _ in range(2):  # it may still say what it was
        with pytest.raises(UnavailableError, match="starts again"):
            follow(storage, search)
    assert follow(storage, search).state is LoadState.LIVE
    assert search.adopted == ("topic", ROWS)


def test_search_goes_before_the_log_that_storage_follows() -> None:
    for step in (lambda *servers: follow(*servers), lambda *servers: look(REQUEST, *servers)):
        storage, search = both_ready()
        storage.finish_load("id-1")
        storage.follows = LogPosition("new", ROWS - 1, 0, ROWS)
        with suppress(UnavailableError):
            step(storage, search)
        assert search.adopted == ("new", ROWS)


def test_an_index_that_was_built_since_needs_no_load() -> None:
    storage, search = both_ready()
    storage.finish_load("id-1")
    search.report, search.follows = None, storage.describe()
    for found in (begin(REQUEST, storage, search), look(REQUEST, storage, search)):
        assert (found.state, found.search) == (LoadState.LIVE, None)
    search.follows = LogPosition("topic", 3, 0, 0)
    assert look(REQUEST, storage, search).state is LoadState.LOADING


@pytest.mark.parametrize("ready", [False, True])
def test_search_that_cannot_follow_is_ended_alone(ready: bool) -> None:
    storage, search = both_ready()
    storage.finish_load("id-1")
    if not ready:
        search.report = None
        search.load(REQUEST)
    found = abort("id-1", storage, search)
    assert (state(storage), state(search)) == (LoadState.LIVE, LoadState.ABORTED)
    assert found.search is not None
    assert "storage is live with it" in found.search.detail
    with pytest.raises(MismatchError, match="it is live"):
        abort("id-1", storage, search)


def test_a_start_does_not_let_search_follow_another_load() -> None:
    storage, search = Server(), Server()
    for server, request in ((storage, REQUEST), (search, OTHER)):
        server.load(request)
        while state(server) is not LoadState.READY:
            server.load_status()
    storage.finish_load("id-1")
    follow(storage, search)
    assert state(search) is LoadState.READY


@pytest.mark.parametrize("seed", range(200))
def test_servers_that_go_away_at_any_call(seed: int) -> None:
    dice = random.Random(seed)
    storage, search = Server(dice), Server(dice)
    if dice.random() < 0.5:
        dice.choice([storage, search]).fails_at = dice.choice([10, 20, 30])
    begun, found = False, FirstLoad(None, None)
    for _ in range(200):
        try:
            found = look(REQUEST, storage, search) if begun else begin(REQUEST, storage, search)
            begun = True
        except UnavailableError:
            continue
        assert state(search) is not LoadState.LIVE or state(storage) is LoadState.LIVE
    if found.state is LoadState.LIVE:
        assert state(storage) is state(search) is LoadState.LIVE
    else:
        assert {state(storage), state(search)} <= {LoadState.FAILED, LoadState.ABORTED}
