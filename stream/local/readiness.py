"""When does a part serve? One small check per kind of part; a check answers at once and never raises.

A check returns None when the part is ready, else the reason why not, as a user would want to read it.
"""

from __future__ import annotations

import http.client
import json
import socket
import struct
from dataclasses import dataclass
from typing import Any, Protocol

from stream.kafka_access import KafkaAccess

__all__ = ["AlwaysReady", "BrokerReady", "Check", "HttpReady", "KafkaReady", "TaskManagersReady"]

_TIMEOUT_S = 2.0


class Check(Protocol):
    """Says whether a part serves."""

    def __call__(self) -> str | None:
        """None when it does, else the reason."""
        ...


@dataclass(frozen=True, slots=True)
class AlwaysReady:
    """For a part that is ready as soon as it runs, or that ends by itself."""

    def __call__(self) -> str | None:
        """Always ready."""
        return None


@dataclass(frozen=True, slots=True)
class HttpReady:
    """A page that answers 200."""

    host: str
    port: int
    path: str

    def __call__(self) -> str | None:
        """Asks for the page."""
        status, body = _get(self.host, self.port, self.path)
        if status == 200:
            return None
        if status is None:
            return f"{self._url}: {body}"
        return f"{self._url} answers {status}: {body.strip()[:200]}"

    @property
    def _url(self) -> str:
        return f"http://{self.host}:{self.port}{self.path}"


@dataclass(frozen=True, slots=True)
class TaskManagersReady:
    """At least so many slots are offered to the job manager whose REST interface this is."""

    host: str
    port: int
    slots: int

    def __call__(self) -> str | None:
        """Asks the job manager."""
        status, body = _get(self.host, self.port, "/overview")
        if status != 200:
            return f"the job manager does not tell: {body.strip()[:200]}"
        try:
            overview: dict[str, Any] = json.loads(body)
            slots = int(overview["slots-total"])
        except (ValueError, KeyError, TypeError):
            return "the job manager's overview cannot be read"
        return None if slots >= self.slots else f"{slots} of {self.slots} slots are offered"


@dataclass(frozen=True, slots=True)
class BrokerReady:
    """Our own broker answers a metadata request and counts at least one broker as alive, so topics can be made.

    The request is written by hand (Metadata, version 1, no topics): a client library would start threads and log each
    refused connection, for what is eight fields.
    """

    host: str
    port: int

    def __call__(self) -> str | None:
        """Sends the request."""
        client = b"ready"
        body = struct.pack(f">hhih{len(client)}si", 3, 1, 1, len(client), client, 0)
        try:
            with socket.create_connection((self.host, self.port), timeout=_TIMEOUT_S) as link:
                link.sendall(struct.pack(">i", len(body)) + body)
                (size,) = struct.unpack(">i", _exactly(link, 4))
                answer = _exactly(link, size)
        except OSError as error:
            return f"{self.host}:{self.port}: {error.strerror or error}"
        brokers = struct.unpack_from(">i", answer, 4)[0] if size >= 8 else 0
        return None if brokers > 0 else "the broker is not yet part of its cluster"


@dataclass(frozen=True, slots=True)
class KafkaReady:
    """Brokers that others run: they take the client, and list their topics."""

    access: KafkaAccess

    def __call__(self) -> str | None:
        """Connects as every client of the deployment does."""
        from kafka import KafkaAdminClient
        from kafka.errors import KafkaError

        limit_ms = int(_TIMEOUT_S * 1000)
        try:
            client = KafkaAdminClient(
                **self.access.python_options(), bootstrap_timeout_ms=limit_ms, request_timeout_ms=limit_ms
            )
        except (KafkaError, OSError) as error:
            return f"Kafka at {self.access.bootstrap}: {error or type(error).__name__}"
        try:
            client.list_topics()
        except KafkaError as error:
            return f"Kafka at {self.access.bootstrap}: {error or type(error).__name__}"
        finally:
            client.close()
        return None


def _exactly(link: socket.socket, size: int) -> bytes:
    """Reads so many bytes, or raises OSError."""
    parts = bytearray()
    while len(parts) < size:
        part = link.recv(size - len(parts))
        if not part:
            raise OSError("the connection was closed")
        parts += part
    return bytes(parts)


def _get(host: str, port: int, path: str) -> tuple[int | None, str]:
    """Status and text of a page; no status when there was no answer. Proxies are not asked: the parts are near."""
    link = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        link.request("GET", path)
        answer = link.getresponse()
        return answer.status, answer.read().decode("utf-8", errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return None, str(error) or type(error).__name__
    finally:
        link.close()
