"""Checks a whole delta before its first row is written, in a process of its own (`core.apart`).

Ids are hashed in Python, which takes its lock for minutes of a large delta: here, calls of the server would wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from core.apart import do_apart, work_of
from core.errors import BadInputError, MismatchError
from core.first_loads import LoadRequest
from manifests.checking import check_manifest
from manifests.clustered_files import Signal
from manifests.folder import open_folder
from manifests.value_checks import ValueChecks

__all__ = ["CheckTask", "check", "check_apart", "serve"]

_NAMED = 3
"""Faults that a message names."""


@dataclass(frozen=True, slots=True)
class CheckTask:
    """What is checked. Picklable."""

    request: LoadRequest
    signal: Signal
    checks: ValueChecks
    spool: Path
    """For copies of files and buckets of identities."""
    follows: str
    """The id of the manifest before it, which is known."""


def check_apart(task: CheckTask, tell: Callable[[str], None], stopped: threading.Event) -> None:
    """As `check`, in a process that is killed when `stopped` is set.

    Raises:
        WorkStopped: It was stopped.
        UnavailableError: The folder does not answer, the disk is full, or the process was killed: try again.
        BadInputError: Something is wrong; the message names the first faults.
    """
    do_apart(__name__, serve.__name__, task, tell, stopped)


def serve(file: int) -> None:
    """The main program of the process.

    Args:
        file: The open file of its socket.
    """
    work_of(file, check)


def check(task: CheckTask, tell: Callable[[str], None]) -> None:
    """Reads everything once: files, values, and how the rows fit together.

    Raises:
        BadInputError: Something is wrong; the message names the first faults.
        MismatchError: It is another manifest than was asked for.
        UnavailableError: The folder does not answer, or the disk is full.
    """
    request = task.request
    report = check_manifest(
        open_folder(request.folder),
        request.manifest,
        task.signal,
        task.checks,
        task.spool,
        partial(_tell, tell),
        known=(task.follows,),
    )
    if report.manifest.id != request.manifest_id:
        raise MismatchError(f"{request.manifest} was replaced while it was checked")
    if report.faults.count:
        more = report.faults.count - _NAMED
        named = "; ".join(map(str, report.faults.listed[:_NAMED]))
        raise BadInputError(named + (f"; and {more:,} more" if more > 0 else ""))


def _tell(tell: Callable[[str], None], step: str, done: int, total: int) -> None:
    tell(f"checks: {step}, {done:,} of {total:,}")
