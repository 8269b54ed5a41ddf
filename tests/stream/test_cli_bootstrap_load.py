"""`neardup bootstrap load|status|abort`: what is shown, and how it ends."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest
from rich.console import Console

from core.first_loads import LoadReport, LoadRequest, LoadState
from core.manifest_rows import RowResult
from core.types import ImageId
from storage.loading.delta_report import DeltaReport
from storage.records import RowExample
from stream.bootstrap import loading
from stream.cli import output
from stream.cli.exits import Exit
from stream.cli.main import main
from tests.operators.test_first_load import REQUEST, ROWS, Server

DELTA = LoadRequest("folder", "new.json", "id-9", "")


class Storage(Server):
    """A storage server that takes deltas too: each look finds ten more of thirty rows applied."""

    def __init__(self) -> None:
        super().__init__()
        self.delta: DeltaReport | None = None
        self.ends_at = ROWS
        self.ends_as, self.why = LoadState.LIVE, ""

    def load(self, request: LoadRequest) -> LoadReport:
        if not request.is_delta:
            return super().load(request)
        loading = LoadReport(request, LoadState.LOADING, "", 0, ROWS, 2.0, started_ms=1_000)
        example = RowExample(4, ImageId("b"), RowResult.KEPT)
        self.delta = DeltaReport(loading, {RowResult.JOINED: 29, RowResult.KEPT: 1}, [example])
        return loading

    def deltas(self, manifest_id: str = "") -> list[DeltaReport]:
        if self.delta is None or manifest_id not in ("", self.delta.load.request.manifest_id):
            return []
        load = self.delta.load
        if load.state is LoadState.LOADING:
            done = min(load.rows_done + 10, ROWS)
            state, detail = (self.ends_as, self.why) if done >= self.ends_at else (load.state, "")
            load = replace(load, rows_done=done, state=state, detail=detail, ended_ms=61_000)
            self.delta = replace(self.delta, load=load)
        return [self.delta]

    def abort_load(self, manifest_id: str) -> LoadReport:
        if self.delta is None or manifest_id != self.delta.load.request.manifest_id:
            return super().abort_load(manifest_id)
        self.delta = replace(self.delta, load=replace(self.delta.load, state=LoadState.ABORTED))
        return self.delta.load


@dataclass
class Both:
    storage: Storage = field(default_factory=Storage)
    search: Server = field(default_factory=Server)


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> Both:
    found = Both()

    @contextmanager
    def servers(*asked: object) -> Iterator[Both]:
        yield found

    def load_request(settings: object, signal: object, folder: str, name: str) -> LoadRequest:
        assert (folder, name) in (("old", "one"), ("old", "new"))
        return REQUEST if name == "one" else DELTA

    monkeypatch.setattr(loading, "servers", servers)
    monkeypatch.setattr(loading, "load_request", load_request)
    monkeypatch.setattr(loading, "LOOK_S", 0.0)
    return found


def test_a_load_is_shown_until_it_is_live(both: Both, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bootstrap", "status"]) == Exit.OK
    assert "no first load" in capsys.readouterr().err
    assert main(["bootstrap", "load", "old", "one.json", "--json"]) == Exit.OK
    told = json.loads(capsys.readouterr().out)
    assert (told["state"], told["rows_done"], told["rows_total"]) == ("live", 30, 30)
    assert told["search"]["request"]["manifest_id"] == "id-1"
    assert main(["bootstrap", "status"]) == Exit.OK
    out = capsys.readouterr().out
    assert "folder/manifests/one.json, id-1: live" in out
    assert out.count("30 of 30") == 2


def test_a_load_that_fails_ends_with_its_reason(both: Both, capsys: pytest.CaptureFixture[str]) -> None:
    both.storage.fails_at, both.storage.why = 10, "row 3 names no head"
    assert main(["bootstrap", "load", "old", "one"]) != Exit.OK
    assert "storage: row 3 names no head" in capsys.readouterr().err
    assert main(["bootstrap", "status", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["state"] == "failed"


def test_abort(both: Both, capsys: pytest.CaptureFixture[str]) -> None:
    both.storage.load(REQUEST)
    both.search.load(REQUEST)
    assert main(["bootstrap", "abort", "other"]) == Exit.MISMATCH
    assert main(["bootstrap", "abort", "id-1"]) == Exit.OK
    assert "id-1: aborted" in capsys.readouterr().out


def test_a_delta_is_followed_until_all_rows_have_entered(both: Both, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bootstrap", "load", "old", "new"]) == Exit.OK
    said = capsys.readouterr()
    assert said.out.splitlines() == ["joined: 29 rows", "kept: 1 row", "new.json: row 4, b: kept"]
    assert "30 rows in 1 min 0 s, 0 a second" in said.err
    assert main(["bootstrap", "load", "old", "new.json", "--json"]) == Exit.OK
    told = json.loads(capsys.readouterr().out)
    assert (told["state"], told["rows_done"]) == ("live", 30)
    assert told["counts"] == {"joined": 29, "kept": 1}
    assert told["examples"] == [{"row": 4, "image_id": "b", "result": "kept"}]


def test_a_delta_that_fails_ends_with_its_reason(both: Both, capsys: pytest.CaptureFixture[str]) -> None:
    both.storage.ends_as, both.storage.ends_at, both.storage.why = (
        LoadState.FAILED,
        20,
        "row 7 is wrong; 20 have entered",
    )
    assert main(["bootstrap", "load", "old", "new"]) != Exit.OK
    assert "the delta has failed: row 7 is wrong; 20 have entered" in capsys.readouterr().err


def test_each_state_of_a_delta_is_a_line_where_no_terminal_shows_a_bar(
    both: Both, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loading, waiting, live = LoadState.LOADING, LoadState.WAITING, LoadState.LIVE
    seen = [
        (loading, "checks: rows, 1,024 of 2,048"),
        (loading, "checks: rows, 2,048 of 2,048"),
        (waiting, "64 rows are in the order, and nobody decides them: does the job run?"),
        (waiting, "63 rows are in the order, and nobody decides them: does the job run?"),
        (loading, ""),
        (live, ""),
    ]
    reports = iter([DeltaReport(LoadReport(DELTA, *each, rows_total=ROWS), {}, []) for each in seen])
    monkeypatch.setattr(both.storage, "deltas", lambda _: [next(reports)])
    assert main(["bootstrap", "load", "old", "new"]) == Exit.OK
    lines = capsys.readouterr().err.splitlines()
    assert [each for each in lines if each.startswith(("loading", "waiting", "live"))] == [
        "loading checks: rows, 1,024 of 2,048",
        "waiting 64 rows are in the order, and nobody decides them: does the job run?",
        "loading",
        "live",
    ]


def test_each_state_of_a_first_load_is_a_line_too(both: Both, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bootstrap", "load", "old", "one"]) == Exit.OK
    told = [each for each in capsys.readouterr().err.splitlines() if each.startswith(("storage: ", "search: "))]
    for server in ("storage", "search"):
        states = [each.removeprefix(f"{server}: ") for each in told if each.startswith(server)]
        assert states[0] == "loading"
        assert states[-1] == "live"
        assert len(states) == len(set(states))


def test_a_terminal_shows_states_in_the_bar_alone(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(output, "notes", lambda: Console(file=shown, force_terminal=True, width=200))
    assert main(["bootstrap", "load", "old", "new"]) == Exit.OK
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", each).strip() for each in shown.getvalue().splitlines()]
    assert [each for each in lines if each.endswith(("loading", "live"))] == []  # a bar ends with its times
    assert any("rows" in each and "live" in each for each in lines)


def test_status_shows_all_deltas(both: Both, capsys: pytest.CaptureFixture[str]) -> None:
    both.storage.load(DELTA)
    assert main(["bootstrap", "status"]) == Exit.OK
    out = capsys.readouterr().out
    for said in ("folder/manifests/new.json", "id-9", "loading", "10 of 30", "2/s", "10 s", "29 joined, 1 kept"):
        assert said in out
    assert "new.json: row 4, b: kept" in out
    assert main(["bootstrap", "status", "--json"]) == Exit.OK
    told = json.loads(capsys.readouterr().out)
    assert (told["state"], told["deltas"][0]["rows_done"]) == (None, 20)


def test_a_delta_is_aborted(both: Both, capsys: pytest.CaptureFixture[str]) -> None:
    both.storage.load(DELTA)
    assert main(["bootstrap", "abort", "id-9"]) == Exit.OK
    assert "aborted" in capsys.readouterr().out
    assert main(["bootstrap", "abort", "id-9", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["state"] == "aborted"
