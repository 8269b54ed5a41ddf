"""When certificates end: read from PEM files that openssl made, and shown as a metric."""

from __future__ import annotations

import ssl
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from core.access import ServerTls
from core.certificates import CertificateCollector, authorities_end_s, chain_end_s
from core.errors import SettingsError
from core.rpc import Listen, RpcServer

REMAINING = "neardup_certificate_remaining_seconds"


def make(folder: Path, name: str, days: int) -> Path:
    """A key and a certificate that signs itself."""
    pem = folder / f"{name}.pem"
    words = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-subj", f"/CN={name}")
    subprocess.run(
        ("openssl", *words, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", str(days)),
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return pem


def openssl_end(pem: Path) -> float:
    """The end of the file's first certificate, as openssl says it."""
    words = ("openssl", "x509", "-in", str(pem), "-noout", "-enddate")
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return ssl.cert_time_to_seconds(said.strip().removeprefix("notAfter="))


# From 2050 on, a certificate has its times in another type.
@pytest.mark.parametrize("days", [1, 825, 20_000])
def test_the_end_is_the_one_that_openssl_shows(tmp_path: Path, days: int) -> None:
    pem = make(tmp_path, "one", days)
    assert chain_end_s(pem) == authorities_end_s(pem) == openssl_end(pem)


def test_a_chain_ends_with_its_first_certificate_and_authorities_with_their_last(tmp_path: Path) -> None:
    soon, late = make(tmp_path, "soon", 5), make(tmp_path, "late", 500)
    both = tmp_path / "both.pem"
    # A key between them, and comments, as such files have.
    both.write_text(f"# late\n{late.read_text()}{(tmp_path / 'late.key').read_text()}\n{soon.read_text()}")
    assert chain_end_s(both) == openssl_end(soon)
    assert authorities_end_s(both) == openssl_end(late)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00nonsense",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        b"-----BEGIN CERTIFICATE-----\nno base64!\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\n\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
    ],
)
def test_a_file_of_another_kind_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "foreign.pem"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=r"foreign\.pem"):
        chain_end_s(file)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.pem.*No such file"):
        authorities_end_s(tmp_path / "none.pem")


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return ssl.PEM_cert_to_DER_cert(make(tmp_path_factory.mktemp("der"), "whole", 9).read_text())


@given(data=st.data())
def test_damaged_bytes_give_an_end_or_are_refused(
    encoded: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(encoded) - 1))
    damaged = bytearray(encoded[: data.draw(st.integers(at + 1, len(encoded)))])
    damaged[at] ^= data.draw(st.integers(0, 255))
    file = tmp_path_factory.getbasetemp() / "damaged.pem"
    file.write_text(ssl.DER_cert_to_PEM_cert(bytes(damaged)))
    with suppress(SettingsError):
        assert isinstance(chain_end_s(file), float)


def test_the_metric_counts_down() -> None:
    registry, now = CollectorRegistry(), [1_000.0]
    registry.register(CertificateCollector({"flink": 5_000.0}, lambda: now[0]))
    assert registry.get_sample_value(REMAINING, {"certificate": "flink"}) == 4_000.0
    now[0] = 5_060.0
    assert registry.get_sample_value(REMAINING, {"certificate": "flink"}) == -60.0


def test_a_server_with_tls_shows_its_certificates_and_names_a_broken_file(tmp_path: Path) -> None:
    server, authority = make(tmp_path, "server", 5), make(tmp_path, "authority", 500)

    def start(tls: ServerTls) -> CollectorRegistry:
        registry = CollectorRegistry()
        RpcServer("scorer", Listen("127.0.0.1", 1, 2, 1 << 20, tls=tls), lambda _: None, registry).stop(0)
        return registry

    registry = start(ServerTls(str(server), str(tmp_path / "server.key"), str(authority)))
    names = ("tls.cert_file", "tls.client_ca_file")
    days = [(registry.get_sample_value(REMAINING, {"certificate": name}) or 0.0) / 86_400 for name in names]
    assert 4 < days[0] <= 5
    assert 499 < days[1] <= 500
    with pytest.raises(SettingsError, match=r"server\.key is no certificate"):
        start(ServerTls(str(tmp_path / "server.key"), str(tmp_path / "server.key")))
