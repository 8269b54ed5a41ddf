"""`neardup rollback` against the real gRPC service over a store that a bad model has changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from io import StringIO
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from rich.console import Console

from core.access import Access, Keys, Right
from core.errors import DeadlineError
from core.overrides import ChangeFilter, OverrideKind, OverrideOutcome, OverrideRequest, RollbackRequest
from core.rpc import Listen, RpcServer
from storage.memory import MemoryStore
from storage.serving.client import StorageClient
from storage.serving.metrics import StorageMetrics
from storage.serving.service import RIGHTS, StorageService
from storage.serving.storage_pb2_grpc import add_ClusterStorageServicer_to_server
from storage.testing.overrides import heads
from stream.cli import override_calls
from stream.cli.exits import Exit
from stream.cli.main import main
from stream.requests import user_name
from tests.support.bad_hour import AT_11_30_MS, bad_hour_store
from tests.support.ports import free_ports

KEYS = Access(Keys("parts-token", "read-key", "write-key"), frozenset({Right.READ}))
AT_MS = 1_764_331_200_123
TAKES_BACK = "`neardup override undo 1` takes it back"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryStore]:
    """A served store; the command has the write key, and is given at half past eleven."""
    store, (port, page) = bad_hour_store(), free_ports(2)
    registry = CollectorRegistry()
    service = StorageService(store, StorageMetrics(registry, store.state(), 0), now_ms=lambda: AT_MS)
    server = RpcServer(
        "storage",
        Listen("127.0.0.1", port, page, 1 << 22, access=KEYS),
        partial(add_ClusterStorageServicer_to_server, service),
        registry,
        RIGHTS,
    )
    server.start()
    monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__STORAGE__PORT", str(port))
    monkeypatch.setenv("NEARDUP_API_TOKEN", "write-key")
    monkeypatch.setattr("stream.cli.rollback_command.now_s", lambda: AT_11_30_MS / 1000)
    yield store
    server.stop(0)


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(store: MemoryStore, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str) -> tuple[int, str, str]:
        code = main(list(words))
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.mark.parametrize("moment", [("--to", "1h"), ("--to", "2025-11-28T10:30"), ("--change", "3")])
def test_images_go_back_and_new_ones_are_decided_again(store: MemoryStore, run: Run, moment: tuple[str, str]) -> None:
    code, out, _ = run("rollback", *moment, "--reason", "a bad model", "--author", "ann")
    new = "new images are queued to be decided again"
    assert (code, out) == (Exit.OK, f"override 1: 2 images moved; {new}; {TAKES_BACK}\n")
    assert heads(store) == {"a": "a", "b": "a", "c": "c", "d": "d"}
    [listed] = store.overrides(0, 10)
    said = listed.override
    assert (said.kind, said.author, said.reason, said.at_ms) == (OverrideKind.ROLLBACK, "ann", "a bad model", AT_MS)


def test_new_images_may_keep_their_heads(store: MemoryStore, run: Run) -> None:
    code, out, _ = run("rollback", "--change", "3", "--new", "keep")
    assert (code, out) == (Exit.OK, f"override 1: 1 image moved; new images keep their heads; {TAKES_BACK}\n")
    assert heads(store) == {"a": "a", "b": "a", "c": "c", "d": "a"}
    assert store.overrides(0, 1)[0].override.author == user_name() != ""


def test_its_undo_brings_the_images_again_and_queues_none(store: MemoryStore, run: Run) -> None:
    before = heads(store)
    run("rollback", "--to", "1h")
    code, out, _ = run("override", "undo", "1")
    assert (code, out) == (Exit.OK, "override 2: 1 is undone, 2 images moved\n")
    assert heads(store) == before


def test_a_dry_run_lists_what_would_move(store: MemoryStore, run: Run) -> None:
    before = store.state()
    code, out, err = run("rollback", "--to", "1h", "--dry-run")
    assert code == Exit.OK
    assert [row.split() for row in out.splitlines() if row.split()[0] in "abcd"] == [["c", "a", "c"], ["d", "a", "d"]]
    assert "nothing was written: 2 images would move" in err
    assert store.state() == before


@pytest.mark.parametrize(
    ("where", "moved"),
    [
        (("model=bad",), ["c", "d"]),
        (("model=m1",), []),
        (("head=c",), ["c"]),
        (("cause=matched", "head=a", "model=bad"), ["c", "d"]),
        (("cause=founded",), []),
        (("since=30s",), []),
        (("since=1h",), ["c", "d"]),
    ],
)
def test_only_what_is_asked_for_moves(run: Run, where: tuple[str, ...], moved: list[str]) -> None:
    options = [word for each in where for word in ("--where", each)]
    _, out, _ = run("rollback", "--change", "3", *options, "--dry-run", "--json")
    assert [each["image_id"] for each in json.loads(out)["moves"]] == moved


def test_a_model_may_have_an_equals_sign_in_its_name(store: MemoryStore, run: Run) -> None:
    run("rollback", "--change", "3", "--where", "model=a=b")
    said = store.overrides(0, 1)[0].override.rollback
    assert said is not None
    assert said.where == ChangeFilter(model="a=b")


def test_json_is_as_over_http(run: Run) -> None:
    said = json.loads(run("rollback", "--to", "1h", "--author", "ann", "--json")[1])
    assert (said["moved"], said["created"], said["override"]["at"]) == (2, True, "2025-11-28T12:00:00.123Z")
    point = {"position": 2, "override": None}
    where = {"model": None, "head": None, "cause": None}
    rest = {"new": "decide", "of": None, "until": None}
    assert said["override"]["rollback"] == {"to": point, "since": point, "where": where, **rest}


def test_it_is_listed_and_shown_readably(run: Run) -> None:
    where = ("--where", "model=bad", "--where", "cause=matched", "--where", "since=1h")
    run("rollback", "--change", "2", *where, "--author", "ann")
    run("override", "undo", "1", "--author", "bob")
    run("rollback", "--change", "6", "--author", "ann")
    run("rollback", "--change", "0", "--new", "keep", "--author", "ann")
    text = "to position 1, changes after position 2, where model=bad cause=matched, new: decide"
    at = "2025-11-28T12:00:00.123Z"
    assert [" ".join(row.split()) for row in run("override", "list")[1].splitlines()[-4:]] == [
        f"1 {at} rollback {text} ann undone by 2",
        f"2 {at} undo 1 bob stands",
        f"3 {at} rollback to position 4 and override 1, new: decide ann stands",
        f"4 {at} rollback to the beginning, new: keep ann stands",
    ]
    assert f"rollback               {text}\n" in run("override", "show", "1")[1]
    shown = run("override", "show", "2")[1]
    assert "rollback               to position 4, changes by the override 1, new: keep\n" in shown
    assert json.loads(run("override", "show", "2", "--json")[1])["rollback"]["of"] == 1


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ((), "give one of --to TIME and --change N"),
        (("--to", "1h", "--change", "3"), "give one of --to TIME and --change N"),
        (("--to", "yesterday"), "--to takes 90m, 2h, 7d or an ISO time"),
        (("--to", "1969-12-31"), "to_ms"),
        (("--change", "-1"), "greater than or equal to 0"),
        (("--change", "6"), "there is no change 6: 1 to 5 are kept"),
        (("--change", "3", "--where", "model"), "--where takes model=VALUE, head=VALUE, cause=VALUE, since=VALUE"),
        (("--change", "3", "--where", "model="), "not 'model='"),
        (("--change", "3", "--where", "image=c"), "not 'image=c'"),
        (("--change", "3", "--where", "model=a", "--where", "model=b"), "--where model is given twice"),
        (("--change", "3", "--where", "cause=hidden"), "there is no cause 'hidden': choose from founded"),
        (("--change", "3", "--where", "since=soon"), "--where since takes 90m"),
        (("--change", "3", "--where", f"head={'x' * 257}"), "image id"),
        (("--change", "3", "--new", "drop"), "decide"),
        (("--change", "3", "--reason", "x" * 1_025), "the reason has 1025 bytes"),
    ],
)
def test_wrong_input_is_refused(store: MemoryStore, run: Run, words: tuple[str, ...], problem: str) -> None:
    code, out, err = run("rollback", *words)
    assert (code, out) == (Exit.USAGE, "")
    assert problem in " ".join(err.split())
    assert store.state().overrides == 0


def test_it_needs_the_write_key_and_listing_does_not(
    store: MemoryStore, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEARDUP_API_TOKEN", "")
    code, _, err = run("rollback", "--change", "3", "--dry-run")
    assert code == Exit.USAGE
    assert "write key" in err
    assert store.state().overrides == 0
    assert run("override", "list")[0] == Exit.OK


Called = list[tuple[OverrideKind, float | None]]


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Called:
    """The kinds and the deadlines of calls, which all come too late."""
    found: Called = []

    def late(
        _: Any, request: OverrideRequest, dry_run: bool = False, deadline_s: float | None = None
    ) -> OverrideOutcome:
        found.append((request.kind, deadline_s))
        raise DeadlineError("too late")

    monkeypatch.setattr(StorageClient, "override", late)
    return found


def test_what_may_move_many_images_may_take_minutes(run: Run, called: Called) -> None:
    run("rollback", "--change", "3")
    run("override", "merge", "b", "--into", "a")
    run("override", "undo", "1")
    run("override", "pin", "b", "--to", "a")
    run("override", "forbid", "b", "--with", "a")
    long_s = override_calls.MOVING_S
    assert called == [("rollback", long_s), ("merge", long_s), ("undo", long_s), ("pin", long_s), ("forbid", long_s)]


def test_after_an_error_it_says_how_to_find_out_what_was_done(run: Run, called: Called) -> None:
    code, _, err = run("rollback", "--change", "3")
    assert code == Exit.UNAVAILABLE
    assert "`neardup override list` tells whether it was said" in err
    assert "override list" not in run("rollback", "--change", "3", "--dry-run")[2]
    assert "override list" not in run("override", "merge", "b", "--into", "a")[2]
    assert len(called) == 3


def test_a_note_stands_on_a_terminal_while_the_images_move(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("rollback", "--change", "3")[2] == ""
    shown = StringIO()
    monkeypatch.setattr("stream.cli.output.notes", lambda: Console(file=shown, force_terminal=True))
    code, out, _ = run("rollback", "--change", "3")
    assert (code, out.count("\n")) == (Exit.OK, 1)
    assert "a million of them take minutes" in shown.getvalue()


def test_a_request_of_the_command_is_one_of_the_store() -> None:
    """The defaults of both agree."""
    from stream.cli.rollback_command import NewChoice

    assert [each.value for each in NewChoice] == [each.value for each in type(RollbackRequest().new)]
    assert RollbackRequest().new == NewChoice.DECIDE
