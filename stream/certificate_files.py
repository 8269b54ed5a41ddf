"""The certificates of a deployment: which settings name them, and when each ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from core.certificates import CertificateCollector, authorities_end_s, chain_end_s
from core.errors import SettingsError
from stream.flink_tls import WARN_DAYS, flink_tls
from stream.settings import Settings

__all__ = ["CertificateFile", "certificate_files", "runner_certificates"]

_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class CertificateFile:
    """One certificate, or one file of authorities."""

    name: str
    """`flink`, or the setting that names the file."""
    file: Path
    end_s: float | None
    """In seconds since the epoch; None: `problem` says why it is not known."""
    problem: str = ""

    def days_left(self, now_s: float) -> float | None:
        """How many days it is still valid; negative after its end."""
        return None if self.end_s is None else (self.end_s - now_s) / _DAY_S

    def validity(self, now_s: float) -> str:
        """When it ends, in words; or what is wrong with it."""
        if self.end_s is None:
            return self.problem
        when = f"{datetime.fromtimestamp(self.end_s, UTC):%Y-%m-%d}"
        left = math.floor((self.end_s - now_s) / _DAY_S)
        return f"until {when}, {left} days" if self.end_s > now_s else f"ended on {when}"

    def warning(self, now_s: float) -> str | None:
        """What a person should do soon; None: nothing."""
        left = self.days_left(now_s)
        if left is not None and left >= WARN_DAYS:
            return None
        do = (
            "`neardup down`, `neardup secrets renew` and `neardup up` make a new one"
            if self.name == "flink"
            else f"replace {self.file}, then run `neardup down` and `neardup up`"
        )
        return f"certificate {self.name}: {self.validity(now_s)}; {do}"


def certificate_files(settings: Settings) -> list[CertificateFile]:
    """All certificates that the settings name, and Flink's. A file that cannot be read is reported, never raised."""
    found = []
    for name, file, end_s in _named(settings):
        try:
            found.append(CertificateFile(name, file, end_s(file)))
        except SettingsError as error:
            found.append(CertificateFile(name, file, None, str(error)))
    return found


def runner_certificates(settings: Settings) -> CertificateCollector:
    """Shows the certificates that the job's runner uses, as far as they can be read. Servers show their own."""
    servers = ("tls.cert_file", "tls.client_ca_file")
    return CertificateCollector(
        {each.name: each.end_s for each in certificate_files(settings) if each.name not in servers and each.end_s}
    )


def _named(settings: Settings) -> Iterator[tuple[str, Path, Callable[[Path], float]]]:
    yield "flink", flink_tls(settings).pem, chain_end_s
    tls, kafka = settings.tls, settings.kafka.client
    for name, file, end_s in (
        ("tls.cert_file", tls.cert_file, chain_end_s),
        ("tls.client_ca_file", tls.client_ca_file, authorities_end_s),
        ("tls.client_cert_file", tls.client_cert_file, chain_end_s),
        ("tls.ca_file", tls.ca_file, authorities_end_s),
        ("kafka.client.client_pem", kafka.client_pem, chain_end_s),
        ("kafka.client.ca_file", kafka.ca_file, authorities_end_s),
    ):
        if file:
            yield name, settings.path(Path(file)), end_s
