"""The API on a real socket: it answers, names a taken port, and leaves the port when it stops."""

from __future__ import annotations

import socket

import httpx
import pytest
from fastapi import FastAPI

from core.errors import UnavailableError
from storage.api.server import ApiServer, listening_socket
from tests.support.ports import free_ports


def make_app() -> FastAPI:
    app = FastAPI()

    @app.get("/")
    def hello() -> dict[str, str]:
        return {"it": "answers"}

    return app


def test_from_start_to_stop() -> None:
    (port,) = free_ports(1)
    for _ in range(2):
        server = ApiServer(make_app(), "127.0.0.1", port)
        server.start()
        assert httpx.get(f"http://127.0.0.1:{port}/").json() == {"it": "answers"}
        server.stop()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{port}/")


def test_a_taken_port_is_named() -> None:
    (port,) = free_ports(1)
    with listening_socket("127.0.0.1", port), pytest.raises(UnavailableError, match=str(port)):
        ApiServer(make_app(), "127.0.0.1", port).start()


def test_connections_are_known_to_be_tcp() -> None:
    """The event loop looks at the protocol of an accepted socket before it turns Nagle's algorithm off."""
    (port,) = free_ports(1)
    with listening_socket("127.0.0.1", port) as listener:
        caller = socket.create_connection(("127.0.0.1", port))
        accepted, _ = listener.accept()
        assert accepted.proto == socket.IPPROTO_TCP
        accepted.close()
        caller.close()


def test_a_server_that_never_ran_stops() -> None:
    ApiServer(make_app(), "127.0.0.1", 1).stop()
