"""When certificates end: read from PEM files, and shown as a metric.

Python's `ssl` decodes the certificate of a peer or of an authority, but not that of a file. So the end is found in the
DER encoding here (RFC 5280, 4.1).
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from core.errors import SettingsError

__all__ = ["CertificateCollector", "authorities_end_s", "chain_end_s"]

_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18
_CENTURY = 50
"""Years of two digits below it are of this century."""


class CertificateCollector(Collector):
    """Shows how long each certificate is still valid.

    A process reads its certificates once, when it starts. So their ends are taken then too: a file that is renewed
    while the process runs does not help it.
    """

    def __init__(self, ends: Mapping[str, float], clock: Callable[[], float] = time.time) -> None:
        """Takes the ends, in seconds since the epoch, by the setting that names the file."""
        self._ends = dict(ends)
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """Reckons from now; negative after the end."""
        left = GaugeMetricFamily(
            "neardup_certificate_remaining_seconds",
            "Time until a certificate, as this process read it at its start, ends",
            labels=["certificate"],
        )
        for name, end_s in self._ends.items():
            left.add_metric([name], end_s - self._clock())
        yield left


def chain_end_s(pem: Path) -> float:
    """When a certificate chain ends: as soon as one of its certificates does. In seconds since the epoch.

    Raises:
        SettingsError: The file cannot be read, or holds no certificate.
    """
    return min(_ends(pem))


def authorities_end_s(pem: Path) -> float:
    """When the last of the authorities in a file ends; then nobody is trusted. Raises the errors of `chain_end_s`."""
    return max(_ends(pem))


def _ends(pem: Path) -> list[float]:
    try:
        blocks = _BLOCK.findall(pem.read_text(encoding="ascii", errors="replace"))
        if not blocks:
            raise ValueError("it holds no certificate")
        return [_not_after(ssl.PEM_cert_to_DER_cert(block)) for block in blocks]
    except OSError as error:
        raise SettingsError(f"the certificate {pem} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"{pem} is no certificate in PEM: {error}") from error


def _not_after(der: bytes) -> float:
    """The end of one certificate.

    Raises:
        ValueError: The bytes are no certificate.
    """
    (certificate,) = _elements(der, _SEQUENCE)
    signed = next(_elements(certificate, _SEQUENCE), b"")
    fields = [content for tag, content in _tagged(signed) if tag != _VERSION]
    if len(fields) < 4:
        raise ValueError("fields are missing")
    # Serial number, algorithm, issuer, validity: not before, not after.
    times = list(_tagged(fields[3]))
    if len(times) != 2:
        raise ValueError("its validity is not two times")
    tag, text = times[1][0], times[1][1].decode("ascii")
    if tag == _UTC_TIME:
        text = f"{20 if int(text[:2]) < _CENTURY else 19}{text}"
    elif tag != _GENERALIZED_TIME:
        raise ValueError(f"its end has the type {tag}")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _elements(der: bytes, wanted: int) -> Iterator[bytes]:
    for tag, content in _tagged(der):
        if tag != wanted:
            raise ValueError(f"an element has the type {tag}, not {wanted}")
        yield content


def _tagged(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and content of each element."""
    at = 0
    while at < len(der):
        head = der[at : at + 2]
        at += 2
        size = head[1] if len(head) == 2 else 0
        if size & 0x80:
            digits = size & 0x7F
            size = int.from_bytes(der[at : at + digits], "big")
            at += digits
        if len(head) < 2 or at + size > len(der):
            raise ValueError("it is cut off")
        yield head[0], der[at : at + size]
        at += size
