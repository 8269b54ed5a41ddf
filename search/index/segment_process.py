"""Makes segments in a process of its own, which shares no lock of Python with the threads that answer calls.

A thread that seals or merges has a low priority. If other work keeps the processor busy, such a thread is interrupted
while it holds the lock of Python, and calls wait for it. A process has its own lock.

The process starts with the first segment. It gets jobs over a socket and answers each with its result or its error. It
is killed with the process of the index, on Linux at once, elsewhere when the socket closes. While it lives it holds the
lock of the folder too, so no other process can open an index whose files it still writes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue

from core.apart import WorkStopped, yield_to_calls
from core.child import Child, socket_of_child
from core.errors import NeardupError
from search.index.columns import Columns
from search.index.forgetting import Name
from search.index.planning import RecordShape
from search.index.rate_limiter import RateLimiter
from search.index.segment import Segment
from search.index.segment_maker import LocalMaker, SegmentMaker

__all__ = ["ProcessMaker", "Supervision", "serve"]

_LOOK_S = 0.2
"""Seconds between two looks whether the work must stop, or has become urgent."""


@dataclass(frozen=True, slots=True)
class _Job:
    """What the process is told to make."""

    path: Path
    columns: Columns | None = None
    """Of a full tail; None: segments are merged."""
    old: tuple[Path, ...] = ()
    hides: tuple[dict[int, int], ...] = ()
    released: int = 0
    names: tuple[Name, ...] = ()


@dataclass(frozen=True, slots=True)
class _Urgency:
    """Whether the rate limit is lifted, from now on."""

    urgent: bool


@dataclass(frozen=True, slots=True)
class Supervision:
    """What a process is watched with."""

    stopped: threading.Event
    """Ends the work."""
    urgent: Callable[[], bool]
    """While it returns true there is no rate limit."""
    lock: int
    """The open file that holds the lock of the folder."""


class ProcessMaker(SegmentMaker):
    """Makes segments in another process."""

    def __init__(self, shape: RecordShape, sync: bool, bytes_per_s: float, supervision: Supervision) -> None:
        """Starts nothing yet.

        Args:
            shape: The sizes of the index.
            sync: Whether segments survive a crash of the machine.
            bytes_per_s: The most bytes of segments that are made in a second; 0 sets no limit.
            supervision: What the process is watched with.
        """
        self._start = (shape, sync, bytes_per_s)
        self._watched = supervision
        self._child: Child | None = None

    def seal(self, path: Path, columns: Columns) -> None:
        """See `SegmentMaker`."""
        self._make(_Job(path, columns))

    def merge(
        self,
        path: Path,
        old: Sequence[Segment],
        hides: Sequence[Mapping[int, int]],
        released: int,
        names: Sequence[Name] = (),
    ) -> dict[int, int]:
        """See `SegmentMaker`."""
        paths, hidden = tuple(one.path for one in old), tuple(dict(one) for one in hides)
        return self._make(_Job(path, None, paths, hidden, released, tuple(names)))

    def close(self) -> None:
        """Ends the process, whatever it is doing."""
        if self._child is not None:
            self._child.kill()
        self._child = None

    def _make(self, job: _Job) -> dict[int, int]:
        try:
            return self._answer(job)
        except (EOFError, ConnectionError) as error:
            self.close()
            _remove_unfinished(job.path)
            raise OSError(None, "the process that writes segments has ended") from error
        except WorkStopped:
            self.close()
            _remove_unfinished(job.path)
            raise

    def _answer(self, job: _Job) -> dict[int, int]:
        socket = (self._child or self._started()).socket
        socket.send(job)
        told = False
        while not socket.poll(_LOOK_S):
            if self._watched.stopped.is_set():
                raise WorkStopped
            if self._watched.urgent() != told:
                told = not told
                socket.send(_Urgency(told))
        answer = socket.recv()
        if isinstance(answer, Exception):
            raise answer
        kept: dict[int, int] = answer
        return kept

    def _started(self) -> Child:
        self._child = Child(__name__, serve.__name__, [self._watched.lock])
        self._child.socket.send(self._start)
        return self._child


class _Rate:
    """What was said last about the rate limit."""

    def __init__(self) -> None:
        self.urgent = False

    def is_urgent(self) -> bool:
        return self.urgent


def serve(file: int) -> None:
    """Makes segments until it is killed or the other end of the socket is closed; the main program of the process.

    Args:
        file: The open file of the socket.
    """
    socket = socket_of_child(file)
    yield_to_calls()
    shape, sync, bytes_per_s = socket.recv()
    rate, jobs = _Rate(), SimpleQueue[_Job]()
    threading.Thread(target=_listen, args=(socket, rate, jobs), daemon=True).start()
    maker = LocalMaker(shape, sync, RateLimiter(bytes_per_s, threading.Event(), rate.is_urgent))
    while True:
        job = jobs.get()
        try:
            socket.send(_done(job, maker, shape))
        except (NeardupError, OSError, MemoryError) as error:
            socket.send(error)


def _done(job: _Job, maker: SegmentMaker, shape: RecordShape) -> dict[int, int]:
    if job.columns is not None:
        maker.seal(job.path, job.columns)
        return {}
    return maker.merge(job.path, [Segment(path, shape) for path in job.old], job.hides, job.released, job.names)


def _listen(socket: Connection, rate: _Rate, jobs: SimpleQueue[_Job]) -> None:
    with suppress(EOFError, ConnectionError):
        while True:
            told = socket.recv()
            if isinstance(told, _Urgency):
                rate.urgent = told.urgent
            else:
                rate.urgent = False
                jobs.put(told)
    os._exit(0)  # the index was closed or has died: whatever is being written is not wanted any more


def _remove_unfinished(path: Path) -> None:
    for each in (path, path.with_name(path.name + ".tmp")):
        each.unlink(missing_ok=True)
