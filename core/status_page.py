"""The small HTTP page of a process: `/metrics`, `/healthz` (the process lives), `/readyz` (it serves)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from core.build_info import add_build_info
from core.errors import UnavailableError

__all__ = ["StatusPage"]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing: a line for every scrape is of no use."""


class StatusPage:
    """Serves metrics and health on its own port, in its own thread."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry) -> None:
        """Adds `neardup_build_info` to the registry, which no other page may show; `start` opens the port."""
        add_build_info(registry)
        self.ready = False
        """What `/readyz` says."""
        self._host = host
        self._port = port
        self._metrics = make_wsgi_app(registry)
        self._server: WSGIServer | None = None

    def start(self) -> None:
        """Binds the port and serves.

        Raises:
            UnavailableError: The port is taken.
        """
        try:
            self._server = make_server(self._host, self._port, self._answer, _Server, _Quiet)
        except OSError as error:
            raise UnavailableError(f"cannot serve metrics on {self._host}:{self._port}: {error.strerror}") from error
        threading.Thread(target=self._server.serve_forever, name="status-page", daemon=True).start()

    def stop(self) -> None:
        """Closes the port."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        match environ.get("PATH_INFO"):
            case "/metrics":
                return self._metrics(environ, start_response)  # type: ignore[no-any-return]
            case "/healthz":
                status, text = "200 OK", b"alive\n"
            case "/readyz":
                status, text = ("200 OK", b"ready\n") if self.ready else ("503 Service Unavailable", b"not ready\n")
            case _:
                status, text = "404 Not Found", b"there are /metrics, /healthz and /readyz\n"
        start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
        return [text]
