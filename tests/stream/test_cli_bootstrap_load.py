"""`neardup bootstrap load|status|abort`: what is shown, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from core.first_loads import LoadRequest
from stream.bootstrap import loading
from stream.cli.exits import Exit
from stream.cli.main import main
from tests.operators.test_first_load import REQUEST, Server


@dataclass
class Both:
    storage: Server = field(default_factory=Server)
    search: Server = field(default_factory=Server)


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> Both:
    found = Both()

    @contextmanager
    def servers(*asked: object) -> Iterator[Both]:
        yield found

    def load_request(settings: object, signal: object, folder: str, name: str) -> LoadRequest:
        assert (folder, name) == ("old", "one")
        return REQUEST

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
