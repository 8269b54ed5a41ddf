"""The small HTTP page of a process: `/metrics`, `/healthz` (the process lives), `/readyz` (it serves).

One thread answers all connections, and each connection is ended after one answer or at its deadline. So callers that
connect and say nothing cost neither threads nor, beyond a limit, file descriptors: at the limit a new connection takes
the place of the oldest.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from core.build_info import add_build_info
from core.errors import UnavailableError

__all__ = ["PageLimits", "StatusPage"]

_HEAD_BYTES = 16_384
_STOP_S = 5.0
_BACKLOG = 128


@dataclass(frozen=True, slots=True)
class PageLimits:
    """How many connections there may be, and how long each may last."""

    connections: int = 64
    exchange_s: float = 10.0
    """From the connection to the end of the answer."""


_DEFAULT_LIMITS = PageLimits()


class StatusPage:
    """Serves metrics and health on its own port, in its own thread."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry, limits: PageLimits = _DEFAULT_LIMITS) -> None:
        """Adds `neardup_build_info` to the registry, which no other page may show; `start` opens the port."""
        add_build_info(registry)
        self.ready = False
        """What `/readyz` says."""
        self._address = (host, port)
        self._registry = registry
        self._limits = limits
        self._open: dict[asyncio.Task[None], None] = {}
        self._metrics = ThreadPoolExecutor(1, thread_name_prefix="metrics")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="status-page", daemon=True)

    def start(self) -> None:
        """Binds the port and serves.

        Raises:
            UnavailableError: The port is taken.
        """
        host, port = self._address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._listener = socket.create_server(self._address, family=family, backlog=_BACKLOG)
        except OSError as error:
            raise UnavailableError(f"cannot serve metrics on {host}:{port}: {error.strerror}") from error
        self._loop = asyncio.new_event_loop()
        self._thread.start()

    def stop(self) -> None:
        """Closes the port."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._ended.set)
            self._thread.join(_STOP_S)
            self._loop = None

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:  # type: ignore[arg-type, return-value]
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._talk, sock=self._listener, limit=_HEAD_BYTES)
        await self._ended.wait()
        server.close()
        self._metrics.shutdown(wait=False)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: one request, one answer."""
        task = asyncio.current_task()
        assert task is not None
        if len(self._open) >= self._limits.connections:
            next(iter(self._open)).cancel()
        self._open[task] = None
        try:
            with suppress(OSError, EOFError, TimeoutError, asyncio.LimitOverrunError, asyncio.CancelledError):
                async with asyncio.timeout(self._limits.exchange_s):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(await self._answer(head.decode("latin-1").split("\r\n")))
                    writer.close()
                    await writer.wait_closed()
        finally:
            del self._open[task]
            writer.transport.abort()

    async def _answer(self, head: list[str]) -> bytes:
        method, _, rest = head[0].partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        status, content_type = HTTPStatus.OK, "text/plain"
        match method, path:
            case "GET" | "HEAD", "/metrics":
                fields = (line.partition(":") for line in head[1:])
                accept = ",".join(value.strip() for name, _, value in fields if name.lower() == "accept")
                encode, content_type = choose_encoder(accept)
                body = await asyncio.get_running_loop().run_in_executor(self._metrics, encode, self._registry)
            case "GET" | "HEAD", "/healthz":
                body = b"alive\n"
            case "GET" | "HEAD", "/readyz" if self.ready:
                body = b"ready\n"
            case "GET" | "HEAD", "/readyz":
                status, body = HTTPStatus.SERVICE_UNAVAILABLE, b"not ready\n"
            case "GET" | "HEAD", _:
                status, body = HTTPStatus.NOT_FOUND, b"there are /metrics, /healthz and /readyz\n"
            case _:
                status, body = HTTPStatus.METHOD_NOT_ALLOWED, b"only GET is answered\n"
        lines = (
            f"HTTP/1.1 {status.value} {status.phrase}",
            f"Content-Type: {content_type}",
            f"Content-Length: {len(body)}",
            "Connection: close",
            "",
            "",
        )
        return "\r\n".join(lines).encode() + (b"" if method == "HEAD" else body)
