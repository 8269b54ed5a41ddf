"""Over a real connection: calls without the right are refused, and TLS keeps strangers out."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry

from core.access import OPEN, Access, ClientTls, Credentials, Keys, Right, ServerTls
from core.errors import DeniedError, NeardupError, SettingsError, UnavailableError
from core.rpc import Listen, RpcServer
from scoring.serving import scorer_pb2, scorer_pb2_grpc
from scoring.serving.client import ScorerClient
from scoring.serving.scorer_pb2 import DESCRIPTOR as SCORER
from scoring.serving.server import RIGHTS as SCORER_RIGHTS
from search.serving.search_pb2 import DESCRIPTOR as SEARCH
from search.serving.service import RIGHTS as SEARCH_RIGHTS
from storage.serving.service import RIGHTS as STORAGE_RIGHTS
from storage.serving.storage_pb2 import DESCRIPTOR as STORAGE
from tests.support.ports import free_ports
from tests.support.secure_broker import make_certificates


class Scorer(scorer_pb2_grpc.PairScorerServicer):
    """Answers."""

    def Describe(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name that the proto gives
        return scorer_pb2.DescribeResponse(model_version="v1")


@contextmanager
def served(access: Access, right: Right = Right.READ, tls: ServerTls | None = None) -> Iterator[str]:
    """The address of a server whose `Describe` needs a right."""
    port, page = free_ports(2)
    server = RpcServer(
        "scorer",
        Listen("127.0.0.1", port, page, 1 << 20, workers=2, access=access, tls=tls),
        lambda server: scorer_pb2_grpc.add_PairScorerServicer_to_server(Scorer(), server),
        CollectorRegistry(),
        {"Describe": right},
    )
    server.start()
    try:
        yield f"localhost:{port}"
    finally:
        server.stop(0)


def ask(address: str, credentials: Credentials) -> str:
    client = ScorerClient(address, 10.0, 1 << 20, credentials)
    try:
        return str(client.describe().model_version)
    finally:
        client.close()


@pytest.mark.parametrize(
    ("right", "may"),
    [
        (Right.READ, {"parts", "read", "write"}),
        (Right.WRITE, {"write"}),
        (Right.STREAM, {"parts"}),
        (Right.REQUIRE, {"parts", "write"}),
    ],
)
def test_a_call_needs_a_key_with_its_right(right: Right, may: set[str]) -> None:
    with served(Access(Keys("parts", "read", "write"), frozenset()), right) as address:
        for key in ("parts", "read", "write", "wrong", ""):
            if key in may:
                assert ask(address, Credentials(key)) == "v1"
            else:
                with pytest.raises(DeniedError, match="authorization: Bearer KEY"):
                    ask(address, Credentials(key))


def test_a_method_that_nobody_named_is_for_the_stream() -> None:
    with served(Access(Keys("parts", "read"), frozenset())) as address:
        client = ScorerClient(address, 10.0, 1 << 20, Credentials("read"))
        with pytest.raises(DeniedError):
            client.score([])
        client.close()


@pytest.mark.parametrize(
    ("rights", "proto"), [(SEARCH_RIGHTS, SEARCH), (SCORER_RIGHTS, SCORER), (STORAGE_RIGHTS, STORAGE)]
)
def test_every_method_has_its_right(rights: dict[str, Right], proto: Any) -> None:
    methods = [method.name for service in proto.services_by_name.values() for method in service.methods]
    assert sorted(rights) == sorted(methods)


def test_health_is_open() -> None:
    with served(Access(Keys("parts"), frozenset())) as address, grpc.insecure_channel(address) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def split(pem: Path) -> tuple[str, str]:
    """The certificate and the key of a file that holds both."""
    return str(pem.with_suffix(".crt")), str(pem.with_suffix(".key"))


def test_tls_and_client_certificates(tmp_path: Path) -> None:
    ca, client_pem, server_pem = make_certificates(tmp_path)
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-noenc", "-keyout", "s.key", "-out", "s.crt"]
    subprocess.run([*make, "-subj", "/CN=stranger"], cwd=tmp_path, check=True, capture_output=True)
    trusting = ClientTls(str(ca))
    with served(OPEN, tls=ServerTls(*split(server_pem))) as address:
        assert ask(address, Credentials(tls=trusting)) == "v1"
        for wrong in (Credentials(), Credentials(tls=ClientTls(str(tmp_path / "s.crt")))):
            with pytest.raises(UnavailableError):
                ask(address, wrong)
    with served(OPEN, tls=ServerTls(*split(server_pem), str(ca))) as address:
        assert ask(address, Credentials(tls=ClientTls(str(ca), *split(client_pem)))) == "v1"
        for wrong in (Credentials(tls=trusting), Credentials(tls=ClientTls(str(ca), *split(tmp_path / "s.pem")))):
            with pytest.raises(UnavailableError):
                ask(address, wrong)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"tls\.ca_file.*no-such"):
        ask("localhost:1", Credentials(tls=ClientTls("no-such.pem")))
    _, _, server_pem = make_certificates(tmp_path)
    for cert, key, named in (("no-such.pem", "no-key", "no-such"), (split(server_pem)[0], "no-key", "no-key")):
        with pytest.raises(NeardupError, match=named), served(OPEN, tls=ServerTls(cert, key)):
            pass
