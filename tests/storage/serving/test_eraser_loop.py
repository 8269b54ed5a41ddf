"""The eraser's thread: it goes on after failures, and rests between two rounds."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import pytest

from core.errors import UnavailableError
from core.types import ImageId
from storage.memory import MemoryStore
from storage.records import EraseStep
from storage.serving import eraser_loop
from storage.serving.eraser_loop import EraserLoop
from storage.testing.decisions import A, B, forgets, founds, put
from storage.testing.forgetting import assert_erased
from tests.support.store_wrappers import DelegatingStore


@dataclass
class Clock:
    """Each look takes a second."""

    now: float = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


class FailingStore(DelegatingStore):
    """Its first write fails."""

    failures = 1

    def erase(self, step: EraseStep) -> None:
        if self.failures:
            self.failures -= 1
            raise UnavailableError("the disk is full")
        super().erase(step)


def test_a_thread_erases_what_was_forgotten_also_after_a_failure() -> None:
    store, failed = FailingStore(MemoryStore()), threading.Event()
    loop = EraserLoop(store, waits_for_publisher=False, failed=failed.set, idle_s=0.01)
    put(store, founds(0, A), founds(1, B), forgets(2, A, A))
    loop.start()
    while True:
        with store.snapshot() as view:
            if all(each.erased_at_ms for each in view.erasures()):
                break
    loop.stop()
    assert failed.is_set()
    assert_erased(store, A)


def test_the_next_round_waits_in_proportion_to_the_last_one() -> None:
    store, clock, slept = MemoryStore(), Clock(), list[float]()
    loop = EraserLoop(store, waits_for_publisher=False, clock=clock, sleep=slept.append)
    put(store, founds(0, A), founds(1, B), forgets(2, A, A))
    steps = 0
    while loop.step():
        steps += 1
    assert slept == [1.0] * steps
    took_s = 2.0 * steps + 1
    put(store, forgets(3, B, B))
    ended = clock.now
    while not loop.step():
        pass
    assert clock.now - ended >= eraser_loop.REST_SHARE * took_s
    assert clock.now - ended < eraser_loop.REST_SHARE * took_s + 4


def test_it_says_since_when_an_image_waits_also_where_a_step_fails() -> None:
    store, told = FailingStore(MemoryStore()), list[int | None]()
    loop = EraserLoop(store, waits_for_publisher=False, unerased=told.append, sleep=lambda seconds: None)
    put(store, founds(0, A), founds(1, B), forgets(2, A, A), forgets(3, B, B))
    with store.snapshot() as view:
        oldest_ms = min(each.forgotten_at_ms for each in view.erasures())
    with pytest.raises(UnavailableError):
        loop.step()
    while loop.step():
        pass
    assert (set(told[:-1]), told[-1]) == ({oldest_ms}, None)


def test_a_long_round_is_followed_by_a_rest_of_hours_and_not_of_days() -> None:
    assert eraser_loop.MAX_REST_S == 6 * 3600


def test_without_anything_to_erase_there_is_no_rest() -> None:
    store, clock = MemoryStore(), Clock()
    loop = EraserLoop(store, waits_for_publisher=False, clock=clock, sleep=lambda seconds: None)
    assert not loop.step()
    put(store, founds(0, ImageId("x")), forgets(1, ImageId("x"), ImageId("x")))
    assert loop.step()
