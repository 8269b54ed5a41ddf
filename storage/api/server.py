"""Runs an ASGI app with uvicorn on a thread of its own, beside the gRPC server of the same process."""

from __future__ import annotations

import socket
import threading

import uvicorn
from fastapi import FastAPI

from search.errors import UnavailableError

__all__ = ["ApiServer"]

STOP_S = 5.0
"""How long stopping waits for requests that run."""


class ApiServer:
    """One listening socket and its server."""

    def __init__(self, app: FastAPI, host: str, port: int) -> None:
        """Prepares the server; nothing listens before `start`."""
        self._address = (host, port)
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
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
        host, port = self._address
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listener = socket.create_server(self._address, family=family, backlog=512)
        except OSError as error:
            raise UnavailableError(
                f"the HTTP API cannot listen on {host}:{port}: is another one running there? ({error.strerror})"
            ) from error
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="http-api", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Refuses new requests, lets running ones end, closes the port."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(STOP_S + 2.0)
