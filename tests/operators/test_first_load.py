"""The first load of two servers: whatever happens to one of them, both end in the same state."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from core.errors import MismatchError, UnavailableError
from core.first_loads import LoadReport, LoadRequest, LoadState
from operators.first_load import FirstLoad, abort, begin, follow, look

REQUEST = LoadRequest("folder", "one.json", "id-1", "topic")
OTHER = replace(REQUEST, manifest_id="id-2")
ROWS = 30
ACTIVE = (LoadState.LOADING, LoadState.WAITING, LoadState.READY)


class Server:
    """A server that loads ten rows at each look, as both real ones do: one load at a time, calls may be repeated."""

    def __init__(self, dice: random.Random | None = None) -> None:
        self.report: LoadReport | None = None
        self.applied = False
        self.fails_at = ROWS + 1
        self.why = ""
        self.adopted: tuple[str, int] | None = None
        self._dice = dice

    def _answer(self) -> None:
        if self._dice is not None and self._dice.random() < 0.2:
            raise UnavailableError("down")

    def _known(self, manifest_id: str) -> LoadReport:
        if self.report is None or self.report.request.manifest_id != manifest_id:
            raise MismatchError("no such load")
        return self.report

    def load(self, request: LoadRequest) -> LoadReport:
        self._answer()
        report = self.report
        if self.applied:
            raise MismatchError("something was applied")
        if report is not None and (report.state in ACTIVE or report.state is LoadState.LIVE):
            if report.request.manifest_id != request.manifest_id:
                raise MismatchError("another load")
            return report
        self.report = LoadReport(request, LoadState.LOADING, rows_total=ROWS)
        return self.report

    def load_status(self) -> LoadReport | None:
        self._answer()
        report = self.report
        if report is not None and report.state is LoadState.LOADING:
            rows = report.rows_done + 10
            state = LoadState.READY if rows >= ROWS else LoadState.LOADING
            if rows >= self.fails_at:
                self.report = replace(report, rows_done=rows, state=LoadState.FAILED, detail=self.why)
            else:
                self.report = replace(report, rows_done=rows, state=state)
        return self.report

    def abort_load(self, manifest_id: str) -> LoadReport:
        self._answer()
        report = self._known(manifest_id)
        if report.state is LoadState.LIVE:
            raise MismatchError("it is live")
        if report.state in ACTIVE:
            self.report = report = replace(report, state=LoadState.ABORTED)
        return report

    def finish_load(self, manifest_id: str) -> LoadReport:
        self._answer()
        report = self._known(manifest_id)
        if report.state not in (LoadState.READY, LoadState.LIVE):
            raise MismatchError("it is not ready")
        self.report = replace(report, state=LoadState.LIVE)
        return self.report

    def adopt_load(self, manifest_id: str, log_id: str, base: int) -> LoadReport:
        self.adopted = log_id, base
        return self.finish_load(manifest_id)


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
    for _ in range(5):
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


def test_a_search_server_that_lost_its_load_begins_it_again() -> None:
    storage, search = Server(), Server()
    begin(REQUEST, storage, search)
    search.report = None
    for _ in range(6):
        found = look(REQUEST, storage, search)
    assert found.state is LoadState.LIVE


def test_abort_ends_it_in_both_unless_it_is_live() -> None:
    storage, search = Server(), Server()
    with pytest.raises(MismatchError, match="no load of the manifest id-1"):
        abort("id-1", storage, search)
    begin(REQUEST, storage, search)
    assert abort("id-1", storage, search).state is LoadState.ABORTED
    assert abort("id-1", storage, search).state is LoadState.ABORTED
    begin(REQUEST, storage, search)
    while look(REQUEST, storage, search).storage != storage.report or state(storage) is not LoadState.LIVE:
        pass
    with pytest.raises(MismatchError, match="it is live"):
        abort("id-1", storage, search)
    assert state(search) is not LoadState.ABORTED


def test_a_start_lets_search_follow_and_nothing_else() -> None:
    storage, search = Server(), Server()
    assert follow(storage, search, "topic").state is None
    begin(REQUEST, storage, search)
    for _ in range(4):
        assert follow(storage, search, "topic").state in ACTIVE
    assert (state(storage), state(search)) == (LoadState.READY, LoadState.READY)
    storage.finish_load("id-1")
    assert follow(storage, search, "topic").state is LoadState.LIVE
    assert search.adopted == ("topic", ROWS)


def test_a_start_does_not_let_search_follow_another_load() -> None:
    storage, search = Server(), Server()
    for server, request in ((storage, REQUEST), (search, OTHER)):
        server.load(request)
        while state(server) is not LoadState.READY:
            server.load_status()
    storage.finish_load("id-1")
    follow(storage, search, "topic")
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
