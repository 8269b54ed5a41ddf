"""One piece of work in a process of its own: it is told what to do, tells how far it is, and is killed to stop it.

It shares neither Python's lock nor memory with the threads that answer calls, and has a lower priority than they.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core.child import Child, socket_of_child
from core.errors import BadInputError, NeardupError, UnavailableError

__all__ = ["WorkStopped", "do_apart", "work_of", "yield_to_calls"]

log = logging.getLogger(__name__)

_LOOK_S = 0.1
"""Seconds between two looks whether the work must stop."""

_NICE = 10
"""The nice value: a tenth of an ordinary thread's share when both want the same processor."""


class WorkStopped(Exception):  # noqa: N818 - no error: whoever asked for the work wants it no more
    """The work in progress stops."""


@dataclass(frozen=True, slots=True)
class _Progress:
    how_far: Any


@dataclass(frozen=True, slots=True)
class _Done:
    result: Any


@dataclass(frozen=True, slots=True)
class _Waits:
    """Another try may succeed."""

    why: str


@dataclass(frozen=True, slots=True)
class _Failed:
    why: str


def do_apart(module: str, function: str, task: object, tell: Callable[[Any], None], stopped: threading.Event) -> Any:
    """Does a task in another process, which is killed when `stopped` is set.

    Args:
        module: The module of the process's main function.
        function: The main function, which calls `work_of`.
        task: What it is told; picklable.
        tell: Is told the progress.
        stopped: Ends it.

    Returns:
        What the work returns.

    Raises:
        WorkStopped: It was stopped.
        UnavailableError: It must wait, or its process was killed; another try may succeed.
        BadInputError: It failed.
    """
    child = Child(module, function)
    try:
        child.socket.send(task)
        while True:
            while not child.socket.poll(_LOOK_S):
                if stopped.is_set():
                    raise WorkStopped
            match child.socket.recv():
                case _Progress(how_far):
                    tell(how_far)
                case _Done(result):
                    return result
                case _Waits(why):
                    raise UnavailableError(why)
                case _Failed(why):
                    raise BadInputError(why)
    except (EOFError, ConnectionError) as error:
        code = child.process.wait()
        why = f"the process of {module} has ended (exit code {code}); its log says why"
        # One that was killed, as for want of memory, goes on; one that ended by itself would end again.
        raise (UnavailableError(why) if code < 0 else BadInputError(why)) from error
    finally:
        child.kill()


def work_of(
    file: int, work: Callable[[Any, Callable[[Any], None]], Any], waits: tuple[type[NeardupError], ...] = ()
) -> None:
    """For the main function of the process: does its task, and tells the progress and the end.

    Args:
        file: The open file of its socket.
        work: Takes the task, and whom to tell the progress.
        waits: Errors that pass by themselves, beside `UnavailableError` and those of the disk.
    """
    socket = socket_of_child(file)
    yield_to_calls()
    task = socket.recv()
    passes: tuple[type[Exception], ...] = (UnavailableError, OSError, MemoryError, *waits)
    try:
        result = work(task, lambda how_far: socket.send(_Progress(how_far)))
    except passes as error:
        socket.send(_Waits(str(error) or type(error).__name__))
    except NeardupError as error:
        socket.send(_Failed(str(error)))
    except Exception as error:  # the edge of the process: it would come again
        log.exception("work apart failed on what nobody foresaw")
        socket.send(_Failed(f"{type(error).__name__}: {error}"))
    else:
        socket.send(_Done(result))


def yield_to_calls() -> None:
    """Lowers the priority of the calling thread below that of the threads that answer calls, where possible."""
    if sys.platform != "linux":  # elsewhere priorities belong to processes
        return
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
    except OSError as error:
        log.warning("background work keeps the priority of calls: %s", error.strerror)
