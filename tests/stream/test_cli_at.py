"""`neardup at` against the real HTTP API over a store in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from storage.memory import MemoryStore
from storage.testing.decisions import A, B, C, deletes, founds, joins, put
from stream.cli.exits import Exit
from stream.cli.main import main
from tests.support.served_api import served_api

HOUR_MS = 3_600_000

NOON_MS = 1_764_331_200_000
"""2025-11-28T12:00:00Z: then it is asked. Three hours before three images came, one hour before one was deleted."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Of an API whose pages have two members."""
    times = iter([NOON_MS - 3 * HOUR_MS, NOON_MS - HOUR_MS])
    store = MemoryStore(now_ms=lambda: next(times))
    put(store, founds(0, A), joins(1, B, A), joins(2, C, A))
    put(store, deletes(3, B, A))
    with served_api(store, 2) as port:
        yield port


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__API__PORT", str(port))
    monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__API__MAX_PAGE", "2")
    monkeypatch.setattr("stream.cli.at_command.now_s", lambda: NOON_MS / 1000)

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["at", *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.mark.parametrize("time", ["2h", "120m", "2025-11-28T10:00", "2025-11-28T11:00:00+01:00", "2025-11-28T10:00Z"])
def test_a_head_as_it_was(run: Run, time: str) -> None:
    assert run(time, "head", "b") == (Exit.OK, "a\n", "")


def test_where_no_head_was_nothing_is_printed(run: Run) -> None:
    code, out, said = run("30m", "head", "b")
    assert (code, out) == (Exit.OK, "")
    assert "no head at 2025-11-28T11:30:00.000Z" in said


def test_members_as_they_were(run: Run) -> None:
    code, out, said = run("2h", "members", "a")
    assert (code, out) == (Exit.OK, "a\nb\nc\n")
    assert "(3 members at 2025-11-28T10:00:00.000Z)" in said
    assert run("30m", "members", "a", "--signal", "photos")[1] == "a\nc\n"
    assert run("2h", "members", "nobody")[:2] == (Exit.OK, "")


def test_json(run: Run) -> None:
    about = {"time": "2025-11-28T10:00:00.000Z", "history_number": 3}
    code, out, _ = run("2h", "head", "b", "--json")
    assert (code, json.loads(out)) == (Exit.OK, {"image_id": "b", **about, "head": "a"})
    code, out, _ = run("2h", "members", "a", "--json")
    assert (code, json.loads(out)) == (Exit.OK, {"head": "a", **about, "count": 3, "members": ["a", "b", "c"]})
    assert json.loads(run("30m", "head", "b", "--json")[1])["head"] is None


def test_a_time_before_what_is_kept_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([NOON_MS - 3 * HOUR_MS, NOON_MS - HOUR_MS])
    store = MemoryStore(now_ms=lambda: next(times))
    put(store, founds(0, A), joins(1, B, A))
    put(store, deletes(2, B, A))
    store.set_published(3)
    store.sweep_history(3, 10)
    with served_api(store, 2) as port:
        monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__API__PORT", str(port))
        for what in (["head", "b"], ["members", "a"]):
            code, out, said = run("4h", *what)
            assert (code, out) == (Exit.USAGE, "")
            assert "the past is known from 2025-11-28T09:00:00Z on" in said
        assert run("3h", "members", "a")[1] == "a\nb\n"


@pytest.mark.parametrize("time", ["yesterday", "2x", "2025-13-01"])
def test_another_form_of_time_is_refused(run: Run, time: str) -> None:
    code, out, said = run(time, "head", "b")
    assert (code, out) == (Exit.USAGE, "")
    assert "TIME takes 90m, 2h, 7d or an ISO time" in said
