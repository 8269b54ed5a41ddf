"""The certificates that the settings name: their ends, and what is said of those that end soon."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

import stream.cli.secrets_command
import stream.data_folders
from stream.access_settings import TlsSettings
from stream.certificate_files import CertificateFile, certificate_files, runner_certificates
from stream.cli.exits import Exit
from stream.cli.main import main
from stream.flink_tls import flink_tls
from stream.local.certificates import VALID_DAYS, ensure_certificate
from stream.settings import Settings
from tests.support.secure_broker import make_certificates
from tests.support.stack import stack_settings

DAY = 86_400.0
NOW = 1_800_000_000.0


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """With TLS of servers and clients, and certificates of two days."""
    ca, client, server = make_certificates(tmp_path)
    tls = TlsSettings(
        cert_file=str(server.with_suffix(".crt")),
        key_file=str(server.with_suffix(".key")),
        client_ca_file=str(ca),
        ca_file=str(ca),
        client_cert_file=str(client.with_suffix(".crt")),
        client_key_file=str(client.with_suffix(".key")),
    )
    return stack_settings(tmp_path).model_copy(update={"tls": tls})


def test_each_setting_that_names_a_certificate_is_looked_at(settings: Settings) -> None:
    ensure_certificate(settings)
    left = {each.name: each.days_left(time.time()) for each in certificate_files(settings)}
    names = ["flink", "tls.cert_file", "tls.client_ca_file", "tls.client_cert_file", "tls.ca_file"]
    assert list(left) == names
    assert all(days is not None and days <= 2 for name, days in left.items() if name != "flink")
    assert left["flink"] is not None
    assert left["flink"] > VALID_DAYS - 1


def test_files_that_are_missing_are_reported_and_do_not_keep_the_runner_from_starting(settings: Settings) -> None:
    (flink, *_) = certificate_files(settings)
    assert flink.end_s is None
    assert str(flink_tls(settings).pem) in (flink.warning(NOW) or "")
    registry = CollectorRegistry()
    registry.register(runner_certificates(settings))
    shown = {sample.labels["certificate"] for metric in registry.collect() for sample in metric.samples}
    # Those of the servers are shown by the servers.
    assert shown == {"tls.client_cert_file", "tls.ca_file"}


@pytest.mark.parametrize(
    ("name", "days", "expected"),
    [
        ("flink", 30.1, None),
        ("flink", 29.9, "29 days; `neardup down`, `neardup secrets renew` and `neardup up`"),
        ("tls.cert_file", 0.5, "0 days; replace /c.pem"),
        ("tls.cert_file", -1.0, "ended on"),
    ],
)
def test_what_ends_soon_is_said_with_what_to_do(name: str, days: float, expected: str | None) -> None:
    warning = CertificateFile(name, Path("/c.pem"), NOW + days * DAY).warning(NOW)
    assert warning is None if expected is None else warning is not None and expected in warning


def told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.settings.load_settings", lambda _: settings)


def test_the_command_lists_every_certificate(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told(settings, monkeypatch)
    assert main(["secrets", "make"]) == Exit.OK
    assert main(["secrets", "list"]) == Exit.OK
    shown = capsys.readouterr().out
    assert "824 days" in shown
    for name in ("flink", "tls.cert_file", "tls.client_ca_file", "tls.client_cert_file", "tls.ca_file"):
        assert name in shown


def test_renewal_is_refused_while_the_service_runs(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told(settings, monkeypatch)
    assert main(["secrets", "make"]) == Exit.OK
    before = flink_tls(settings).pem.read_bytes()
    with monkeypatch.context() as running:
        running.setattr(stream.data_folders, "runs", lambda _: True)
        assert main(["secrets", "renew"]) != Exit.OK
    assert "neardup down" in capsys.readouterr().err
    assert flink_tls(settings).pem.read_bytes() == before
    assert main(["secrets", "renew"]) == Exit.OK
    assert "`neardup up`" in capsys.readouterr().out
    assert flink_tls(settings).pem.read_bytes() != before
