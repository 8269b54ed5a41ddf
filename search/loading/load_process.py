"""Loads in a process of its own (`core.apart`). What it sealed stays when it is killed, and the next one goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable

from core.apart import do_apart, work_of
from core.blas import use_one_blas_thread
from search.index.errors import IndexLockedError
from search.loading.load_task import LoadTask, Progress

__all__ = ["load_apart", "serve"]


def load_apart(task: LoadTask, tell: Callable[[Progress], None], stopped: threading.Event) -> int:
    """As `load`, in a process that is killed when `stopped` is set.

    Raises:
        WorkStopped: It was stopped.
        UnavailableError: It must wait, or its process was killed; another try goes on.
        BadInputError: It failed.
    """
    images: int = do_apart(__name__, serve.__name__, task, tell, stopped)
    return images


def serve(file: int) -> None:
    """Loads, and tells the progress and the end; the main program of the process.

    Args:
        file: The open file of the socket.
    """
    from search.loading.loader import load  # the process that serves needs no pyarrow

    use_one_blas_thread()
    work_of(file, load, (IndexLockedError,))
