"""The loop that sweeps old history: what it takes, how it goes on, and what it says when the disk refuses."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest

from core.overrides import OverrideKind
from core.types import ImageId
from storage.errors import WriteError
from storage.memory import MemoryStore
from storage.serving import history_sweep
from storage.serving.history_sweep import DAY_MS, HistorySweep
from storage.testing.decisions import A, B, C, D, founds, put
from storage.testing.overrides import JOB, say
from tests.support.store_wrappers import DelegatingStore


class Clock:
    """Tells the day that it is set to."""

    def __init__(self) -> None:
        self.days = 0.0

    def __call__(self) -> int:
        return int(self.days * DAY_MS)


class Heard:
    """Notes what it is told, and says when so many entries went."""

    def __init__(self, expected: int = 0) -> None:
        self.counts: list[int] = []
        self.failures = 0
        self.done = threading.Event()
        self._expected = expected

    def swept(self, entries: int) -> None:
        self.counts.append(entries)
        if sum(self.counts) >= self._expected:
            self.done.set()

    def sweep_failed(self) -> None:
        self.failures += 1


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryStore:
    """On each of ten days three images came. All of it is published."""
    store = MemoryStore(now_ms=clock)
    for day in range(10):
        clock.days = day
        put(store, *[founds(n, ImageId(f"i{n}")) for n in range(3 * day, 3 * day + 3)])
    store.set_published(30)
    return store


@pytest.fixture
def running() -> Iterator[list[HistorySweep]]:
    """Loops put in here are stopped."""
    loops: list[HistorySweep] = []
    yield loops
    for loop in loops:
        loop.stop()


def sweep_of(store: MemoryStore | DelegatingStore, clock: Clock, heard: Heard, keep: int = 0) -> HistorySweep:
    return HistorySweep(store, 2.5, heard, keep, clock, pause_s=0.001)


def test_entries_go_once_they_are_too_old(store: MemoryStore, clock: Clock) -> None:
    heard, firsts = Heard(), list[int]()
    loop = sweep_of(store, clock, heard)
    for days in (2.4, 2.5, 3.4, 3.5, 9.0):
        clock.days = days
        loop.sweep()
        firsts.append(store.state().history_first)
    # Three entries a day: those of day 0 are too old at 2.5, those of day 6 at 8.5.
    assert firsts == [1, 4, 4, 7, 22]
    assert heard.counts == [3, 3, 15]


def test_the_newest_stay_however_old(store: MemoryStore, clock: Clock) -> None:
    clock.days = 1_000
    sweep_of(store, clock, Heard(), keep=8).sweep()
    assert store.state().history_first == 23
    sweep_of(store, clock, Heard(), keep=0).sweep()
    assert store.state().history_first == 30  # what was published last stays


def test_what_is_not_published_stays(store: MemoryStore, clock: Clock) -> None:
    clock.days = 1_000
    store.set_published(5)
    sweep_of(store, clock, Heard()).sweep()
    assert store.state().history_first == 5
    store.set_published(9)
    sweep_of(store, clock, Heard()).sweep()
    assert store.state().history_first == 9


def test_the_loop_goes_on_in_small_writes_until_all_went(
    store: MemoryStore, clock: Clock, running: list[HistorySweep], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_sweep, "CHUNK", 4)
    heard = Heard(expected=21)
    loop = sweep_of(store, clock, heard)
    running.append(loop)
    loop.start()
    assert heard.done.wait(30)
    loop.stop()
    assert heard.counts == [4, 4, 4, 4, 4, 1]
    assert (store.state().history_first, heard.failures) == (22, 0)


def test_what_is_still_to_be_decided_again_holds_it_up(clock: Clock) -> None:
    """An undo wants images to be decided again, and the history says which. A pin before it does not."""
    store = MemoryStore(now_ms=clock)
    put(store, founds(0, A), founds(1, B), founds(2, C), kinds=JOB)
    say(store, OverrideKind.PIN, A, target=B)
    clock.days = 5
    put(store, founds(3, D), kinds=JOB)
    store.set_published(5)
    heard = Heard()
    loop = sweep_of(store, clock, heard)
    undo = say(store, OverrideKind.UNDO, undoes=1).override.number
    assert (loop.sweep(), store.state().history_first) == (0, 1)
    store.set_requeued(undo)
    assert (loop.sweep(), store.state().history_first) == (4, 5)
    say(store, OverrideKind.PIN, A, target=C)
    clock.days = 10
    store.set_published(6)
    assert (loop.sweep(), store.state().history_first) == (1, 6)


class Full(DelegatingStore):
    """Its disk refuses the first sweeps."""

    def __init__(self, inner: MemoryStore, failures: int) -> None:
        super().__init__(inner)
        self.failures = failures

    def sweep_history(self, before: int, limit: int) -> int:
        if self.failures:
            self.failures -= 1
            raise WriteError("the disk is full")
        return super().sweep_history(before, limit)


def test_a_full_disk_is_told_once_and_it_goes_on(
    store: MemoryStore,
    clock: Clock,
    running: list[HistorySweep],
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard = Heard(expected=21)
    loop = sweep_of(Full(store, 1), clock, heard)
    running.append(loop)
    with caplog.at_level(logging.INFO):
        loop.start()
        assert heard.done.wait(30)
        loop.stop()
    assert (heard.failures, store.state().history_first) == (1, 22)
    said = [record.getMessage() for record in caplog.records]
    assert sum("sweeping waits before history entry 1" in each for each in said) == 1
    assert sum("it begins at entry 22 now" in each for each in said) == 1
    assert any("sweeping of history resumed" in each for each in said)
