"""Signals: asked to end, the demo cleans up, and cleaning up is not broken off."""

from __future__ import annotations

import os
import signal

import pytest

from stream.interrupts import interruptible, undisturbed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_within_each_signal_is_an_interrupt(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt), interruptible():
        os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_cleaning_up_is_not_broken_off(number: signal.Signals) -> None:
    with interruptible(), undisturbed():
        os.kill(os.getpid(), number)


def test_afterwards_all_is_as_before() -> None:
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    with interruptible(), undisturbed():
        pass
    assert [signal.getsignal(number) for number in numbers] == before
