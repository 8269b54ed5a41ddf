"""Keys, rights and TLS as the settings say them: of servers that run as processes, and of their clients."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from core.access import ClientTls, Credentials, Right, ServerTls
from core.errors import BadInputError, SettingsError, UnavailableError
from neardup.client import ApiClient
from neardup.errors import ServiceUnavailableError
from neardup.retry import RetryPolicy
from search.serving.client import SearchClient
from storage.serving.client import StorageClient
from stream.access import (
    add_owner,
    api_access,
    api_client,
    api_url,
    client_tls,
    credentials,
    credentials_elsewhere,
    grpc_access,
    make_keys,
    owned_keys,
    server_tls,
)
from stream.servers import listen
from stream.settings import SETTINGS_FILE_VARIABLE, ServerSettings, Settings, load_settings
from tests.support.ports import free_ports
from tests.support.secure_broker import make_certificates

ROOT = Path(__file__).parents[2]

READ, STREAM, REQUIRE = Right.READ, Right.STREAM, Right.REQUIRE

TLS = """
[tls]
cert_file = "server.crt"
key_file = "server.key"
ca_file = "ca.pem"
"""

MUTUAL = """client_ca_file = "ca.pem"
client_cert_file = "client.crt"
client_key_file = "client.key"
"""


def settings_in(folder: Path, tls: str = "") -> Settings:
    """A settings file with a small signal on free ports, read as a server reads it."""
    ports = free_ports(7)
    text = f"""
data = "data"
default_signal = "text"
[kafka]
port = {ports[6]}
[signals.text]
topic_prefix = "text."
model = "model"
search_embedding = {{ name = "sentences", model_version = "3", dimension = 96 }}
score_embedding = {{ name = "words", model_version = "7", dimension = 64 }}
terms = {{ bits = 256, groups = 32, bits_per_group = 10, candidates = 50 }}
code = {{ bits = 256 }}
search = {{ port = {ports[0]}, metrics_port = {ports[1]} }}
storage = {{ port = {ports[2]}, metrics_port = {ports[3]} }}
scorer = {{ port = {ports[4]} }}
api = {{ port = {ports[5]} }}
"""
    file = folder / "neardup.toml"
    file.write_text(text + tls)
    return load_settings(file)


@contextmanager
def served(settings: Settings, role: str) -> Iterator[ServerSettings]:
    """A server of the settings as a process, ready; gives its own settings."""
    server: ServerSettings = getattr(settings.signals["text"], role)
    log = settings.base / f"{role}.log"
    environment = {SETTINGS_FILE_VARIABLE: str(settings.base / "neardup.toml"), "PYTHONPATH": str(ROOT)}
    command = (sys.executable, "-c", "from stream.cli.main import main; raise SystemExit(main())", "serve", role)
    with log.open("w") as written:
        process = subprocess.Popen(command, cwd=settings.base, stderr=written, env=os.environ | environment)
    try:
        while not ready(server.metrics_port):
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        yield server
    finally:
        process.kill()
        process.wait()


def ready(page: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{page}/readyz", trust_env=False).is_success
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `ca.pem` and, for `server` and `client`, `.crt` and `.key`."""
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path, certificates: Path) -> Path:
    """Where a settings file finds the certificates by their names alone."""
    for file in certificates.iterdir():
        (tmp_path / file.name).symlink_to(file)
    return tmp_path


