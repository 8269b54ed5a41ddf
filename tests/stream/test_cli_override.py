"""`neardup override` against the real gRPC service over a store whose overrides are a list."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from core.access import Access, Keys, Right
from core.overrides import ListedOverride, OverrideKind, OverrideMove
from core.rpc import Listen, RpcServer
from core.types import ImageId
from storage.limits import MAX_LISTED_MOVES
from storage.serving.metrics import StorageMetrics
from storage.serving.service import RIGHTS, StorageService
from storage.serving.storage_pb2_grpc import add_ClusterStorageServicer_to_server
from storage.testing.decisions import A, B, C, founds, joins, put
from stream.cli import override_command
from stream.cli.exits import Exit
from stream.cli.main import main
from stream.requests import user_name
from tests.support.ports import free_ports
from tests.support.said_overrides import SaidOverrides

KEYS = Access(Keys("parts-token", "read-key", "write-key"), frozenset({Right.READ}))
AT_MS = 1_714_521_600_123


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[SaidOverrides]:
    """A served store; the command has the write key."""
    store, (port, page) = SaidOverrides(), free_ports(2)
    put(store, founds(0, A), joins(1, B, A), founds(2, C))
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
    yield store
    server.stop(0)


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(store: SaidOverrides, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str) -> tuple[int, str, str]:
        code = main(["override", *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.mark.parametrize(
    ("word", "option"),
    [
        (OverrideKind.PIN, "--to"),
        (OverrideKind.FORBID, "--with"),
        (OverrideKind.SPLIT, "--from"),
        (OverrideKind.MERGE, "--into"),
    ],
)
def test_each_kind_is_said(store: SaidOverrides, run: Run, word: OverrideKind, option: str) -> None:
    store.moves = (OverrideMove(B, A, B),)
    code, out, _ = run(word, "b", "c", option, "a", "--reason", "no cat", "--author", "ann")
    assert (code, out) == (Exit.OK, "override 1: 1 image moved\n")
    [listed] = store.said
    said = listed.override
    assert (said.kind, said.images, said.target, said.undoes) == (word, (B, C), A, 0)
    assert (said.author, said.reason, said.at_ms) == ("ann", "no cat", AT_MS)
    for more in ((), ("--dry-run",)):
        code, out, _ = run(word, "b", "c", option, "a", *more)
        assert (code, out) == (Exit.OK, "override 1 says so already: nothing was written\n")
    assert len(store.said) == 1


def test_the_images_may_be_in_a_file_and_the_author_is_the_user(store: SaidOverrides, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "ids.txt"
    file.write_text("b\n\nröse 1/2\r\nc\nb\n", encoding="utf-8")
    assert run("pin", "c", "--ids-file", str(file), "--to", "a")[0] == Exit.OK
    said = store.said[0].override
    assert said.images == ("c", "b", "röse 1/2")
    assert said.author == user_name() != ""


def test_a_dry_run_lists_what_would_move(store: SaidOverrides, run: Run) -> None:
    store.moves = (OverrideMove(B, A, B), OverrideMove(C, A, B))
    code, out, err = run("split", "b", "c", "--from", "a", "--dry-run")
    assert code == Exit.OK
    assert [row.split() for row in out.splitlines() if row.split()[0] in "abc"] == [["b", "a", "b"], ["c", "a", "b"]]
    assert "nothing was written: 2 images would move" in err
    assert store.said == []


def test_a_dry_run_that_moves_nothing_says_so(store: SaidOverrides, run: Run) -> None:
    code, out, err = run("pin", "b", "--to", "a", "--dry-run")
    assert (code, out) == (Exit.OK, "")
    assert "nothing was written: 0 images would move" in err


def test_moves_that_are_not_listed_are_counted(store: SaidOverrides, run: Run) -> None:
    store.moves = tuple(OverrideMove(ImageId(f"m{number}"), A, C) for number in range(MAX_LISTED_MOVES + 2))
    _, out, err = run("merge", "a", "--into", "c", "--dry-run")
    assert out.count("\n") > MAX_LISTED_MOVES
    assert "and 2 other images" in err
    assert "1,002 images would move" in err
    said = json.loads(run("merge", "a", "--into", "c", "--json")[1])
    assert (len(said["moves"]), said["moved"], said["created"]) == (MAX_LISTED_MOVES, 1_002, True)


def test_what_is_said_in_json_is_as_over_http(store: SaidOverrides, run: Run) -> None:
    store.moves = (OverrideMove(B, A, B),)
    said = json.loads(run("forbid", "b", "--with", "a", "--author", "ann", "--json")[1])
    assert said == {
        "override": {
            "number": 1,
            "kind": "forbid",
            "images": ["b"],
            "target": "a",
            "undoes": None,
            "author": "ann",
            "reason": "",
            "at": "2024-05-01T00:00:00.123Z",
            "applied_after": 2,
            "rollback": None,
        },
        "moves": [{"image_id": "b", "old_head": "a", "new_head": "b"}],
        "moved": 1,
        "created": True,
    }


def test_an_undo_says_that_images_are_decided_again(store: SaidOverrides, run: Run) -> None:
    run("forbid", "b", "--with", "a")
    code, out, _ = run("undo", "1", "--author", "bob", "--dry-run")
    assert (code, out, len(store.said)) == (Exit.OK, "", 1)
    code, out, _ = run("undo", "1", "--author", "bob", "--reason", "a slip")
    again = "the affected images are queued to be decided again"
    assert (code, out) == (Exit.OK, f"override 2: 1 is undone, 0 images moved; {again}\n")
    assert store.said[0].undone_by == 2
    undo = store.said[1].override
    assert (undo.kind, undo.undoes, undo.author, undo.reason) == (OverrideKind.UNDO, 1, "bob", "a slip")


def test_overrides_are_listed_with_how_they_stand(
    store: SaidOverrides, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(override_command, "_PAGE", 2)
    assert "no override" in run("list")[2]
    run("merge", "u", "v", "w", "x", "y", "--into", "a", "--author", "ann", "--reason", "the same")
    run("undo", "1", "--author", "bob")
    run("forbid", "b", "--with", "c", "--author", "ann")
    store.said[2] = ListedOverride(store.said[2].override, None, waits=True)
    _, out, _ = run("list")
    rows = out.splitlines()[-3:]
    assert [" ".join(row.split()) for row in rows] == [
        "1 2024-05-01T00:00:00.123Z merge u v w and 2 more a ann the same undone by 2",
        "2 2024-05-01T00:00:00.123Z undo 1 bob stands",
        "3 2024-05-01T00:00:00.123Z forbid b c ann waits until the store has the records before it",
    ]
    assert [each["number"] for each in json.loads(run("list", "--json")[1])["overrides"]] == [1, 2, 3]
    assert [each["number"] for each in json.loads(run("list", "--after", "2", "--json")[1])["overrides"]] == [3]
    of_b = json.loads(run("list", "--image", "b", "--json")[1])
    assert (of_b["image_id"], [each["kind"] for each in of_b["overrides"]]) == ("b", ["forbid"])
    assert "no override names nobody" in run("list", "--image", "nobody")[2]


def test_one_override_is_shown(run: Run) -> None:
    run("pin", "b", "c", "--to", "a", "--author", "ann", "--reason", "the same")
    code, out, _ = run("show", "1")
    assert code == Exit.OK
    shown = dict(line.split(maxsplit=1) for line in out.splitlines() if not line.startswith("applied"))
    assert shown == {
        "number": "1",
        "kind": "pin",
        "images": "b c",
        "target": "a",
        "author": "ann",
        "reason": "the same",
        "at": "2024-05-01T00:00:00.123Z",
        "state": "stands",
    }
    said = json.loads(run("show", "1", "--json")[1])
    assert (said["number"], said["undone_by"], said["waits"], said["applied_after"]) == (1, None, False, 2)


def test_an_override_that_is_not_there_is_not_found(store: SaidOverrides, run: Run) -> None:
    code, out, err = run("show", "7")
    assert (code, out) == (Exit.NOT_FOUND, "")
    assert "there is no override 7" in err
    run("pin", "b", "--to", "a")
    store.said[0] = ListedOverride(replace(store.said[0].override, number=9), None, waits=False)
    assert run("show", "1")[0] == Exit.NOT_FOUND


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("pin", "--to", "a"), "no image is named"),
        (("pin", "b"), "--to"),
        (("forbid", "b", "--with", ""), "image id"),
        (("forbid", "x" * 257, "--with", "a"), "image id"),
        (("forbid", "b", "--with", "nobody"), "the target 'nobody' is unknown"),
        (("forbid", "b", "--with", "a", "--reason", "x" * 1_025), "the reason has 1025 bytes"),
        (("undo", "7"), "there is no override 7"),
        (("undo", "0"), "than or equal to 1"),
        (("list", "--image", ""), "image id"),
    ],
)
def test_wrong_input_is_refused(store: SaidOverrides, run: Run, words: tuple[str, ...], problem: str) -> None:
    code, out, err = run(*words)
    assert (code, out) == (Exit.USAGE, "")
    assert problem in err
    assert store.said == []


def test_too_many_images_are_refused_before_they_are_sent(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "ids.txt"
    file.write_text("\n".join(map(str, range(1_001))), encoding="utf-8")
    code, _, err = run("forbid", "--ids-file", str(file), "--with", "a")
    assert code == Exit.USAGE
    assert "say it in several overrides" in err


def test_a_contradiction_names_the_other_override(store: SaidOverrides, run: Run) -> None:
    run("forbid", "b", "--with", "a")
    code, _, err = run("pin", "b", "--to", "a")
    assert code == Exit.FAILED
    assert "override 1 says the contrary: undo it first" in err
    assert len(store.said) == 1


def test_it_needs_the_write_key_and_reading_does_not(
    store: SaidOverrides, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEARDUP_API_TOKEN", "")
    code, _, err = run("forbid", "b", "--with", "a")
    assert code == Exit.USAGE
    assert "write key" in err
    assert store.said == []
    assert run("list")[0] == Exit.OK
