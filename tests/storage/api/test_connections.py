"""Connections that keep the API waiting: each is ended, and none keeps others out. Deadlines are set to almost none."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from core.access import ServerTls
from core.errors import SettingsError
from storage.api.app import create_app
from storage.api.connections import ConnectionLimits
from storage.api.server import ApiServer
from storage.memory import MemoryStore
from tests.support.ports import free_ports
from tests.support.secure_broker import make_certificates

LONG = 3600.0
"""Seconds that no test takes: a deadline that would let it hang."""


@contextmanager
def serving(limits: ConnectionLimits, tls: ServerTls | None = None) -> Iterator[int]:
    (port,) = free_ports(1)
    server = ApiServer(create_app(MemoryStore(), 10, CollectorRegistry()), "127.0.0.1", port, tls, limits)
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
    """The deadline counts from its first byte. It is long here, for the first request must have its answer before."""
    whole = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with serving(ConnectionLimits(request_s=3.0, answer_s=LONG, keep_alive_s=LONG)) as port:
        link = connect(port, whole)
        assert link.recv(65_536).startswith(b"HTTP/1.1 200")
        link.sendall(whole[:-2])
        assert b"HTTP" not in ended(link)


def test_a_connection_without_another_request_is_closed() -> None:
    with serving(ConnectionLimits(request_s=LONG, answer_s=LONG, keep_alive_s=0.05)) as port:
        answer = ended(connect(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"))
    assert answer.startswith(b"HTTP/1.1 200")


def test_a_head_without_end_is_refused() -> None:
    with serving(ConnectionLimits(head_bytes=1024)) as port:
        answer = ended(connect(port, b"GET /" + b"x" * 2000))
    assert answer.startswith(b"HTTP/1.1 431")


def test_a_large_body_is_no_head() -> None:
    body = json.dumps({"image_ids": [f"{number:064}" for number in range(1000)]}).encode()
    lines = ("POST /v1/images:lookup HTTP/1.1", "Host: x", "Connection: close", "Content-Type: application/json")
    head = "\r\n".join((*lines, f"Content-Length: {len(body)}", "", ""))
    with serving(ConnectionLimits(head_bytes=1024)) as port:
        for sent in (head.encode() + body, head.encode()):
            link = connect(port, sent)
            if sent == head.encode():
                link.sendall(body)
            assert ended(link).startswith(b"HTTP/1.1 200")


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


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[ServerTls, ssl.SSLContext]:
    """Of a server, and how its clients trust it."""
    ca, _, server = make_certificates(tmp_path_factory.mktemp("certificates"))
    tls = ServerTls(str(server.with_suffix(".crt")), str(server.with_suffix(".key")))
    return tls, ssl.create_default_context(cafile=str(ca))


HELLO = b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03"
"""The first bytes of a TLS handshake."""


@pytest.mark.parametrize("sent", [b"", HELLO])
def test_a_handshake_that_is_never_finished_is_given_up(
    certificates: tuple[ServerTls, ssl.SSLContext], sent: bytes
) -> None:
    with serving(ConnectionLimits(request_s=0.05, answer_s=LONG, keep_alive_s=LONG), certificates[0]) as port:
        assert ended(connect(port, sent)) == b""


def test_bytes_that_are_no_handshake_end_the_connection(certificates: tuple[ServerTls, ssl.SSLContext]) -> None:
    with serving(ConnectionLimits(request_s=LONG), certificates[0]) as port:
        assert b"HTTP" not in ended(connect(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"))


@pytest.mark.parametrize("sent", [b"", HELLO])
def test_unfinished_handshakes_keep_nobody_out(certificates: tuple[ServerTls, ssl.SSLContext], sent: bytes) -> None:
    tls, trust = certificates
    with serving(ConnectionLimits(connections=4, request_s=LONG), tls) as port, ExitStack() as stack:
        links = [stack.enter_context(connect(port, sent)) for _ in range(30)]
        for _ in range(6):
            answer = httpx.get(f"https://localhost:{port}/healthz", trust_env=False, verify=trust)
            assert answer.status_code == 200
        assert ended(links[0]) == b""


@pytest.mark.parametrize("with_tls", [False, True])
def test_two_thousand_idle_connections_keep_nobody_out(
    certificates: tuple[ServerTls, ssl.SSLContext], *, with_tls: bool
) -> None:
    tls, trust = certificates
    limits = ConnectionLimits(request_s=LONG)
    with serving(limits, tls if with_tls else None) as port, ExitStack() as stack:
        for number in range(2_000):
            stack.enter_context(connect(port, (HELLO if with_tls else b"GET /healthz HT") if number % 2 else b""))
        url = f"{'https' if with_tls else 'http'}://localhost:{port}/healthz"
        assert httpx.get(url, trust_env=False, verify=trust, timeout=30).status_code == 200


def test_after_its_handshake_a_connection_has_the_deadlines_of_others(
    certificates: tuple[ServerTls, ssl.SSLContext],
) -> None:
    tls, trust = certificates
    with serving(ConnectionLimits(request_s=LONG, answer_s=LONG, keep_alive_s=0.05), tls) as port:
        link = trust.wrap_socket(connect(port), server_hostname="localhost")
        link.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert ended(link).startswith(b"HTTP/1.1 200")


def test_a_request_that_comes_with_the_end_of_the_handshake_is_answered(
    certificates: tuple[ServerTls, ssl.SSLContext],
) -> None:
    """Both in one segment: the server reads the request before it knows that the handshake is done."""
    tls, trust = certificates
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trust.wrap_bio(received, sent, server_hostname="localhost")
    with serving(ConnectionLimits(keep_alive_s=0.05), tls) as port, connect(port) as link:
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                link.sendall(sent.read())
                received.write(link.recv(65_536))
        client.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        link.sendall(sent.read())
        answer = b""
        while not answer:
            received.write(link.recv(65_536))
            with suppress(ssl.SSLWantReadError):
                answer = client.read(65_536)
    assert answer.startswith(b"HTTP/1.1 200")


def test_a_server_that_stops_does_not_wait_for_handshakes(certificates: tuple[ServerTls, ssl.SSLContext]) -> None:
    with serving(ConnectionLimits(request_s=LONG), certificates[0]) as port:
        waiting = connect(port, HELLO)
        httpx.get(f"https://localhost:{port}/healthz", trust_env=False, verify=certificates[1])
    assert ended(waiting) == b""


@pytest.mark.parametrize("broken", ["missing", "nonsense", "locked"])
def test_files_that_cannot_be_used_are_named_before_the_server_starts(
    certificates: tuple[ServerTls, ssl.SSLContext], tmp_path: Path, broken: str
) -> None:
    tls, key = certificates[0], tmp_path / "broken.key"
    if broken == "nonsense":
        key.write_text("nonsense")
    if broken == "locked":
        words = ("openssl", "pkey", "-in", tls.key_file, "-aes256", "-passout", "pass:secret", "-out", str(key))
        subprocess.run(words, check=True, capture_output=True)
    with (
        pytest.raises(SettingsError, match=r"broken\.key"),
        serving(ConnectionLimits(), replace(tls, key_file=str(key))),
    ):
        pass
