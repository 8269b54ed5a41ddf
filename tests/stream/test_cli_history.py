"""`neardup history` against the real HTTP API over a store in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from core.overrides import OverrideKind, OverrideRequest, RollbackRequest
from storage.memory import MemoryStore
from storage.testing.decisions import A, B, C, deletes, founds, joins, put
from storage.testing.deltas import member
from storage.testing.overrides import JOB, say
from stream.cli.exits import Exit
from stream.cli.main import main
from tests.support.served_api import served_api

HOUR_MS = 3_600_000

NOON_MS = 1_764_331_200_000
"""2025-11-28T12:00:00Z: then it is asked. Three hours before three images came; two hours before one was forbidden to
stay, an hour before one was deleted."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Of an API whose pages have two changes."""
    times = iter([NOON_MS - 3 * HOUR_MS, NOON_MS - 2 * HOUR_MS, NOON_MS - HOUR_MS])
    store = MemoryStore(now_ms=lambda: next(times))
    put(store, founds(0, A), joins(1, B, A), joins(2, C, A), kinds=JOB)
    say(store, OverrideKind.FORBID, B, target=A)
    put(store, deletes(3, B, B), kinds=JOB)
    with served_api(store, 2) as port:
        yield port


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__API__PORT", str(port))
    monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__API__MAX_PAGE", "2")
    monkeypatch.setattr("stream.cli.history_command.now_s", lambda: NOON_MS / 1000)

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["history", *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def rows(out: str) -> list[list[str]]:
    """The cells of a table, without its head and the line below that."""
    return [text.split() for text in out.splitlines()[2:]]


def test_an_image_oldest_first(run: Run) -> None:
    code, out, said = run("b")
    assert (code, said) == (Exit.OK, "")
    assert out.split("\n", 1)[0].split() == [
        "number",
        "when",
        "from",
        "to",
        "cause",
        "score",
        "match",
        "trigger",
        "model",
    ]
    assert [[row[0], *row[2:]] for row in rows(out)] == [
        ["2", "a", "matched", "0.9", "a", "stream", "m1"],
        ["4", "a", "b", "parted", "a", "override", "1", "m1"],
        ["5", "b", "(deleted)", "deleted", "stream"],
    ]
    assert rows(out)[0][1] == "1970-01-01T00:00:00.031Z"


def test_a_rollback_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    put(store, founds(0, A), joins(1, B, A), founds(2, B, old=A, version=2), kinds=JOB)
    store.override(OverrideRequest(OverrideKind.ROLLBACK, rollback=RollbackRequest(to_change=2)), 99)
    with served_api(store, 2) as port:
        monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__API__PORT", str(port))
        last = rows(run("b")[1])[-1]
    assert [last[0], *last[2:]] == ["4", "b", "a", "matched", "0.9", "a", "rollback", "1", "m1"]


def test_a_manifest_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    put(store, founds(0, A), member(1, B, A))
    with served_api(store, 2) as port:
        monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__API__PORT", str(port))
        [only] = rows(run("b")[1])
    assert [only[0], *only[2:]] == ["2", "a", "bootstrapped", "0.75", "a", "manifest", "m1"]


def test_the_last_changes_of_an_image(run: Run) -> None:
    assert [row[0] for row in rows(run("b", "--limit", "2", "--signal", "photos")[1])] == ["4", "5"]
    assert [row[0] for row in rows(run("b", "--limit", "9")[1])] == ["2", "4", "5"]


def test_a_head_has_a_hint(run: Run) -> None:
    assert "--cluster shows who joined and who left" in run("a")[2]
    assert "not kept" not in run("a")[2]


def test_an_image_as_json(run: Run) -> None:
    code, out, _ = run("b", "--json")
    told = json.loads(out)
    assert (code, told["image_id"], [each["history_number"] for each in told["changes"]]) == (Exit.OK, "b", [2, 4, 5])
    assert told["changes"][1]["override"] == 1


def test_an_unknown_image_or_cluster(run: Run) -> None:
    for words in (["nobody"], ["nobody", "--cluster"]):
        code, out, said = run(*words)
        assert (code, out) == (Exit.NOT_FOUND, "")
        assert "nobody" in said


def test_who_joined_and_who_left_a_cluster(run: Run) -> None:
    code, out, said = run("a", "--cluster")
    assert (code, said) == (Exit.OK, "")
    assert [[row[0], *row[2:5]] for row in rows(out)] == [
        ["1", "a", "a", "founded"],
        ["2", "b", "a", "matched"],
        ["3", "c", "a", "matched"],
        ["4", "b", "a", "b"],
    ]
    assert [row[0] for row in rows(run("b", "--cluster")[1])] == ["4", "5"]
    assert [row[0] for row in rows(run("a", "--cluster", "--limit", "3")[1])] == ["2", "3", "4"]


def test_a_cluster_since_a_time(run: Run) -> None:
    assert [row[0] for row in rows(run("a", "--cluster", "--since", "2h")[1])] == ["4"]
    assert [row[0] for row in rows(run("a", "--cluster", "--since", "1970-01-01")[1])] == ["1", "2", "3", "4"]
    code, out, said = run("a", "--cluster", "--since", "90m")
    assert (code, out) == (Exit.OK, "")
    assert "nobody joined or left the cluster of a" in said


def test_how_far_it_looked_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two changes of heads are looked at, one page at a time; --since has no bound."""
    monkeypatch.setattr("stream.cli.history_command.LOOKED_AT", 2)
    monkeypatch.setattr("storage.api.cluster_history.LOOKED_AT", 1)
    code, out, said = run("a", "--cluster")
    assert (code, [row[0] for row in rows(out)]) == (Exit.OK, ["3", "4"])
    assert "from number 3 on were looked at: --since looks further" in said
    told = json.loads(run("a", "--cluster", "--json")[1])
    assert (told["head"], told["looked_from"], told["complete"]) == ("a", 3, False)
    assert [row[0] for row in rows(run("a", "--cluster", "--since", "1970-01-01")[1])] == ["1", "2", "3", "4"]
    assert run("a", "--cluster", "--limit", "1")[2] == ""


@pytest.fixture
def swept(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Another store: of five changes, the first three are not kept."""
    store = MemoryStore()
    put(store, founds(0, A), joins(1, B, A), founds(2, C), founds(3, B, old=A, version=2), deletes(4, B, B, version=2))
    store.set_published(5)
    store.sweep_history(4, 10)
    with served_api(store, 2) as port:
        monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__API__PORT", str(port))
        yield


NOT_KEPT = "changes of heads before number 4 are not kept any more"


def test_what_is_not_kept_is_told(run: Run, swept: None) -> None:
    code, out, said = run("b")
    assert (code, [row[0] for row in rows(out)], NOT_KEPT in said) == (Exit.OK, ["4", "5"], True)
    assert NOT_KEPT not in run("b", "--limit", "2")[2]
    code, out, said = run("a")
    assert (code, out, NOT_KEPT in said) == (Exit.OK, "", True)
    code, out, said = run("a", "--cluster")
    assert (code, [row[0] for row in rows(out)], NOT_KEPT in said) == (Exit.OK, ["4"], True)
    code, out, said = run("c", "--cluster", "--since", "7d")
    assert (code, out) == (Exit.OK, "")
    assert json.loads(run("a", "--json")[1]) == {"image_id": "a", "history_first": 4, "changes": []}
    assert json.loads(run("a", "--cluster", "--json")[1])["history_first"] == 4
    assert run("nobody")[0] == Exit.NOT_FOUND


def test_a_cluster_as_json(run: Run) -> None:
    told = json.loads(run("a", "--cluster", "--json")[1])
    assert (told["head"], told["looked_from"], told["complete"]) == ("a", 1, True)
    assert [(each["history_number"], each["image_id"]) for each in told["changes"]] == [
        (1, "a"),
        (2, "b"),
        (3, "c"),
        (4, "b"),
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["b", "--since", "2h"], "--since needs --cluster"),
        (["a", "--cluster", "--since", "yesterday"], "--since takes 90m"),
        (["a", "--limit", "0"], "limit"),
    ],
)
def test_other_words_are_refused(run: Run, words: list[str], told: str) -> None:
    code, out, said = run(*words)
    assert (code, out) == (Exit.USAGE, "")
    assert told in said