def test_on_loopback_the_token_of_the_parts_closes_the_streams_right(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    assert grpc_access(settings, "127.0.0.1").rights(None) == {READ, STREAM, REQUIRE}
    make_keys(settings)
    for host in ("127.0.0.1", "localhost", "::1"):
        access = grpc_access(settings, host)
        assert access.rights(None) == access.rights("Bearer wrong") == {READ}
        assert access.rights(credentials(settings, STREAM).authorization()) == {READ, STREAM, REQUIRE}
        assert access.rights(credentials(settings, Right.WRITE).authorization()) == {READ, Right.WRITE, REQUIRE}


def test_beyond_loopback_a_server_has_keys_or_does_not_start(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    server = settings.signals["text"].search.model_copy(update={"bind_host": "0.0.0.0"})
    with pytest.raises(SettingsError, match="neardup secrets make"):
        listen(settings, server)
    make_keys(settings)
    access = listen(settings, server).access
    assert access == grpc_access(settings, "0.0.0.0")
    assert access.rights(None) == access.rights("Bearer wrong") == frozenset()
    assert access.rights(credentials(settings, READ).authorization()) == {READ}
    assert access.rights(credentials(settings, STREAM).authorization()) == {READ, STREAM, REQUIRE}


def test_a_certificate_that_clients_must_show_stands_for_the_keys(folder: Path) -> None:
    settings = settings_in(folder, TLS + MUTUAL)
    server = settings.signals["text"].search.model_copy(update={"bind_host": "0.0.0.0"})
    assert listen(settings, server).access.rights(None) == {READ, STREAM, REQUIRE}


def test_without_tls_in_the_settings_there_is_none(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    assert server_tls(settings) is client_tls(settings) is listen(settings, settings.signals["text"].search).tls is None
    assert api_url(settings, "text") == f"http://127.0.0.1:{settings.signals['text'].api.port}"


def test_the_files_of_tls_lie_beside_the_settings_file(folder: Path) -> None:
    settings = settings_in(folder, TLS + MUTUAL)
    ca, server, client = str(folder / "ca.pem"), str(folder / "server"), str(folder / "client")
    assert server_tls(settings) == ServerTls(f"{server}.crt", f"{server}.key", ca)
    assert client_tls(settings) == ClientTls(ca, f"{client}.crt", f"{client}.key")
    assert credentials(settings, STREAM).tls == client_tls(settings)


def test_another_deployment_is_shown_no_key_of_ours(folder: Path) -> None:
    settings = settings_in(folder, TLS + MUTUAL)
    make_keys(settings)
    ours = client_tls(settings)
    assert ours is not None
    assert credentials_elsewhere(settings, None, None) == Credentials(tls=ours)
    theirs = folder / "their.key", folder / "their.pem"
    assert credentials_elsewhere(settings, *theirs) == Credentials(
        key_file=str(theirs[0]), tls=replace(ours, ca_file=str(theirs[1]))
    )


def test_another_deployment_may_have_tls_where_this_one_has_none(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    assert credentials_elsewhere(settings, None, None) == Credentials()
    assert credentials_elsewhere(settings, None, tmp_path / "ca.pem").tls == ClientTls(str(tmp_path / "ca.pem"))


def describe_store(server: ServerSettings, proof: Credentials) -> int:
    with closing(StorageClient(server.address, 10.0, server.max_message_bytes, proof)) as client:
        return int(client.describe().images)


def describe_index(server: ServerSettings, proof: Credentials) -> int:
    client = SearchClient(server.address, 10.0, server.max_message_bytes, credentials=proof)
    with closing(client):
        return int(client.describe().images)


def test_storage_and_its_api_are_reached_over_tls_alone(folder: Path) -> None:
    settings = settings_in(folder, TLS)
    make_keys(settings)
    url = api_url(settings, "text")
    assert url == f"https://127.0.0.1:{settings.signals['text'].api.port}"
    with served(settings, "storage") as server:
        assert describe_store(server, credentials(settings, READ)) == 0
        for stranger in (Credentials(), Credentials(tls=ClientTls())):
            with pytest.raises(UnavailableError):
                describe_store(server, stranger)
        with api_client(settings, "text") as api:
            assert api.stats().images == 0
        for wrong in (url, url.replace("https", "http")):
            with ApiClient(wrong, retry=RetryPolicy(0)) as api, pytest.raises(ServiceUnavailableError):
                api.stats()


def test_search_is_reached_with_a_client_certificate_alone(folder: Path) -> None:
    settings = settings_in(folder, TLS + MUTUAL)
    with served(settings, "search") as server:
        assert describe_index(server, credentials(settings, READ)) == 0
        without = Credentials(tls=ClientTls(str(folder / "ca.pem")))
        for stranger in (Credentials(), without):
            with pytest.raises(UnavailableError):
                describe_index(server, stranger)
        assert describe_index(server, credentials(settings, READ)) == 0


def test_keys_belong_to_somebody(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    make_keys(settings)
    files = {owner: add_owner(settings, owner) for owner in ("moderation", "ann.b-c_1")}
    assert owned_keys(settings) == {owner: files[owner] for owner in sorted(files)}
    assert {file.stat().st_mode & 0o777 for file in files.values()} == {0o600}
    access = api_access(settings, settings.signal()[1].api)
    for owner, file in files.items():
        authorization = f"Bearer {file.read_text().strip()}"
        assert access.owner(authorization) == owner
        assert Right.WRITE in access.rights(authorization)
    own = credentials(settings, Right.WRITE).authorization()
    assert (access.owner(own), access.owner("Bearer wrong"), access.owner(None)) == ("", "", "")
    for wrong in ("moderation", "", "a/b", "x" * 65, "a b"):
        with pytest.raises(BadInputError):
            add_owner(settings, wrong)
