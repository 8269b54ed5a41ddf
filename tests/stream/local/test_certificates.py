"""Flink's certificate: who it is for, who can read it, how it is renewed, and what a damaged one says."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import stream.local.certificates
from core.errors import NeardupError, SettingsError
from stream.flink_tls import WARN_DAYS, FlinkTls, flink_tls
from stream.local.certificates import (
    VALID_DAYS,
    certificate_hosts,
    ensure_certificate,
    make_certificate,
    renew_certificate,
)
from stream.local.errors import DeploymentError, MissingPieceError
from stream.settings import Settings
from tests.support.secure_broker import make_certificates


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that every test may copy. To make one takes a second of processor time."""
    folder = tmp_path_factory.mktemp("template") / "flink"
    make_certificate(FlinkTls(folder), ("localhost", "127.0.0.1", "::1", "jobmanager", "taskmanager"))
    return folder


@pytest.fixture
def tls(settings: Settings, template: Path) -> FlinkTls:
    """The certificate of the settings."""
    shutil.copytree(template, flink_tls(settings).folder)
    return ensure_certificate(settings)


def contents(tls: FlinkTls) -> list[bytes]:
    return [file.read_bytes() for file in (tls.pem, tls.store, tls.password_file)]


def java_sees(tls: FlinkTls) -> str:
    """What Java finds in its file, by its own tool."""
    words = ("-list", "-rfc", "-keystore", str(tls.store), "-storepass:file", str(tls.password_file))
    return subprocess.run(("keytool", *words), check=True, capture_output=True, text=True).stdout


def test_it_is_for_the_hosts_of_the_settings_and_of_the_containers(settings: Settings) -> None:
    there = replace_host(settings, "flink.example.org")
    tls = ensure_certificate(there)
    assert tls.hosts() == set(certificate_hosts(there))
    assert {"localhost", "127.0.0.1", "::1", "jobmanager", "taskmanager", "flink.example.org"} <= tls.hosts()
    # An address is an address there, not a name.
    text = subprocess.run(
        ("openssl", "x509", "-in", tls.pem, "-noout", "-ext", "subjectAltName"),
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "IP Address:127.0.0.1" in text
    assert "DNS:jobmanager" in text


def test_only_its_owner_can_read_it(settings: Settings) -> None:
    tls = renew_certificate(settings)
    assert tls.folder.stat().st_mode & 0o777 == 0o700
    files = sorted(tls.folder.iterdir())
    # Drafts, among them the key, are gone.
    assert files == sorted((tls.pem, tls.store, tls.password_file))
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_python_and_java_find_the_same_certificate_and_each_trusts_it_alone(tls: FlinkTls) -> None:
    certificate = ssl.PEM_cert_to_DER_cert(java_sees(tls)[java_sees(tls).index("-----BEGIN") :].split("\n\n")[0])
    assert tls.context().get_ca_certs(binary_form=True) == [certificate]


def test_its_end_is_read_back(tls: FlinkTls) -> None:
    assert VALID_DAYS - 1 < tls.days_left(time.time()) <= VALID_DAYS
    assert tls.days_left(time.time() + VALID_DAYS * 86_400) < 0 < WARN_DAYS


def test_it_stays_until_it_ends_too_soon_or_lacks_a_host(settings: Settings, tls: FlinkTls) -> None:
    first = contents(tls)
    assert contents(ensure_certificate(settings, least_days=WARN_DAYS)) == first
    second = contents(ensure_certificate(settings, least_days=VALID_DAYS + 1))
    third = contents(ensure_certificate(replace_host(settings, "elsewhere")))
    # Every file is new, and all differ.
    assert all(len({*files}) == 3 for files in zip(first, second, third, strict=True))


def replace_host(settings: Settings, host: str) -> Settings:
    return settings.model_copy(update={"flink": settings.flink.model_copy(update={"host": host})})


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_crash_while_it_is_renewed_leaves_files_that_fit_after_the_next_start(
    settings: Settings, tls: FlinkTls, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    before = contents(tls)
    done: list[Path] = []
    real: Callable[..., None] = stream.local.certificates.write_bytes

    def crash(path: Path, content: bytes, **options: int) -> None:
        if len(done) == writes:
            raise KeyboardInterrupt
        done.append(path)
        real(path, content, **options)

    with monkeypatch.context() as patched:
        patched.setattr(stream.local.certificates, "write_bytes", crash)
        with pytest.raises(KeyboardInterrupt):
            renew_certificate(settings)
    ensure_certificate(settings)
    java_sees(tls)
    assert tls.hosts() == set(certificate_hosts(settings))
    assert not set(before) & set(contents(tls))
    assert len(list(tls.folder.iterdir())) == 3


def test_a_failure_before_the_files_are_written_changes_nothing(
    settings: Settings, tls: FlinkTls, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(tls)
    monkeypatch.setattr(stream.local.certificates, "_CONFIGURATION", "nonsense")
    with pytest.raises(DeploymentError, match="openssl req failed"):
        renew_certificate(settings)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingPieceError, match="install it"):
        renew_certificate(settings)
    assert contents(tls) == before


def nonsense(file: Path) -> None:
    file.write_bytes(b"\x00nonsense\n")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-200])


def foreign(file: Path) -> None:
    """A server's certificate that another authority signed, with its key."""
    make_certificates(file.parent)
    (file.parent / "server.pem").replace(file)


def locked(file: Path) -> None:
    """The same, but its key needs a password."""
    words = ("openssl", "pkey", "-in", str(file), "-aes256", "-passout", "pass:secret")
    key = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    text = file.read_text()
    file.write_text(key + text[text.index("-----BEGIN CERTIFICATE") :])


@pytest.mark.parametrize("damage", [nonsense, cut, foreign, locked])
def test_a_damaged_certificate_says_what_to_do_and_that_helps(
    settings: Settings, tls: FlinkTls, damage: Callable[[Path], None]
) -> None:
    damage(tls.pem)
    for ask in (tls.hosts, lambda: ensure_certificate(settings)):
        with pytest.raises(SettingsError, match=r"flink\.pem.*`neardup secrets renew`"):
            ask()
    renew_certificate(settings)
    assert ensure_certificate(settings).hosts() == set(certificate_hosts(settings))


def other_password(tls: FlinkTls) -> None:
    tls.password_file.write_text("wrong\n")


def nonsense_store(tls: FlinkTls) -> None:
    nonsense(tls.store)


def other_store(tls: FlinkTls) -> None:
    """Java's files come from a backup, and Python's does not."""
    pem = tls.pem.read_bytes()
    stream.local.certificates.make_certificate(tls, ("localhost",))
    tls.pem.write_bytes(pem)


@pytest.mark.parametrize("damage", [other_password, nonsense_store, other_store])
def test_damage_of_javas_file_is_found_before_java_starts(
    settings: Settings, tls: FlinkTls, damage: Callable[[FlinkTls], None]
) -> None:
    damage(tls)
    with pytest.raises(NeardupError, match=r"flink\.p12.*`neardup secrets renew`"):
        ensure_certificate(settings)
    renew_certificate(settings)
    ensure_certificate(settings)
