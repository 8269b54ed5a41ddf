"""Connections to a gRPC server that say nothing: each is ended, and none keeps others out."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from core.access import ClientTls, Credentials, ServerTls
from core.errors import UnavailableError
from core.rpc import Listen, RpcServer
from scoring.serving import scorer_pb2, scorer_pb2_grpc
from scoring.serving.client import ScorerClient
from scoring.serving.server import RIGHTS
from tests.support.ports import free_ports
from tests.support.secure_broker import make_certificates

LONG = 3600.0
"""Seconds that no test takes: a deadline that would let it hang."""


class Scorer(scorer_pb2_grpc.PairScorerServicer):
    """Answers."""

    def Describe(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name that the proto gives
        return scorer_pb2.DescribeResponse(model_version="v1")


@contextmanager
def served(connections: int, handshake_s: float, tls: ServerTls | None = None) -> Iterator[int]:
    port, page = free_ports(2)
    server = RpcServer(
        "scorer",
        Listen("127.0.0.1", port, page, 1 << 20, 2, connections=connections, handshake_s=handshake_s, tls=tls),
        lambda server: scorer_pb2_grpc.add_PairScorerServicer_to_server(Scorer(), server),
        CollectorRegistry(),
        RIGHTS,
    )
    server.start()
    try:
        yield port
    finally:
        server.stop(0)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def ended(link: socket.socket) -> bool:
    """Waits until the server ends the connection."""
    try:
        while link.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return True


def test_a_connection_that_never_speaks_is_ended() -> None:
    with served(100, 0.2) as port, connect(port) as silent:
        assert ended(silent)


def test_connections_over_the_limit_are_ended_and_callers_get_in_when_the_silent_ones_have_gone() -> None:
    with served(4, LONG) as port, ExitStack() as links:
        silent = [links.enter_context(connect(port)) for _ in range(4)]
        assert ended(links.enter_context(connect(port)))
        for link in silent:
            link.close()
        with closing(ScorerClient(f"127.0.0.1:{port}", 10.0, 1 << 20)) as client:
            while True:
                try:
                    assert client.describe().model_version == "v1"
                    break
                except UnavailableError:
                    continue


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[ServerTls, ClientTls]:
    """Of a server, and what its clients trust."""
    ca, _, server = make_certificates(tmp_path_factory.mktemp("certificates"))
    return ServerTls(str(server.with_suffix(".crt")), str(server.with_suffix(".key"))), ClientTls(str(ca))


HELLO = b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03"
"""The first bytes of a TLS handshake."""


@pytest.mark.parametrize("sent", [b"", HELLO])
def test_a_tls_handshake_that_is_never_finished_is_ended(
    certificates: tuple[ServerTls, ClientTls], sent: bytes
) -> None:
    with served(100, 0.2, certificates[0]) as port, connect(port) as waiting:
        waiting.sendall(sent)
        assert ended(waiting)


@pytest.mark.parametrize("with_tls", [False, True])
def test_two_thousand_silent_connections_cost_a_caller_one_handshake_time_at_most(
    certificates: tuple[ServerTls, ClientTls], *, with_tls: bool
) -> None:
    server, client_tls = certificates
    with served(512, 0.5, server if with_tls else None) as port, ExitStack() as links:
        for number in range(2_000):
            link = links.enter_context(connect(port))
            if with_tls and number % 2:
                with suppress(OSError):
                    link.sendall(HELLO)
        proof = Credentials(tls=client_tls if with_tls else None)
        with closing(ScorerClient(f"localhost:{port}", 10.0, 1 << 20, proof)) as client:
            while True:
                try:
                    assert client.describe().model_version == "v1"
                    break
                except UnavailableError:
                    continue
