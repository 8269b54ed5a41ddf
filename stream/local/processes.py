"""Finding and ending the processes of a deployment, whatever their parent.

Every process that a deployment starts carries its data folder in an environment variable, which its children inherit.
That is a better mark than recorded process ids: it follows restarts, cannot meet a reused id, and finds grandchildren.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

__all__ = ["MARK", "end_processes", "holder_of_port", "marked_processes"]

MARK = "NEARDUP_DEPLOYMENT"
"""The environment variable that carries the data folder of the deployment a process belongs to."""

_SUPERVISOR = "supervisor.supervisord"


def marked_processes(data: Path) -> list[psutil.Process]:
    """The living processes of a deployment, the caller and its ancestors left out; its supervisor comes first."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = [process for process in _running() if process.pid not in own and _mark(process) == str(data)]
    return sorted(found, key=lambda process: not _is_supervisor(process))


def end_processes(processes: Iterable[psutil.Process], grace_s: float) -> list[int]:
    """Ends processes: SIGTERM, then SIGKILL. A supervisor is killed at once, as it would restart its parts.

    Returns:
        The ids of those that were alive.
    """
    ended: list[psutil.Process] = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL if _is_supervisor(process) else signal.SIGTERM)
            ended.append(process)
    _, alive = psutil.wait_procs(ended, timeout=grace_s)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=grace_s)
    return [process.pid for process in ended]


def holder_of_port(port: int) -> str:
    """Who listens on a TCP port, for a message; says so when it cannot be seen."""
    with suppress(psutil.AccessDenied):
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and _port(connection.laddr) == port and connection.pid:
                with suppress(psutil.Error):
                    return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
    return "a process that cannot be seen from here"


def _port(address: object) -> int | None:
    """The port of a socket's own end, which is an empty tuple for a socket that is not bound."""
    return getattr(address, "port", None)


def _running() -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE:
                yield process


def _mark(process: psutil.Process) -> str | None:
    try:
        mark: str | None = process.environ().get(MARK)
    except (psutil.Error, OSError):
        return None
    return mark


def _is_supervisor(process: psutil.Process) -> bool:
    try:
        return _SUPERVISOR in process.cmdline()
    except psutil.Error:
        return False
