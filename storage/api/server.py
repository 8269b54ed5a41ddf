"""Runs an ASGI app with uvicorn on its own thread, beside the gRPC server of the same process.

uvloop turns Nagle's algorithm off for every connection. Else an answer waits for the caller's delayed acknowledgement
(measured: 44 ms instead of 2).
"""

from __future__ import annotations

import socket
import ssl
import threading
from functools import partial
from typing import Any

import uvicorn
from fastapi import FastAPI

from core.access import ServerTls
from core.errors import SettingsError, UnavailableError
from storage.api.connections import DEFAULT_LIMITS, ConnectionLimits, GuardedConnection, OpenConnections
from storage.api.handshakes import Handshake

__all__ = ["ApiServer", "listening_socket"]

BACKLOG = 512
"""How many connections may wait to be accepted."""

STOP_S = 5.0
"""How long stopping waits for running requests."""


def listening_socket(host: str, port: int) -> socket.socket:
    """A TCP socket that listens.

    Raises:
        UnavailableError: The port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise UnavailableError(
            f"the HTTP API cannot listen on {host}:{port}: is another one running there? ({error.strerror})"
        ) from error


def _context(tls: ServerTls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # Without a password, an encrypted key would be asked for on the terminal.
        context.load_cert_chain(tls.cert_file, tls.key_file, password="")
    except OSError as error:
        raise SettingsError(
            f"tls.cert_file {tls.cert_file} and tls.key_file {tls.key_file} cannot be used: {error}"
        ) from error
    return context


class ApiServer:
    """One listening socket and its server."""

    def __init__(
        self,
        app: FastAPI,
        host: str,
        port: int,
        tls: ServerTls | None = None,
        limits: ConnectionLimits = DEFAULT_LIMITS,
    ) -> None:
        """Prepares the server; it listens only after `start`.

        Raises:
            SettingsError: The files of TLS cannot be used.
        """
        self._address = (host, port)
        others = OpenConnections(limits.connections)
        guarded = partial(GuardedConnection, limits, others)
        http: Any = guarded
        if tls is not None:
            context = _context(tls)
            http = lambda **arguments: Handshake(context, limits, others, guarded(**arguments))  # noqa: E731
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                loop="uvloop",
                http=http,
                ws="none",
                timeout_keep_alive=limits.keep_alive_s,  # type: ignore[arg-type]
                log_level="warning",
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=int(STOP_S),
                server_header=False,
            )
        )
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Binds, then serves on a thread.

        Raises:
            UnavailableError: The port is taken.
        """
        listener = listening_socket(*self._address)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="http-api", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Refuses new requests, lets running requests end, and closes the port."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(STOP_S + 2.0)
