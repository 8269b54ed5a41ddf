"""The settings of keys and TLS: which files hold them."""

from __future__ import annotations

from dataclasses import dataclass

from core.errors import SettingsError

__all__ = ["AccessSettings", "TlsSettings"]


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """The files of the keys. Empty: the files in `secrets` of the data folder, which `neardup up` makes."""

    parts_token_file: str = ""
    """The token with which our own parts call each other."""
    read_key_file: str = ""
    """The key for reading: the HTTP API, searches, statistics."""
    write_key_file: str = ""
    """The key for what people write: snapshots, deletes. `api_token` goes before it."""


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """TLS of the HTTP API and of the gRPC servers, as PEM files."""

    cert_file: str = ""
    """The certificate chain of the servers; empty: no TLS."""
    key_file: str = ""
    client_ca_file: str = ""
    """The authorities whose certificates gRPC clients must show; empty: they need none."""
    ca_file: str = ""
    """The authorities that our clients trust; empty: those of the system."""
    client_cert_file: str = ""
    """The certificate chain that our clients show; empty: none."""
    client_key_file: str = ""

    def __post_init__(self) -> None:
        """Checks that what belongs together is there."""
        if bool(self.cert_file) != bool(self.key_file):
            raise SettingsError("cert_file and key_file need each other")
        if bool(self.client_cert_file) != bool(self.client_key_file):
            raise SettingsError("client_cert_file and client_key_file need each other")
        if not self.cert_file and (self.client_ca_file or self.ca_file or self.client_cert_file):
            raise SettingsError("without cert_file and key_file there is no TLS: set them, or leave all files out")
        if self.client_ca_file and not self.client_cert_file:
            raise SettingsError("client_ca_file demands certificates of our own clients too: set client_cert_file")
