"""Mutual TLS between Flink's processes and their clients.

Flink's REST interface runs the code that it is sent, and its RPC and blob ports do too. So each of them talks only to a
process that holds the deployment's own key. There is one key and one self-signed certificate, which is server, client
and only trusted authority at once: nobody else can make a certificate that these processes accept.

    DATA/secrets/flink/flink.pem   key and certificate, for Python
    DATA/secrets/flink/flink.p12   the same, for Java and for a browser
    DATA/secrets/flink/password    of the .p12; Java demands one

`stream.local.certificates` makes them.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.certificates import chain_end_s
from core.errors import SettingsError
from stream.settings import Settings

__all__ = ["WARN_DAYS", "FlinkTls", "flink_tls"]

WARN_DAYS = 30
"""So many days before it ends, a certificate is reported."""

_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class FlinkTls:
    """The files of one deployment."""

    folder: Path

    @property
    def pem(self) -> Path:
        """Key and certificate."""
        return self.folder / "flink.pem"

    @property
    def store(self) -> Path:
        """The same in PKCS #12."""
        return self.folder / "flink.p12"

    @property
    def password_file(self) -> Path:
        """Holds the password of the store."""
        return self.folder / "password"

    @property
    def there(self) -> bool:
        """Whether all files exist."""
        return all(file.is_file() for file in (self.pem, self.store, self.password_file))

    def context(self) -> ssl.SSLContext:
        """How a client of ours connects to Flink.

        Raises:
            SettingsError: The certificate is missing or damaged.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(self.pem)
            # Without a password, an encrypted key would be asked for on the terminal.
            context.load_cert_chain(self.pem, password="")
        except OSError as error:
            raise SettingsError(
                f"Flink's certificate {self.pem} cannot be used: {error}; `neardup secrets make` makes a missing one,"
                " `neardup secrets renew` a new one"
            ) from error
        return context

    def days_left(self, now_s: float) -> float:
        """How many days the certificate is still valid.

        Raises:
            SettingsError: It cannot be read, or is no certificate.
        """
        return (chain_end_s(self.pem) - now_s) / _DAY_S

    def hosts(self) -> frozenset[str]:
        """The names and addresses that the certificate is for. Raises the errors of `context`."""
        # Of ::1 the library tells 0:0:0:0:0:0:0:1.
        return frozenset(_plain(str(value)) for _, value in self._certificate().get("subjectAltName", ()))

    def options(self) -> dict[str, str | bool]:
        """Flink's options, by their full names.

        Raises:
            SettingsError: The password cannot be read.
        """
        try:
            password = self.password_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SettingsError(
                f"{self.password_file} cannot be read ({error.strerror}): run `neardup secrets make`"
            ) from error
        options: dict[str, str | bool] = {
            "security.ssl.internal.enabled": True,
            "security.ssl.rest.enabled": True,
            "security.ssl.rest.authentication-enabled": True,
        }
        for side in ("internal", "rest"):
            prefix = f"security.ssl.{side}"
            options |= {
                f"{prefix}.keystore": str(self.store),
                f"{prefix}.keystore-password": password,
                f"{prefix}.key-password": password,
                f"{prefix}.truststore": str(self.store),
                f"{prefix}.truststore-password": password,
            }
        return options

    def _certificate(self) -> Mapping[str, Any]:
        found = self.context().get_ca_certs()
        if len(found) != 1:
            raise SettingsError(
                f"{self.pem} holds {len(found)} authorities, not Flink's one certificate, which signs itself:"
                " `neardup secrets renew` makes a new one"
            )
        return dict(found[0])


def _plain(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host


def flink_tls(settings: Settings) -> FlinkTls:
    """The files of a deployment."""
    return FlinkTls(settings.data_dir / "secrets" / "flink")
