"""TLS handshakes of the HTTP API, counted and timed like every other wait of a connection.

The event loop can do handshakes by itself, but then nobody can count them, end the oldest, or set their deadline: a
connection belongs to the server only after its handshake. So the server accepts plain connections, and this protocol
puts TLS between each and its `GuardedConnection`.
"""

from __future__ import annotations

import asyncio
import ssl
from asyncio.sslproto import SSLProtocol

from storage.api.connections import ConnectionLimits, GuardedConnection, OpenConnections

__all__ = ["Handshake"]


class Handshake(SSLProtocol):
    """The TLS of one connection. Until its handshake is done, it counts as a connection that waits for a request."""

    def __init__(
        self, context: ssl.SSLContext, limits: ConnectionLimits, others: OpenConnections, then: GuardedConnection
    ) -> None:
        """Keeps what it needs.

        Args:
            context: The server's certificate.
            limits: The handshake may take as long as a request.
            others: The connections that it is counted with.
            then: Takes the connection after the handshake.
        """
        super().__init__(
            then.loop,
            then,
            context,
            None,  # type: ignore[arg-type]
            server_side=True,
            ssl_handshake_timeout=limits.request_s,  # type: ignore[arg-type]
            ssl_shutdown_timeout=limits.request_s,
        )
        self._others = others
        # uvicorn ends the connections in this set when it stops.
        self._ended_at_stop = then.connections
        then.before = self._forget

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins the handshake, unless all connections are busy."""
        self._raw = transport
        if not self._others.admit(self):
            transport.abort()
            return
        self._ended_at_stop.add(self)  # type: ignore[arg-type]
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection is gone."""
        self._forget()
        super().connection_lost(exc)

    def abort(self) -> None:
        """Ends the connection at once."""
        self._raw.abort()

    shutdown = abort
    """What uvicorn calls when it stops."""

    def _forget(self) -> None:
        self._others.forget(self)
        self._ended_at_stop.discard(self)
