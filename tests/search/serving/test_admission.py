"""Rates by a hand-driven clock; slots and lines by threads that tell where they are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from core.errors import BadInputError, BusyError, SettingsError
from search.serving.admission import Admission, AdmissionPolicy, Caller, TokenBucket, caller_named

FREE = {"stream_per_s": 0.0, "replay_per_s": 0.0, "interactive_per_s": 0.0, "shadow_per_s": 0.0}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_lets_its_burst_pass_then_its_rate() -> None:
    # rate 10/s, burst 20:  t=0 take 20 | wait 0.5 for 5 | t=0.5 take 5 | t=10 full again, not fuller
    clock = Clock()
    bucket = TokenBucket(10.0, 20.0, clock)
    assert bucket.take(20) == 0
    assert bucket.take(5) == pytest.approx(0.5)
    clock.now = 0.5
    assert bucket.take(5) == 0
    clock.now = 10.0
    assert bucket.take(20) == 0
    assert bucket.take(1) == pytest.approx(0.1)


def test_more_than_a_bucket_holds_passes_when_it_is_full_and_leaves_a_debt() -> None:
    clock = Clock()
    bucket = TokenBucket(10.0, 20.0, clock)
    assert bucket.take(50) == 0
    assert bucket.take(1) == pytest.approx(3.1)
    clock.now = 3.1
    assert bucket.take(1) == 0


def test_what_was_taken_for_nothing_comes_back() -> None:
    bucket = TokenBucket(10.0, 20.0, Clock())
    bucket.take(20)
    bucket.give_back(5)
    assert bucket.take(5) == 0
    bucket.give_back(1000)
    assert bucket.take(20) == 0
    assert bucket.take(1) > 0


def test_who_asks_for_too_much_is_told_how_long_to_wait() -> None:
    clock = Clock()
    admission = Admission(AdmissionPolicy(**{**FREE, "interactive_per_s": 10.0}), clock)
    with admission.admit(Caller.INTERACTIVE, 10):
        pass
    with (
        pytest.raises(BusyError, match="interactive may ask for 10 items a second") as caught,
        admission.admit(Caller.INTERACTIVE, 5),
    ):
        pass
    assert caught.value.retry_after_s == pytest.approx(0.5)
    with admission.admit(Caller.SHADOW, 1000), admission.admit(Caller.STREAM, 1000):
        pass  # the others have buckets of their own
    clock.now = 0.5
    with admission.admit(Caller.INTERACTIVE, 5):
        pass


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


class Call:
    """A call that stays inside until it is told to leave."""

    def __init__(self, pool: ThreadPoolExecutor, admission: Admission, caller: Caller) -> None:
        self.inside = threading.Event()
        self.leave = threading.Event()
        self.done: Future[None] = pool.submit(self._run, admission, caller)

    def _run(self, admission: Admission, caller: Caller) -> None:
        with admission.admit(caller, 1):
            self.inside.set()
            assert self.leave.wait(30)


def waits(admission: Admission, caller: Caller, calls: int) -> None:
    while admission.waiting(caller) < calls:
        threading.Event().wait(0.001)


def test_slots_are_bounded_and_go_to_the_first_class_that_waits(pool: ThreadPoolExecutor) -> None:
    admission = Admission(AdmissionPolicy(**FREE, slots=1, waiting=2, max_wait_s=30.0))
    first = Call(pool, admission, Caller.SHADOW)
    assert first.inside.wait(30)
    shadow = Call(pool, admission, Caller.SHADOW)
    waits(admission, Caller.SHADOW, 1)
    interactive = Call(pool, admission, Caller.INTERACTIVE)
    waits(admission, Caller.INTERACTIVE, 1)
    with ExitStack() as streams:  # the stream enters all the same, as often as it likes
        for _ in range(20):
            streams.enter_context(admission.admit(Caller.STREAM, 64))
    first.leave.set()
    assert interactive.inside.wait(30)
    assert not shadow.inside.is_set()
    interactive.leave.set()
    assert shadow.inside.wait(30)
    shadow.leave.set()
    for call in (first, interactive, shadow):
        call.done.result()
    with admission.admit(Caller.INTERACTIVE, 1):
        pass


def test_a_full_line_turns_away_and_costs_no_other_class_its_line(pool: ThreadPoolExecutor) -> None:
    admission = Admission(AdmissionPolicy(**FREE, slots=1, waiting=1, max_wait_s=30.0))
    calls = [Call(pool, admission, Caller.SHADOW)]
    assert calls[0].inside.wait(30)
    calls.append(Call(pool, admission, Caller.SHADOW))
    waits(admission, Caller.SHADOW, 1)
    with pytest.raises(BusyError, match="1 calls of shadow wait already") as caught, admission.admit(Caller.SHADOW, 1):
        pass
    assert caught.value.retry_after_s is not None
    assert caught.value.retry_after_s > 0
    calls.append(Call(pool, admission, Caller.INTERACTIVE))
    waits(admission, Caller.INTERACTIVE, 1)
    for call in calls:
        call.leave.set()
    for call in calls:
        call.done.result()


def test_who_waits_in_vain_leaves_the_line_and_gets_its_tokens_back() -> None:
    admission = Admission(AdmissionPolicy(**{**FREE, "interactive_per_s": 10.0}, slots=1, max_wait_s=0.01), Clock())
    with admission.admit(Caller.REPLAY, 1):
        with pytest.raises(BusyError, match="no slot for interactive"), admission.admit(Caller.INTERACTIVE, 10):
            pass
        assert admission.waiting(Caller.INTERACTIVE) == 0
        with pytest.raises(BusyError, match=r"in 0\.000 s"), admission.admit(Caller.INTERACTIVE, 10, timeout_s=0.0):
            pass
    with admission.admit(Caller.INTERACTIVE, 10):
        pass


def test_an_error_inside_gives_the_slot_free() -> None:
    admission = Admission(AdmissionPolicy(**FREE, slots=1, waiting=0))
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), admission.admit(Caller.INTERACTIVE, 1):
            raise ZeroDivisionError


def test_only_known_classes_and_sound_policies() -> None:
    assert caller_named("stream") is Caller.STREAM
    with pytest.raises(BadInputError, match="'robots', there are stream, replay, interactive, shadow"):
        caller_named("robots")
    for wrong in (
        {"interactive_per_s": -1.0},
        {"stream_per_s": float("inf")},
        {"burst_s": 0.0},
        {"slots": 0},
        {"waiting": -1},
    ):
        with pytest.raises(SettingsError):
            AdmissionPolicy(**wrong)  # type: ignore[arg-type]
    policy = AdmissionPolicy(slots=2, waiting=8)
    assert policy.most_calls == 26
    assert [policy.rate(caller) for caller in Caller] == [0.0, 5000.0, 5000.0, 2000.0]
