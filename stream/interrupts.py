"""Ending in good order when asked to: SIGTERM and SIGHUP act like Ctrl-C, and cleaning up is not broken off."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

__all__ = ["interruptible", "undisturbed"]


@contextmanager
def interruptible() -> Iterator[None]:
    """Within, SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt. Main thread only.

    SIGINT too: a process that a script starts in the background ignores it otherwise.
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, _interrupt) for number in numbers]
    try:
        yield
    finally:
        _restore(numbers, before)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Within, SIGINT, SIGTERM and SIGHUP do nothing. Main thread only."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        _restore(numbers, before)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _restore(numbers: tuple[signal.Signals, ...], before: Sequence[Any]) -> None:
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)
