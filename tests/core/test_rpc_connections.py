"""Connections to a gRPC server that say nothing: each is ended, and none keeps others out."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

from prometheus_client import CollectorRegistry

from core.errors import UnavailableError
from core.rpc import Listen, RpcServer
from scoring.serving import scorer_pb2, scorer_pb2_grpc
from scoring.serving.client import ScorerClient
from scoring.serving.server import RIGHTS
from tests.support.ports import free_ports

LONG = 3600.0
"""Seconds that no test takes: a deadline that would let it hang."""


class Scorer(scorer_pb2_grpc.PairScorerServicer):
    """Answers."""

    def Describe(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name that the proto gives
        return scorer_pb2.DescribeResponse(model_version="v1")


@contextmanager
def served(connections: int, handshake_s: float) -> Iterator[int]:
    port, page = free_ports(2)
    server = RpcServer(
        "scorer",
        Listen("127.0.0.1", port, page, 1 << 20, 2, connections=connections, handshake_s=handshake_s),
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
