"""`neardup operations` against the real gRPC service, and what overrides that became bulk moves say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from rich.console import Console

from core.access import Access, Keys, Right
from core.errors import UnavailableError
from core.overrides import JOB_KINDS
from core.rpc import Listen, RpcServer
from storage.bulk.operations import Operation, OperationState
from storage.interfaces import ClusterStore
from storage.rocks.options import RocksOptions
from storage.rocks.store import RocksStore
from storage.serving.client import StorageClient
from storage.serving.metrics import StorageMetrics
from storage.serving.service import RIGHTS, StorageService
from storage.serving.storage_pb2_grpc import add_ClusterStorageServicer_to_server
from storage.testing.decisions import A, B, C, D, forgets, founds, joins, put
from stream.cli import operations_command
from stream.cli.exits import Exit
from stream.cli.main import main
from tests.support.known_operations import AT_MS, DONE, FORGETTING, MOVING, PLANNING, KnownOperations, filled_operations
from tests.support.ports import free_ports

KEYS = Access(Keys("parts-token", "read-key", "write-key"), frozenset({Right.READ}))
AT = "2025-11-28T12:00:00.123Z"


@contextmanager
def served(store: ClusterStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The store is served, and commands have the write key."""
    port, page = free_ports(2)
    registry = CollectorRegistry()
    service = StorageService(store, StorageMetrics(registry, store.state(), 0))
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
    try:
        yield
    finally:
        server.stop(0)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[KnownOperations]:
    """Four seconds after the moves began."""
    store = filled_operations()
    monkeypatch.setattr(operations_command, "_now_ms", lambda: AT_MS + 4_000)
    monkeypatch.setattr(operations_command, "WAIT_S", 0.001)
    with served(store, monkeypatch):
        yield store


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str) -> tuple[int, str, str]:
        code = main(list(words))
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def rows(out: str) -> list[list[str]]:
    """The rows of a table, by words."""
    return [row.split() for row in out.splitlines() if row.strip() and row.split()[0].isdigit()]


def test_moves_are_listed_with_how_far_they_are(store: KnownOperations, run: Run) -> None:
    store.moves[5] = FORGETTING
    code, out, _ = run("operations", "list")
    assert code == Exit.OK
    assert out.split("\n", 1)[0].split() == ["number", "kind", "of", "state", "progress", "rate", "left", "started"]
    assert [" ".join(row) for row in rows(out)] == [
        f"1 pin override 1 done 20,000 of 20,000 (100 %) 5,000/s {AT}",
        f"2 merge override 2 moving 412,000 of 1,100,000 (37 %) 103,000/s 6 s {AT}",
        f"4 override 4 planning 30,000 planned {AT}",
        f"5 forget record 204 planning 7,000 planned {AT}",
    ]
    assert [row[0] for row in rows(run("operations", "list", "--after", "1")[1])] == ["2", "4", "5"]


def test_any_page_size_lists_the_same(store: KnownOperations, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations_command, "_PAGE", 1)
    assert [row[0] for row in rows(run("operations", "list")[1])] == ["1", "2", "4"]


def test_no_move_is_said(store: KnownOperations, run: Run) -> None:
    store.moves.clear()
    code, out, err = run("operations", "list")
    assert (code, out) == (Exit.OK, "")
    assert "no bulk move" in err
    assert json.loads(run("operations", "list", "--json")[1]) == {"after": 0, "operations": []}


def test_json_is_as_over_http(store: KnownOperations, run: Run) -> None:
    listed = json.loads(run("operations", "list", "--json")[1])["operations"]
    assert listed[1] == {
        "number": 2,
        "kind": "merge",
        "override": 2,
        "position": None,
        "state": "moving",
        "images": 1_100_000,
        "moved": 412_000,
        "history_first": 20_005,
        "started": AT,
        "ended": None,
    }
    assert [json.loads(run("operations", "show", str(each["number"]), "--json")[1]) for each in listed] == listed


def shown(out: str) -> dict[str, str]:
    return dict(line.split(maxsplit=1) for line in out.splitlines())


