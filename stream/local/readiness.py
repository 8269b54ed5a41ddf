"""Whether a part serves: one small check per kind of part. A check takes a few seconds at most and never raises.

A check returns None if the part is ready, else the reason in words for the user.
"""

from __future__ import annotations

import http.client
import json
import socket
import struct
from dataclasses import dataclass
from typing import Any, Protocol

from core.errors import SettingsError
from stream.flink_tls import FlinkTls
from stream.kafka_access import KafkaAccess

__all__ = ["AlwaysReady", "BrokerReady", "Check", "HttpReady", "KafkaReady", "TaskManagersReady"]

_TIMEOUT_S = 2.0


class Check(Protocol):
    """Checks whether a part serves."""

    def __call__(self) -> str | None:
        """None if it does, else the reason."""
        ...


@dataclass(frozen=True, slots=True)
class AlwaysReady:
    """For a part that is ready as soon as it runs."""

    def __call__(self) -> str | None:
        """Always ready."""
        return None


@dataclass(frozen=True, slots=True)
class HttpReady:
    """A page must answer 200; with `tls`, Flink's."""

    host: str
    port: int
    path: str
    tls: FlinkTls | None = None

    def __call__(self) -> str | None:
        """Asks for the page."""
        status, body = _get(self.host, self.port, self.path, self.tls)
        if status == 200:
            return None
        if status is None:
            return f"{self._url}: {body}"
        return f"{self._url} answers {status}: {body.strip()[:200]}"

    @property
    def _url(self) -> str:
        return f"{'http' if self.tls is None else 'https'}://{self.host}:{self.port}{self.path}"


@dataclass(frozen=True, slots=True)
class TaskManagersReady:
    """The job manager must have at least so many slots."""

    host: str
    port: int
    slots: int
    tls: FlinkTls | None = None

    def __call__(self) -> str | None:
        """Asks the job manager."""
        status, body = _get(self.host, self.port, "/overview", self.tls)
        if status != 200:
            return f"the job manager does not answer: {body.strip()[:200]}"
        try:
            overview: dict[str, Any] = json.loads(body)
            slots = int(overview["slots-total"])
        except (ValueError, KeyError, TypeError):
            return "the job manager's overview cannot be read"
        return None if slots >= self.slots else f"{slots} of {self.slots} slots are offered"


@dataclass(frozen=True, slots=True)
class BrokerReady:
    """Our own broker must answer a metadata request with at least one live broker. Then topics can be created.

    The request is encoded here (Metadata, version 1, no topics). A client library would start threads and log each
    refused connection, for a request of eight fields.
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
    """Brokers that others run must accept the client and list their topics."""

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


def _get(host: str, port: int, path: str, tls: FlinkTls | None) -> tuple[int | None, str]:
    """Status and text of a page; no status without an answer. Proxies are not used."""
    try:
        link = (
            http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
            if tls is None
            else http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_S, context=tls.context())
        )
    except SettingsError as error:
        return None, str(error)
    try:
        link.request("GET", path)
        answer = link.getresponse()
        return answer.status, answer.read().decode("utf-8", errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return None, str(error) or type(error).__name__
    finally:
        link.close()
