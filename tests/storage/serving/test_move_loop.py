"""The loop that rewrites the records of a bulk move: in small writes, again after a full disk, not while it rests."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from core.errors import UnavailableError
from core.overrides import JOB_KINDS, OverrideKind, OverrideRequest
from core.types import ImageId
from storage.bulk.operations import OperationState
from storage.errors import WriteError
from storage.interfaces import ClusterStore
from storage.memory import MemoryStore
from storage.rocks.options import RocksOptions
from storage.rocks.store import RocksStore
from storage.serving import move_loop
from storage.serving.metrics import StorageMetrics
from storage.serving.move_loop import MoveLoop
from storage.testing.decisions import A, founds, joins, put
from tests.support.store_wrappers import DelegatingStore

J, K, L = ImageId("j"), ImageId("k"), ImageId("l")


class Heard:
    """Notes what it is told, and says when a move that was under way is over."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []
        self.failures = 0
        self.done = threading.Event()
        self.failed = threading.Event()

    def moving(self, images: int, moved: int) -> None:
        if (images, moved) == (0, 0) and any(self.told):
            self.done.set()
        self.told.append((images, moved))

    def move_failed(self) -> None:
        self.failures += 1
        self.failed.set()


class Refusing(DelegatingStore):
    """Its disk refuses the first writes of a move."""

    def __init__(self, inner: ClusterStore, failures: int = 0) -> None:
        super().__init__(inner)
        self.failures = failures
        self.limits: list[int] = []

    def settle(self, limit: int) -> bool:
        self.limits.append(limit)
        if self.failures:
            self.failures -= 1
            raise WriteError("the disk is full")
        return super().settle(limit)


@pytest.fixture
def rocks(tmp_path: Path) -> Iterator[RocksStore]:
    """a with its members b to i; j and k alone. Every merge is a bulk move."""
    store = RocksStore(tmp_path, options=RocksOptions(sync=False), moves_at_once=0)
    put(store, founds(0, A), *(joins(n, ImageId("abcdefghi"[n]), A) for n in range(1, 9)), kinds=JOB_KINDS)
    put(store, founds(9, J), founds(10, K), kinds=JOB_KINDS)
    yield store
    store.close()


@pytest.fixture
def running() -> Iterator[Callable[[MoveLoop], MoveLoop]]:
    """Loops that are started here are stopped."""
    loops: list[MoveLoop] = []

    def start(loop: MoveLoop) -> MoveLoop:
        loops.append(loop)
        loop.start()
        return loop

    yield start
    for loop in loops:
        loop.stop()


def merge(store: ClusterStore, head: ImageId, target: ImageId) -> int:
    return store.override(OverrideRequest(OverrideKind.MERGE, (head,), target), 7).override.number


def state_of(store: ClusterStore, number: int) -> OperationState:
    (operation,) = store.operations(number - 1, 1)
    return operation.state


def settle_all(loop: MoveLoop) -> None:
    while loop.settle():
        pass