def test_one_move_is_shown(store: KnownOperations, run: Run) -> None:
    assert shown(run("operations", "show", "2")[1]) == {
        "number": "2",
        "kind": "merge",
        "of": "override 2",
        "state": "moving",
        "progress": "412,000 of 1,100,000 (37 %)",
        "rate": "103,000/s",
        "left": "6 s",
        "started": AT,
    }
    done = shown(run("operations", "show", "1")[1])
    assert (done["ended"], done["rate"], "left" in done) == ("2025-11-28T12:00:04.123Z", "5,000/s", False)


@pytest.mark.parametrize(
    ("operation", "now_ms"),
    [
        (replace(MOVING, moved=0), AT_MS + 4_000),
        (MOVING, AT_MS),
        (MOVING, AT_MS - 60_000),
        (replace(MOVING, state=OperationState.PAUSED), AT_MS + 4_000),
        (replace(PLANNING, number=2), AT_MS + 4_000),
    ],
)
def test_what_cannot_be_told_is_left_out(
    store: KnownOperations, run: Run, monkeypatch: pytest.MonkeyPatch, operation: Operation, now_ms: int
) -> None:
    """Nothing is rewritten yet, the clock of this machine is behind, it rests, or it is planned."""
    store.moves[2] = operation
    monkeypatch.setattr(operations_command, "_now_ms", lambda: now_ms)
    assert shown(run("operations", "show", "2")[1]).keys() & {"rate", "left"} == set()


def test_an_almost_finished_move_is_no_finished_one(store: KnownOperations, run: Run) -> None:
    store.moves[2] = replace(MOVING, moved=1_099_999)
    assert shown(run("operations", "show", "2")[1])["progress"] == "1,099,999 of 1,100,000 (99 %)"


@pytest.mark.parametrize("words", [("show", "3"), ("show", "3", "--wait"), ("cancel", "3")])
def test_what_is_no_move_is_not_found(store: KnownOperations, run: Run, words: tuple[str, ...]) -> None:
    code, out, err = run("operations", *words)
    assert (code, out) == (Exit.NOT_FOUND, "")
    assert "there is no bulk move 3" in err


class Told(KnownOperations):
    """A store that tells one more step of its move whenever it is asked."""

    def __init__(self, steps: Sequence[Operation | None]) -> None:
        super().__init__()
        self.steps = list(steps)

    def operations(self, after: int, limit: int) -> Sequence[Operation]:
        step = self.steps.pop(0)
        return [] if step is None or step.number <= after else [step]


def test_a_move_is_waited_for_with_a_bar(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    over = replace(MOVING, state=OperationState.DONE, moved=MOVING.total, ended_ms=AT_MS + 5_000)
    paused = replace(MOVING, state=OperationState.PAUSED)
    store = Told([replace(MOVING, state=OperationState.PLANNING, moved=0), MOVING, paused, MOVING, over])
    bars = StringIO()
    monkeypatch.setattr(operations_command, "WAIT_S", 0.0)
    monkeypatch.setattr("stream.cli.output.notes", lambda: Console(file=bars, force_terminal=True, width=200))
    with served(store, monkeypatch):
        code, out, _ = run("operations", "show", "2", "--wait")
    assert (code, store.steps) == (Exit.OK, [])
    assert (shown(out)["state"], shown(out)["progress"]) == ("done", "1,100,000 of 1,100,000 (100 %)")
    assert "1100000/1100000" in bars.getvalue()


def test_a_plan_that_is_cancelled_is_waited_for_no_longer(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations_command, "WAIT_S", 0.0)
    with served(Told([PLANNING, PLANNING, None]), monkeypatch):
        code, out, err = run("operations", "show", "4", "--wait")
    assert (code, out) == (Exit.NOT_FOUND, "")
    assert "the bulk move 4 is planned no more" in err


def test_a_move_rests_and_goes_on(store: KnownOperations, run: Run) -> None:
    code, out, _ = run("operations", "pause", "2")
    at = "412,000 of 1,100,000 (37 %)"
    assert (code, out) == (Exit.OK, f"bulk move 2 rests at {at}: `neardup operations resume 2` goes on\n")
    assert store.moves[2].state is OperationState.PAUSED
    code, out, _ = run("operations", "resume", "2")
    assert (code, out) == (Exit.OK, f"bulk move 2 goes on from {at}\n")
    assert store.moves[2] == MOVING
    assert json.loads(run("operations", "pause", "2", "--json")[1])["state"] == "paused"
    assert json.loads(run("operations", "resume", "2", "--json")[1])["state"] == "moving"


def test_a_plan_is_cancelled(store: KnownOperations, run: Run) -> None:
    assert run("operations", "cancel", "4")[:2] == (Exit.OK, "bulk move 4 is cancelled: nothing has moved\n")
    assert store.moves == {1: DONE, 2: MOVING}
    store.moves[4] = PLANNING
    assert json.loads(run("operations", "cancel", "4", "--json")[1])["number"] == 4


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("pause", "1"), "no bulk move 1 is under way"),
        (("resume", "4"), "no bulk move 4 is under way"),
        (("pause", "3"), "no bulk move 3 is under way"),
        (("cancel", "2"), "no bulk move 2 is being planned"),
        (("show", "0"), "than or equal to 1"),
        (("list", "--after", "-1"), "than or equal to 0"),
    ],
)
def test_wrong_input_is_refused(store: KnownOperations, run: Run, words: tuple[str, ...], problem: str) -> None:
    code, out, err = run("operations", *words)
    assert (code, out) == (Exit.USAGE, "")
    assert problem in " ".join(err.split())
    assert store.moves == {1: DONE, 2: MOVING, 4: PLANNING}


