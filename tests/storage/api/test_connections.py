"""Connections that keep the API waiting: each is ended, and none keeps others out. Deadlines are set to almost none."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest
from prometheus_client import CollectorRegistry

from storage.api.app import create_app
from storage.api.connections import ConnectionLimits
from storage.api.server import ApiServer
from storage.memory import MemoryStore
from tests.support.ports import free_ports

LONG = 3600.0
"""Seconds that no test takes: a deadline that would let it hang."""


@contextmanager
def serving(limits: ConnectionLimits) -> Iterator[int]:
    (port,) = free_ports(1)
    server = ApiServer(create_app(MemoryStore(), 10, CollectorRegistry()), "127.0.0.1", port, limits=limits)
    server.start()
    try:
        yield port
    finally:
        server.stop()


def connect(port: int, sent: bytes = b"") -> socket.socket:
    link = socket.create_connection(("127.0.0.1", port), timeout=30)
    link.sendall(sent)
    return link


def ended(link: socket.socket) -> bytes:
    """All that comes until the server ends the connection."""
    received = b""
    with link:
        try:
            while part := link.recv(65_536):
                received += part
        except ConnectionResetError:
            pass
    return received


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /healthz HT",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf",
    ],
)
def test_a_request_that_is_never_whole_is_given_up(sent: bytes) -> None:
    with serving(ConnectionLimits(request_s=0.05, answer_s=LONG, keep_alive_s=LONG)) as port:
        ended(connect(port, sent))


def test_the_second_request_has_the_same_deadline() -> None:
    whole = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with serving(ConnectionLimits(request_s=0.05, answer_s=LONG, keep_alive_s=LONG)) as port:
        assert ended(connect(port, whole + whole[:-2])).count(b"HTTP/1.1 200") == 1


def test_a_connection_without_another_request_is_closed() -> None:
    with serving(ConnectionLimits(request_s=LONG, answer_s=LONG, keep_alive_s=0.05)) as port:
        answer = ended(connect(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"))
    assert answer.startswith(b"HTTP/1.1 200")


def test_a_head_without_end_is_refused() -> None:
    with serving(ConnectionLimits(head_bytes=1024)) as port:
        answer = ended(connect(port, b"GET /" + b"x" * 2000))
    assert answer.startswith(b"HTTP/1.1 431")


def test_bytes_that_are_not_http_get_a_problem() -> None:
    with serving(ConnectionLimits()) as port:
        head, _, body = ended(connect(port, b"\x00\x01nonsense\r\n\r\n")).partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    assert json.loads(body)["status"] == 400


def test_idle_connections_keep_nobody_out() -> None:
    """The connections that have waited longest make room."""
    with serving(ConnectionLimits(connections=4, request_s=LONG)) as port, ExitStack() as stack:
        links = [stack.enter_context(connect(port, b"GET /healthz HTTP/1.1\r\n")) for _ in range(30)]
        for _ in range(6):
            assert httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).status_code == 200
        assert ended(links[0]) == b""
