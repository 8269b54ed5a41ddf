"""A split or a pin of more images than one override takes, against a real store that moves all images in bulk."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from core import overrides
from core.access import Access, Keys, Right
from core.errors import UnavailableError
from core.overrides import OverrideKind, OverrideRequest
from core.rpc import Listen, RpcServer
from core.types import Cause, ImageId, Move
from storage.bulk.operations import OperationState
from storage.rocks.options import RocksOptions
from storage.rocks.store import RocksStore
from storage.serving.metrics import StorageMetrics
from storage.serving.service import RIGHTS, StorageService
from storage.serving.storage_pb2_grpc import add_ClusterStorageServicer_to_server
from storage.testing.decisions import A, decided, founds, joins, put
from storage.testing.overrides import JOB, heads
from stream.cli import override_parts
from stream.cli.exits import Exit
from stream.cli.main import main
from tests.support.ports import free_ports

KEYS = Access(Keys("parts-token", "read-key", "write-key"), frozenset({Right.READ}))
X = ImageId("x")
MEMBERS = [ImageId(each) for each in "xbcdefg"]
"""By age."""

Run = Callable[..., tuple[int, str, str]]


class Moving:
    """Settles the bulk moves of a store beside a test, unless they rest."""

    def __init__(self, store: RocksStore) -> None:
        self._store = store
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._stopped.wait(0.01):
            self._store.settle(2)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RocksStore]:
    """A served store: a with seven members, of which x is the oldest. An override takes three images."""
    store = RocksStore(tmp_path / "store", options=RocksOptions(sync=False), moves_at_once=0)
    put(store, founds(0, A), *(joins(at, each, A) for at, each in enumerate(MEMBERS, 1)), kinds=JOB)
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
    moving = Moving(store)
    moving.start()
    monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__STORAGE__PORT", str(port))
    monkeypatch.setenv("NEARDUP_API_TOKEN", "write-key")
    monkeypatch.setattr(overrides, "MAX_IMAGES", 3)
    monkeypatch.setattr(override_parts, "_PAGE", 2)
    monkeypatch.setattr(override_parts, "_POLL_S", 0.01)
    yield store
    moving.stop()
    server.stop(0)
    store.close()


@pytest.fixture
def run(store: RocksStore, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str) -> tuple[int, str, str]:
        code = main(["override", *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def listed(store: RocksStore) -> list[tuple[OverrideKind, str, str | None]]:
    """What was said."""
    return [
        (each.override.kind, "".join(each.override.images), each.override.target) for each in store.overrides(0, 10)
    ]


SPLIT_IN_PARTS = [(OverrideKind.SPLIT, "xbc", "a"), (OverrideKind.PIN, "def", "x"), (OverrideKind.PIN, "g", "x")]


def test_the_oldest_image_leads_and_the_rest_is_pinned_to_it(store: RocksStore, run: Run) -> None:
    code, out, _ = run("split", *"gfedcbx", "--from", "a", "--reason", "another print")
    moved = ["override 1: 3 images moved", "override 2: 3 images moved", "override 3: 1 image moved"]
    assert (code, out.splitlines()) == (Exit.OK, moved)
    assert listed(store) == SPLIT_IN_PARTS
    assert heads(store) == {"a": "a", **dict.fromkeys(MEMBERS, "x")}
    assert {each.override.reason for each in store.overrides(0, 10)} == {"another print"}


def test_overrides_that_moved_no_images_came_first(store: RocksStore, run: Run) -> None:
    """So the numbers of the parts are not those of their bulk moves."""
    for other in ("p", "q"):
        store.override(OverrideRequest(OverrideKind.FORBID, (ImageId(other),), A), 0)
    code, out, _ = run("split", *MEMBERS, "--from", "a")
    assert code == Exit.OK
    moved = ["override 3: 3 images moved", "override 4: 3 images moved", "override 5: 1 image moved"]
    assert out.splitlines() == moved
    assert listed(store)[2:] == SPLIT_IN_PARTS
    numbers = [(each.number, each.override, each.state) for each in store.operations(0, 10)]
    assert numbers == [(at, at + 2, OperationState.DONE) for at in (1, 2, 3)]


def test_given_again_it_says_what_is_left(store: RocksStore, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*unused: object) -> None:
        raise UnavailableError("the terminal was closed")

    with monkeypatch.context() as patched:
        patched.setattr(override_parts, "_wait", interrupted)
        assert run("split", *MEMBERS, "--from", "a")[0] == Exit.UNAVAILABLE
    assert listed(store) == SPLIT_IN_PARTS[:1]
    while store.operations(0, 1)[0].state is not OperationState.DONE:
        time.sleep(0.01)
    # The oldest image gets a new version, and still leads.
    put(store, decided(8, X, Move(X, X, X, Cause.KEPT), version=2), kinds=JOB)
    code, out, _ = run("split", *MEMBERS, "--from", "a", "--json")
    said = json.loads(out)["overrides"]
    assert code == Exit.OK
    assert [(each["number"], each["kind"], each["images"], each["created"]) for each in said] == [
        (1, "split", 3, False),
        (2, "pin", 3, True),
        (3, "pin", 1, True),
    ]
    assert listed(store) == SPLIT_IN_PARTS
    assert run("split", *MEMBERS, "--from", "a")[1].count("says so already") == 3


def test_a_pin_of_many_goes_to_its_target(store: RocksStore, run: Run) -> None:
    put(store, founds(8, ImageId("t")), kinds=JOB)
    assert run("pin", *MEMBERS, "--to", "t")[0] == Exit.OK
    kinds = [(OverrideKind.PIN, part, "t") for part in ("bcd", "efg", "x")]
    assert listed(store) == kinds
    assert heads(store) == {"a": "a", **dict.fromkeys([*MEMBERS, ImageId("t")], "t")}


def test_a_move_that_rests_is_not_waited_for(store: RocksStore, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    store.override(OverrideRequest(OverrideKind.FORBID, (ImageId("p"),), A), 0)

    def rest(limit: int) -> bool:
        if [each.state for each in store.operations(0, 1)] == [OperationState.MOVING]:
            store.pause(1, rests=True)
        return False

    monkeypatch.setattr(store, "settle", rest)
    code, _, err = run("split", *MEMBERS, "--from", "a")
    assert code == Exit.UNAVAILABLE
    assert "`neardup operations resume 1`, then give this command again" in " ".join(err.split())


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("split", *MEMBERS, "--from", "a", "--dry-run"), "a dry run takes at most 3 images, not 7"),
        (("split", *MEMBERS, "nobody", "--from", "a"), "no image 'nobody' is known"),
    ],
)
def test_what_cannot_be_is_refused(store: RocksStore, run: Run, words: tuple[str, ...], problem: str) -> None:
    code, _, err = run(*words)
    assert code == Exit.USAGE
    assert problem in err
    assert listed(store) == []