@pytest.mark.parametrize("words", [("pause", "2"), ("resume", "2"), ("cancel", "4")])
def test_steering_needs_the_write_key_and_reading_does_not(
    store: KnownOperations, run: Run, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("NEARDUP_API_TOKEN", "")
    code, _, err = run("operations", *words)
    assert code == Exit.USAGE
    assert "write key" in err
    assert store.moves == {1: DONE, 2: MOVING, 4: PLANNING}
    assert run("operations", "list")[0] == run("operations", "show", "2")[0] == Exit.OK


def test_a_server_that_is_down_is_unavailable(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__STORAGE__PORT", str(free_ports(1)[0]))
    assert run("operations", "list")[0] == Exit.UNAVAILABLE


@pytest.fixture
def rocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RocksStore]:
    """A served store where every pin, merge and rollback is a bulk move."""
    store = RocksStore(tmp_path / "store", options=RocksOptions(sync=False), moves_at_once=0)
    put(store, founds(0, A), joins(1, B, A), founds(2, C), kinds=JOB_KINDS)
    with served(store, monkeypatch):
        yield store
    store.close()


def settle_all(store: RocksStore) -> None:
    while store.settle(10):
        pass


def test_an_override_that_became_a_bulk_move_says_so(rocks: RocksStore, run: Run) -> None:
    def moving(number: int, images: str) -> str:
        return f"override {number}: {images} moved; their records are rewritten: `neardup operations show {number}`"

    _, out, _ = run("rollback", "--change", "1")
    assert out.startswith(f"{moving(1, '1 image')}; new images are queued")
    settle_all(rocks)
    assert run("override", "undo", "1")[1] == f"override 2: 1 is undone, {moving(2, '1 image').split(': ', 1)[1]}\n"
    settle_all(rocks)
    assert run("override", "merge", "a", "--into", "c")[1] == f"{moving(3, '2 images')}\n"
    assert run("override", "merge", "a", "--into", "c")[1].endswith("says so already: nothing was written\n")
    settle_all(rocks)
    put(rocks, forgets(3, C, C), founds(4, D), kinds=JOB_KINDS)
    settle_all(rocks)
    told = run("override", "merge", "d", "--into", "a")[1]
    assert told == f"{moving(5, '1 image')}\n".replace("override 5", "override 4")
    settle_all(rocks)
    assert [row[:4] for row in rows(run("operations", "list")[1])] == [
        ["1", "rollback", "override", "1"],
        ["2", "undo", "override", "2"],
        ["3", "merge", "override", "3"],
        ["4", "forget", "record", "3"],
        ["5", "merge", "override", "4"],
    ]


def test_a_move_that_is_not_known_to_be_under_way_is_only_counted(
    rocks: RocksStore, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The override is said; a server that stops then is no error of it."""

    def late(*_: Any) -> Any:
        raise UnavailableError("it stops")

    monkeypatch.setattr(StorageClient, "operations", late)
    assert run("override", "merge", "a", "--into", "c")[:2] == (Exit.OK, "override 1: 2 images moved\n")
