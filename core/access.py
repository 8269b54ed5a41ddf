"""Who may call a server: keys, the rights that they give, and TLS.

    right     what it allows                                         who has it
    read      searches, look-ups, statistics                         the read key, and every key below
    write     deletes, overrides and other writes of people          the write key, and each key with an owner
    stream    the job's calls: inserts, verdicts, releases; the      the token of our own parts
              caller class `stream`
    require   first loads; that every later job knows a kind of      the write key, the token of our own parts
              record

A caller sends its key as `authorization: Bearer KEY`, in HTTP headers and in gRPC metadata. On loopback everyone may
read. A server that listens elsewhere demands a key of everyone, or a client certificate, and refuses to start without.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from core.errors import DeniedError, SettingsError

__all__ = [
    "ANONYMOUS",
    "AUTHORIZATION",
    "OPEN",
    "Access",
    "ClientTls",
    "Credentials",
    "Keys",
    "Right",
    "ServerTls",
    "is_loopback",
    "read_key_file",
]

AUTHORIZATION = "authorization"
"""The header, and the key of the gRPC metadata, that carries a caller's key."""

_SCHEME = "bearer"


class Right(StrEnum):
    """What a call needs."""

    READ = "read"
    WRITE = "write"
    STREAM = "stream"
    REQUIRE = "require"


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys that a server knows; an empty one gives no right to anyone."""

    parts: str = field(default="", repr=False)
    """The token of our own parts."""
    read: str = field(default="", repr=False)
    write: str = field(default="", repr=False)
    owned: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Further keys for writing, by the name of the person or program that has it."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may do what on one listening address."""

    keys: Keys = Keys()
    anyone: frozenset[Right] = frozenset({Right.READ, Right.STREAM, Right.REQUIRE})
    """The rights of a caller without a key. The default suits a server on loopback that has no keys."""

    def rights(self, authorization: str | None) -> frozenset[Right]:
        """The rights of a call with this header; None: it has none."""
        return self.anyone | self._of_key(authorization)

    def knows(self, authorization: str | None) -> bool:
        """Whether a call carries one of the keys, whatever that key allows."""
        return bool(self._of_key(authorization))

    def owner(self, authorization: str | None) -> str:
        """Whose key a call carries; empty: it is no key with an owner."""
        key = _bearer(authorization)
        return next((name for name, one in self.keys.owned.items() if hmac.compare_digest(one.encode(), key)), "")

    def _of_key(self, authorization: str | None) -> frozenset[Right]:
        key = _bearer(authorization)
        writing = (self.keys.write, *self.keys.owned.values())
        known = (
            (self.keys.parts, {Right.READ, Right.STREAM, Right.REQUIRE}),
            (self.keys.read, {Right.READ}),
            *((one, {Right.READ, Right.WRITE, Right.REQUIRE}) for one in writing),
        )
        return frozenset[Right]().union(*(has for one, has in known if one and hmac.compare_digest(one.encode(), key)))

    def check(self, needed: Right, authorization: str | None) -> None:
        """Makes sure that a call has a right.

        Raises:
            DeniedError: It has not; the message says which key it needs.
        """
        if needed not in self.rights(authorization):
            sent = "another key was sent" if authorization else "no key was sent"
            raise DeniedError(f"this call needs {_KEY_OF[needed]}, as `authorization: Bearer KEY`; {sent}")


OPEN = Access()
"""Everyone may read, and call as the stream does."""

_KEY_OF = {
    Right.READ: "a key (secrets/read/key in the data folder of the service)",
    Right.WRITE: "the write key (secrets/write/key in the data folder of the service, or api_token of its settings)",
    Right.STREAM: "the token of the service's own parts (secrets/parts/token in its data folder)",
    Right.REQUIRE: "the write key (secrets/write/key in its data folder), or the token of the service's own parts",
}


@dataclass(frozen=True, slots=True)
class ServerTls:
    """TLS of a server, as paths of PEM files."""

    cert_file: str
    """The certificate chain."""
    key_file: str
    client_ca_file: str = ""
    """The authorities whose certificates clients must show; empty: clients need none."""


@dataclass(frozen=True, slots=True)
class ClientTls:
    """TLS of a client, as paths of PEM files."""

    ca_file: str = ""
    """The authorities that are trusted; empty: those of the system."""
    cert_file: str = ""
    """The client's certificate chain; empty: none."""
    key_file: str = ""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client proves itself with. It holds paths rather than secrets where it travels with a job."""

    key: str = field(default="", repr=False)
    key_file: str = ""
    """The file that holds the key; read when a client is opened."""
    tls: ClientTls | None = None
    """None: the server has no TLS."""

    def authorization(self) -> str | None:
        """The header; None without a key.

        Raises:
            SettingsError: The file cannot be read.
        """
        key = read_key_file(Path(self.key_file)) if self.key_file else self.key
        return f"Bearer {key}" if key else None


ANONYMOUS = Credentials()
"""No key, no TLS."""


def read_key_file(file: Path) -> str:
    """The key in a file, without the white space around it.

    Raises:
        SettingsError: The file cannot be read, or holds no key.
    """
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the key file {file} cannot be read: {error}") from error
    if not key:
        raise SettingsError(f"the key file {file} is empty")
    return key


def is_loopback(host: str) -> bool:
    """Whether only processes of the same machine reach a server that listens on this address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _bearer(authorization: str | None) -> bytes:
    scheme, _, key = (authorization or "").partition(" ")
    return key.strip().encode() if scheme.lower() == _SCHEME else b""
