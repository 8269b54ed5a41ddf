"""Connections of the HTTP API: how many there may be, and how long each may keep the server waiting.

The store opens files in the same process. So a caller that opens connections and says nothing must not use up the file
descriptors. Each connection has a deadline at every moment:

    opened, with TLS                   the handshake must be done within `request_s` (`storage.api.handshakes`)
    opened, or a request has begun     the whole request must arrive within `request_s`
    the request is complete            the answer must be made and taken within `answer_s`
    the answer is sent                 the next request must begin within `keep_alive_s`

At the limit, a new connection takes the place of the one that has been waiting for a request the longest. If all are
busy, the new one is answered 503.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from storage.api.errors import PROBLEM_JSON, problem

__all__ = ["DEFAULT_LIMITS", "ConnectionLimits", "GuardedConnection", "OpenConnection", "OpenConnections"]


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections there may be, and how long they may wait."""

    connections: int = 512
    request_s: float = 10.0
    answer_s: float = 60.0
    keep_alive_s: float = 30.0
    head_bytes: int = 65_536
    """Of a request's line and headers."""


DEFAULT_LIMITS = ConnectionLimits()


class OpenConnection(Protocol):
    """What is counted."""

    def abort(self) -> None:
        """Ends it at once."""


class OpenConnections:
    """The connections of one server, those that have waited longest for a request first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._idle: dict[OpenConnection, None] = {}
        self._busy: set[OpenConnection] = set()

    def __len__(self) -> int:
        return len(self._idle) + len(self._busy)

    def admit(self, connection: OpenConnection) -> bool:
        """Takes a new connection in, in place of an idle one if need be; False: all are busy."""
        if len(self) >= self._most:
            oldest = next(iter(self._idle), None)
            if oldest is None:
                return False
            self.forget(oldest)
            oldest.abort()
        self._idle[connection] = None
        return True

    def begin(self, connection: OpenConnection) -> None:
        """The connection has sent a complete request."""
        if self._idle.pop(connection, 0) is None:
            self._busy.add(connection)

    def end(self, connection: OpenConnection) -> None:
        """Its request is answered: it waits for the next."""
        if connection in self._busy:
            self._busy.remove(connection)
            self._idle[connection] = None

    def forget(self, connection: OpenConnection) -> None:
        """The connection is gone."""
        self._idle.pop(connection, None)
        self._busy.discard(connection)


class GuardedConnection(HttpToolsProtocol):
    """One connection, with its deadlines."""

    def __init__(self, limits: ConnectionLimits, others: OpenConnections, **arguments: Any) -> None:
        """Takes the arguments of uvicorn's protocol after its own."""
        super().__init__(**arguments)
        self._limits = limits
        self._others = others
        self._deadline: asyncio.TimerHandle | None = None
        self._receiving = self._in_head = True
        self._head_bytes = 0
        self.before: Callable[[], None] = lambda: None
        """Called first when the connection is made; what it has been until then ends its own count."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Takes the connection in, or answers 503."""
        self.before()
        super().connection_made(transport)
        if self._others.admit(self):
            self._wait(self._limits.request_s)
        else:
            self._refuse(503, "busy", f"all {len(self._others)} connections are in use: try again later")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection."""
        self._stop_waiting()
        self._others.forget(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Passes the bytes on; refuses a head without end."""
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > self._limits.head_bytes:
            self._refuse(431, "too-large", f"line and headers exceed {self._limits.head_bytes} bytes")

    def on_message_begin(self) -> None:
        """A request has begun: it must be complete in time."""
        if not self._receiving:
            self._receiving, self._in_head, self._head_bytes = True, True, 0
            self._wait(self._limits.request_s)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self._in_head, self._head_bytes = False, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is complete: its answer must be taken in time."""
        super().on_message_complete()
        self._receiving = False
        self._others.begin(self)
        self._wait(self._limits.answer_s)

    def on_response_complete(self) -> None:
        """The answer is sent; uvicorn waits for the next request as long as it was told."""
        super().on_response_complete()
        if not self.pipeline and not self._receiving:
            self._stop_waiting()
            self._others.end(self)

    def send_400_response(self, msg: str) -> None:
        """Answers bytes that are not HTTP."""
        self._refuse(400, "bad-input", msg)

    def abort(self) -> None:
        """Closes the connection at once."""
        self._stop_waiting()
        self.transport.abort()

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(seconds, self.abort)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, status: int, word: str, detail: str) -> None:
        body = problem(status, word, detail).body
        head = f"content-type: {PROBLEM_JSON}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[status] + head.encode() + bytes(body))
        self.transport.close()
