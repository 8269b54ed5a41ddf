"""Clients that misuse their connections for as long as the test lasts."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from core.errors import ServiceError
from stream.settings import Settings
from tests.support.stack import Stack

__all__ = ["idle_connections", "stalled_readers"]

_PER_PORT = 300
_READERS = 3


@contextmanager
def idle_connections(settings: Settings) -> Iterator[None]:
    """Keeps half-finished requests open at the HTTP API and at every status page, and opens those anew that end."""
    _, signal = settings.signal()
    ports = [
        signal.api.port,
        signal.search.metrics_port,
        signal.scorer.metrics_port,
        signal.storage.metrics_port,
        signal.job_metrics_port,
    ]
    stop = threading.Event()
    thread = threading.Thread(target=_keep_open, args=(ports, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _keep_open(ports: list[int], stop: threading.Event) -> None:
    held: dict[int, list[socket.socket]] = {port: [] for port in ports}
    while not stop.wait(1.0):
        for port, sockets in held.items():
            held[port] = [each for each in sockets if _alive(each)]
            with suppress(OSError):
                for _ in range(min(20, _PER_PORT - len(held[port]))):
                    held[port].append(_half_a_request(port))
    for sockets in held.values():
        for each in sockets:
            each.close()


def _half_a_request(port: int) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), timeout=1.0)
    made.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
    made.setblocking(False)
    return made


def _alive(held: socket.socket) -> bool:
    try:
        data = held.recv(4096)
    except BlockingIOError:
        return True
    except OSError:
        data = b""
    if not data:
        held.close()
    return bool(data)


@contextmanager
def stalled_readers(stack: Stack) -> Iterator[None]:
    """Begins to read all embeddings from storage, and stops after the first; again when a stream ends."""
    stop = threading.Event()
    threads = [threading.Thread(target=_stall, args=(stack, stop), daemon=True) for _ in range(_READERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _stall(stack: Stack, stop: threading.Event) -> None:
    while not stop.wait(1.0):
        with suppress(ServiceError), stack.storage() as storage:
            for _ in storage.embeddings():
                stop.wait(60.0)
                break
