"""The API on a real socket: it answers, names a taken port, and leaves the port when it stops."""

from __future__ import annotations

import asyncio
import socket

import httpx
import pytest
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from core.errors import UnavailableError
from storage.api.server import ApiServer, listening_socket
from tests.support.ports import free_ports


def make_app() -> FastAPI:
    app = FastAPI()

    @app.get("/")
    def hello() -> dict[str, str]:
        return {"it": "answers"}

    @app.get("/loop")
    async def loop() -> str:
        return type(asyncio.get_running_loop()).__module__

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


def test_it_runs_on_uvloop_and_sends_answers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nagle's algorithm is off: an answer would wait for the caller's delayed acknowledgement."""
    no_delay: list[int] = []
    connected = HttpToolsProtocol.connection_made

    def connection_made(protocol: HttpToolsProtocol, transport: asyncio.Transport) -> None:
        accepted: socket.socket = transport.get_extra_info("socket")
        no_delay.append(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        connected(protocol, transport)

    monkeypatch.setattr(HttpToolsProtocol, "connection_made", connection_made)
    (port,) = free_ports(1)
    server = ApiServer(make_app(), "127.0.0.1", port)
    server.start()
    try:
        assert httpx.get(f"http://127.0.0.1:{port}/loop").json() == "uvloop"
    finally:
        server.stop()
    assert len(no_delay) == 1
    assert no_delay[0] != 0


def test_a_server_that_never_ran_stops() -> None:
    ApiServer(make_app(), "127.0.0.1", 1).stop()
