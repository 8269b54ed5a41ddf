"""Makes the certificate with which Flink's processes and their clients know each other (`stream.flink_tls`)."""

from __future__ import annotations

import ipaddress
import secrets
import subprocess
import tempfile
import time
from pathlib import Path

from core.files import write_bytes
from stream.flink_tls import FlinkTls, flink_tls
from stream.local.errors import DeploymentError, MissingPieceError
from stream.settings import Settings

__all__ = ["VALID_DAYS", "certificate_hosts", "ensure_certificate", "make_certificate", "renew_certificate"]

VALID_DAYS = 825
"""How long a certificate is valid; `neardup up` makes a new one before it ends."""

_HOSTS = ("localhost", "127.0.0.1", "::1", "jobmanager", "taskmanager")
"""Hosts of every certificate: this machine, and the services of docker-compose.yml."""

_CONFIGURATION = """\
[req]
prompt = no
distinguished_name = name
x509_extensions = extensions
[name]
CN = neardup flink
[extensions]
subjectAltName = HOSTS
basicConstraints = critical, CA:TRUE, pathlen:0
extendedKeyUsage = serverAuth, clientAuth
"""
"""The certificate signs itself: it is the only authority that it is checked against."""


def certificate_hosts(settings: Settings) -> tuple[str, ...]:
    """The names and addresses that Flink's certificate must be for."""
    return tuple(sorted({*_HOSTS, settings.flink.host}))


def ensure_certificate(settings: Settings, least_days: float = 0.0) -> FlinkTls:
    """Makes the certificate if it is missing, ends too soon, or lacks a host of the settings.

    Args:
        settings: Of the deployment.
        least_days: A certificate that ends sooner is replaced. Flink's processes use the new one from their next
            start, and clients at once, so a running deployment keeps what it has until it ends.

    Raises:
        MissingPieceError: There is no `openssl`.
        DeploymentError: `openssl` fails, or the PKCS #12 file is damaged.
        SettingsError: The certificate is damaged.
    """
    tls = flink_tls(settings)
    if (
        not tls.there
        or not tls.hosts().issuperset(certificate_hosts(settings))
        or tls.days_left(time.time()) < least_days
    ):
        return renew_certificate(settings)
    _check_store(tls)
    return tls


def renew_certificate(settings: Settings) -> FlinkTls:
    """Makes a new certificate, whatever there is. Raises the errors of `make_certificate`."""
    tls = flink_tls(settings)
    make_certificate(tls, certificate_hosts(settings))
    return tls


def _check_store(tls: FlinkTls) -> None:
    """Makes sure that Java can open its file, and finds the same certificate there. Java's own error is a trace."""
    words = ("-in", tls.store.name, "-passin", f"file:{tls.password_file.name}", "-nokeys")
    try:
        shown = _openssl(tls.folder, "pkcs12", *words)
    except DeploymentError as error:
        raise DeploymentError(f"{tls.store} is damaged: `neardup secrets renew` makes a new one\n{error}") from error
    certificate = shown[shown.find("-----BEGIN") :].strip()
    if not certificate or certificate not in tls.pem.read_text(encoding="utf-8"):
        raise DeploymentError(
            f"{tls.store} and {tls.pem} hold different certificates: `neardup secrets renew` makes new ones"
        )


def make_certificate(tls: FlinkTls, hosts: tuple[str, ...]) -> None:
    """Replaces key and certificate by new ones, for their owner alone.

    Raises:
        MissingPieceError: There is no `openssl`.
        DeploymentError: `openssl` fails.
    """
    tls.folder.parent.mkdir(parents=True, exist_ok=True)
    tls.folder.mkdir(exist_ok=True, mode=0o700)
    password = secrets.token_urlsafe(24)
    with tempfile.TemporaryDirectory(dir=tls.folder) as drafts:
        draft = Path(drafts)
        (draft / "openssl.cnf").write_text(_CONFIGURATION.replace("HOSTS", ",".join(map(_name, hosts))))
        (draft / "password").write_text(f"{password}\n")
        key = ("-newkey", "rsa:3072", "-noenc", "-keyout", "key.pem")
        _openssl(draft, "req", "-x509", *key, "-out", "cert.pem", "-days", str(VALID_DAYS), "-config", "openssl.cnf")
        pair = (draft / "key.pem").read_bytes() + (draft / "cert.pem").read_bytes()
        (draft / "pair.pem").write_bytes(pair)
        store = ("-in", "pair.pem", "-out", "store.p12", "-name", "flink", "-passout", "file:password")
        _openssl(draft, "pkcs12", "-export", *store)
        # A crash between the files leaves no .pem, so all are made again.
        tls.pem.unlink(missing_ok=True)
        write_bytes(tls.password_file, f"{password}\n".encode(), mode=0o600)
        write_bytes(tls.store, (draft / "store.p12").read_bytes(), mode=0o600)
        write_bytes(tls.pem, pair, mode=0o600)


def _name(host: str) -> str:
    try:
        return f"IP:{ipaddress.ip_address(host)}"
    except ValueError:
        return f"DNS:{host}"


def _openssl(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(("openssl", *words), cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise MissingPieceError("there is no openssl: install it (Debian: openssl)") from error
    if done.returncode != 0:
        raise DeploymentError(f"openssl {words[0]} failed:\n{done.stderr.strip()}")
    return done.stdout
