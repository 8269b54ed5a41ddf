"""The budget of requests: who gets in, who waits, and who is ended."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from core.errors import BusyError
from core.intake import Intake


class Call:
    """A call without a deadline."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def time_remaining(self) -> float | None:
        return None

    def cancel(self) -> None:
        self.cancelled.set()


def test_large_requests_take_a_slot_each_and_are_rejected_when_none_is_left() -> None:
    intake = Intake(400, 100, wait_s=0.01)
    assert intake.slots == 2
    with (
        intake.received(iter([bytes(100)]), Call()),
        intake.received(iter([bytes(50)]), Call()),
        pytest.raises(BusyError, match="2 calls"),
        intake.received(iter([b"x"]), Call()),
    ):
        pass
    with intake.received(iter([bytes(100)]), Call()) as request:
        assert len(request) == 100


def test_small_requests_return_their_slot_at_once() -> None:
    intake = Intake(1, 1600, wait_s=0.01)
    assert intake.slots == 1
    with intake.received(iter([bytes(100)]), Call()), intake.received(iter([bytes(1600)]), Call()) as request:
        assert len(request) == 1600


def test_a_request_that_is_not_received_is_not_asked_for_before_there_is_a_slot() -> None:
    intake = Intake(1, 100, wait_s=0.01)
    asked = []

    def requests() -> Iterator[bytes]:
        asked.append(1)
        yield bytes(100)

    with (
        intake.received(iter([bytes(100)]), Call()),
        pytest.raises(BusyError),
        intake.received(requests(), Call()),
    ):
        pass
    assert not asked


def test_a_call_whose_request_does_not_come_is_ended_and_its_slot_is_free_again() -> None:
    intake, call = Intake(1, 100, stall_s=0.05), Call()
    intake.start()

    def requests() -> Iterator[bytes]:
        assert call.cancelled.wait(30)
        raise ConnectionError("the call was cancelled")
        yield b""

    with pytest.raises(ConnectionError), intake.received(requests(), call):
        pass
    with intake.received(iter([bytes(100)]), Call()):
        pass
    intake.stop()


def test_a_call_waits_for_a_part_of_its_time_so_that_it_gets_the_answer() -> None:
    intake, waits = Intake(1, 100, wait_s=5.0), []

    class NeverFree:
        def acquire(self, timeout: float) -> bool:
            waits.append(timeout)
            return False

    class Hurried(Call):
        def time_remaining(self) -> float | None:
            return 2.0

    intake._free = NeverFree()  # type: ignore[assignment]
    for call in (Hurried(), Call()):
        with pytest.raises(BusyError), intake.received(iter([b"x"]), call):
            pass
    assert waits == [1.6, 5.0]
