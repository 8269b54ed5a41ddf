"""Work in a process of its own: it tells how far it is and how it ended, and is gone when it should be."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from core.apart import WorkStopped, do_apart, work_of, yield_to_calls
from core.errors import BadInputError, MismatchError, UnavailableError

NAME = "tests.core.test_apart"


class Exits:
    """Ends the process that receives it."""

    def __reduce__(self) -> Any:
        return os._exit, (3,)


def serve(file: int) -> None:
    """The main function of the process."""
    work_of(file, work, (MismatchError,))


def work(task: Any, tell: Callable[[Any], None]) -> Any:
    """Tells each number before the task; raises what it is told to."""
    if isinstance(task, BaseException):
        raise task
    for number in range(task):
        tell(number)
    while task > 100:
        time.sleep(0.01)
    return os.getpriority(os.PRIO_PROCESS, 0), 2 * task


def done(task: Any, tell: Callable[[Any], None] = lambda how_far: None, stopped: threading.Event | None = None) -> Any:
    return do_apart(NAME, serve.__name__, task, tell, stopped or threading.Event())


def children() -> list[int]:
    return [
        each.pid
        for each in psutil.Process().children()
        if each.status() != psutil.STATUS_ZOMBIE and NAME in " ".join(each.cmdline())
    ]


def test_it_tells_how_far_it_is_and_what_came_of_it() -> None:
    told: list[int] = []
    nice, result = done(5, told.append)
    assert (result, told) == (10, [0, 1, 2, 3, 4])
    assert children() == []
    if sys.platform == "linux":
        assert nice >= 10


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (UnavailableError("away"), UnavailableError),
        (MismatchError("away"), UnavailableError),
        (OSError("away"), UnavailableError),
        (MemoryError(), UnavailableError),
        (BadInputError("row 7"), BadInputError),
        (TypeError("away"), BadInputError),
    ],
)
def test_what_passes_is_waited_for_and_what_would_come_again_is_a_failure(
    raised: BaseException, error: type[Exception]
) -> None:
    with pytest.raises(error, match=str(raised) or "MemoryError") as found:
        done(raised)
    assert type(found.value) is error


def test_one_that_ends_by_itself_would_end_again() -> None:
    with pytest.raises(BadInputError, match=r"has ended \(exit code 3\)"):
        done(Exits())


def test_it_is_stopped_at_once_and_its_death_is_waited_out() -> None:
    stopped = threading.Event()
    with pytest.raises(WorkStopped):
        done(101, lambda number: stopped.set(), stopped)
    assert children() == []

    def kill(number: int) -> None:
        for pid in children():
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(UnavailableError, match=r"has ended \(exit code -9\)"):
        done(101, kill)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priority of their own")
def test_only_the_thread_that_yields_does() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    found: list[int] = []

    def run() -> None:
        yield_to_calls()
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found[0] > before or before >= 10
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
