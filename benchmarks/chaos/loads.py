"""Clients that misuse their connections for as long as the test lasts."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from core.errors import ServiceError
from stream.settings import Settings
from tests.support.stack import Stack

__all__ = ["idle_connections", "stalled_readers"]

_PER_PORT = 300
_READERS = 3
_HALF_A_REQUEST = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"


@contextmanager
def idle_connections(settings: Settings) -> Iterator[None]:
    """Keeps half-finished requests open at the HTTP API and every status page, and silent connections at every server.

    Those that end are opened anew.
    """
    _, signal = settings.signal()
    servers = (signal.search, signal.scorer, signal.storage)
    pages = [signal.api.port, *(server.metrics_port for server in servers), signal.job_metrics_port]
    ports = {**dict.fromkeys(pages, _HALF_A_REQUEST), **dict.fromkeys((server.port for server in servers), b"")}
    stop = threading.Event()
    thread = threading.Thread(target=_keep_open, args=(ports, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _keep_open(ports: Mapping[int, bytes], stop: threading.Event) -> None:
    held: dict[int, list[socket.socket]] = {port: [] for port in ports}
    while not stop.wait(1.0):
        for port, sockets in held.items():
            held[port] = [each for each in sockets if _alive(each)]
            with suppress(OSError):
                for _ in range(min(20, _PER_PORT - len(held[port]))):
                    held[port].append(_begun(port, ports[port]))
    for sockets in held.values():
        for each in sockets:
            each.close()


def _begun(port: int, words: bytes) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), timeout=1.0)
    made.sendall(words)
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
    # Between two readings others get their turn.
    while not stop.wait(5.0):
        with suppress(ServiceError), stack.storage() as storage:
            for _ in storage.embeddings():
                stop.wait(60.0)
                break
