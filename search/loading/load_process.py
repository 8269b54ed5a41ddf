"""Loads in a process of its own, which shares neither Python's lock nor memory with the threads that answer calls.

It has a low priority, and is killed to stop it, or with the server: what it sealed stays, and the next one goes on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from core.child import Child, socket_of_child
from core.errors import BadInputError, NeardupError, UnavailableError
from search.index.errors import IndexLockedError
from search.index.rate_limiter import WorkStopped, yield_to_calls
from search.loading.load_task import LoadTask, Progress
from search.serving.blas import use_one_blas_thread

__all__ = ["load_apart", "serve"]

log = logging.getLogger(__name__)

_LOOK_S = 0.1
"""Seconds between two looks whether the load must stop."""

_TELL_S = 0.2
"""Progress is told so often."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    images: int


@dataclass(frozen=True, slots=True)
class _Waits:
    """Another try may succeed."""

    why: str


@dataclass(frozen=True, slots=True)
class _Failed:
    why: str


def load_apart(task: LoadTask, tell: Callable[[Progress], None], stopped: threading.Event) -> int:
    """As `load`, in a process that is killed when `stopped` is set.

    Raises:
        WorkStopped: It was stopped.
        UnavailableError: It must wait, or its process was killed; another try goes on.
        BadInputError: It failed.
    """
    child = Child(__name__, serve.__name__)
    try:
        child.socket.send(task)
        while True:
            while not child.socket.poll(_LOOK_S):
                if stopped.is_set():
                    raise WorkStopped
            match child.socket.recv():
                case Progress() as progress:
                    tell(progress)
                case _Loaded(images):
                    return images
                case _Waits(why):
                    raise UnavailableError(why)
                case _Failed(why):
                    raise BadInputError(why)
    except (EOFError, ConnectionError) as error:
        code = child.process.wait()
        why = f"the process that loads has ended (exit code {code}); its log says why"
        # One that was killed, as for want of memory, goes on; one that ended by itself would end again.
        raise (UnavailableError(why) if code < 0 else BadInputError(why)) from error
    finally:
        child.kill()


def serve(file: int) -> None:
    """Loads, and tells the progress and the end; the main program of the process.

    Args:
        file: The open file of the socket.
    """
    from search.loading.loader import load  # the process that serves needs no pyarrow

    socket = socket_of_child(file)
    yield_to_calls()
    use_one_blas_thread()
    task: LoadTask = socket.recv()
    told_s = 0.0

    def tell(progress: Progress) -> None:
        nonlocal told_s
        now_s = time.monotonic()
        if progress.verifying or now_s - told_s >= _TELL_S:
            told_s = now_s
            socket.send(progress)

    try:
        socket.send(_Loaded(load(task, tell)))
    except (UnavailableError, IndexLockedError, OSError, MemoryError) as error:
        socket.send(_Waits(str(error) or type(error).__name__))
    except NeardupError as error:
        socket.send(_Failed(str(error)))
    except Exception as error:  # the edge of the process: it would come again
        log.exception("the first load failed on what nobody foresaw")
        socket.send(_Failed(f"{type(error).__name__}: {error}"))