def test_a_move_is_rewritten_in_small_writes(rocks: RocksStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(move_loop, "CHUNK", 4)
    store, heard = Refusing(rocks), Heard()
    loop = MoveLoop(store, heard)
    assert not loop.settle()
    assert (heard.told, store.limits) == ([(0, 0)], [])
    merge(store, A, J)
    heard.told.clear()
    settle_all(loop)
    # The first of the nine was rewritten when the move began.
    assert list(dict.fromkeys(heard.told)) == [(9, 1), (9, 5), (9, 9), (0, 0)]
    assert set(store.limits) == {4}
    assert state_of(rocks, 1) is OperationState.DONE


def test_a_move_that_rests_is_left_alone_until_it_goes_on(rocks: RocksStore) -> None:
    store, heard = Refusing(rocks), Heard()
    loop = MoveLoop(store, heard)
    merge(store, A, J)
    store.pause(1, rests=True)
    assert not loop.settle()
    assert (heard.told, store.limits) == ([(9, 1)], [])
    store.pause(1, rests=False)
    settle_all(loop)
    assert state_of(rocks, 1) is OperationState.DONE


def test_moves_that_are_over_are_passed(rocks: RocksStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(move_loop, "AT_ONCE", 1)
    put(rocks, founds(11, L), kinds=JOB_KINDS)
    for head, target in ((A, J), (J, K)):
        merge(rocks, head, target)
        settle_all(MoveLoop(rocks, Heard()))
    merge(rocks, K, L)
    heard = Heard()
    settle_all(MoveLoop(rocks, heard))
    assert heard.told[0][0] == 11
    assert state_of(rocks, 3) is OperationState.DONE


def test_a_write_wakes_the_loop(
    rocks: RocksStore, running: Callable[[MoveLoop], MoveLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks by itself only after an hour here."""
    monkeypatch.setattr(move_loop, "LOOK_S", 3600.0)
    looked = threading.Event()

    class Looked(Heard):
        def moving(self, images: int, moved: int) -> None:
            super().moving(images, moved)
            looked.set()

    heard = Looked()
    running(MoveLoop(rocks, heard, pause_s=0.001))
    assert looked.wait(30)
    merge(rocks, A, J)
    assert heard.done.wait(30)
    assert state_of(rocks, 1) is OperationState.DONE
    assert heard.failures == 0


def test_a_full_disk_is_told_once_and_the_move_goes_on(
    rocks: RocksStore,
    running: Callable[[MoveLoop], MoveLoop],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(move_loop, "LOOK_S", 0.001)
    heard = Heard()
    merge(rocks, A, J)
    with caplog.at_level(logging.INFO):
        loop = running(MoveLoop(Refusing(rocks, 2), heard, pause_s=0.001))
        assert heard.done.wait(30)
        loop.stop()
    assert (heard.failures, state_of(rocks, 1)) == (2, OperationState.DONE)
    said = [record.getMessage() for record in caplog.records]
    assert sum("rewriting waits within a bulk move: the disk is full" in each for each in said) == 1
    assert said.count("rewriting of bulk-moves resumed") == 1


def test_it_stops_within_a_move_which_goes_on_in_a_store_that_is_opened_again(
    rocks: RocksStore, running: Callable[[MoveLoop], MoveLoop], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(move_loop, "LOOK_S", 3600.0)
    heard = Heard()
    loop = MoveLoop(Refusing(rocks, 1), heard)
    merge(rocks, A, J)
    running(loop)
    assert heard.failed.wait(30)
    loop.stop(30)
    assert state_of(rocks, 1) is OperationState.MOVING
    rocks.close()
    with pytest.raises(UnavailableError):
        loop.settle()
    store = RocksStore(tmp_path, options=RocksOptions(sync=False), moves_at_once=0)
    try:
        heard = Heard()
        running(MoveLoop(store, heard, pause_s=0.001))
        assert heard.done.wait(30)
        assert state_of(store, 1) is OperationState.DONE
        assert store.cluster(A) is None
    finally:
        store.close()


def test_a_store_that_moves_all_at_once_is_never_settled() -> None:
    store = MemoryStore()
    put(store, founds(0, A), founds(1, J), kinds=JOB_KINDS)
    merge(store, A, J)
    watched = Refusing(store, 1)
    assert not MoveLoop(watched, Heard()).settle()
    assert watched.limits == []


def test_the_metrics_show_the_move_under_way() -> None:
    registry = CollectorRegistry()
    metrics = StorageMetrics(registry, MemoryStore().state(), 0)
    metrics.moving(1_100_000, 412_000)
    metrics.move_failed()

    def shown(name: str) -> float | None:
        return registry.get_sample_value(f"neardup_storage_bulk_move_{name}")

    assert (shown("images"), shown("moved"), shown("failures_total")) == (1_100_000, 412_000, 1)
