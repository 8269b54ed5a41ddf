"""Errors cross the wire and come out as the same errors; the instance id tells server processes apart."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from threading import Event, Thread
from types import MappingProxyType
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from prometheus_client import CollectorRegistry, Counter

from core.access import Right
from core.build_info import installed_version
from core.errors import (
    BadInputError,
    BusyError,
    ConflictError,
    DeniedError,
    FaultError,
    LogGapError,
    MismatchError,
    NeardupError,
    RefusedError,
    StaleError,
    UnavailableError,
)
from core.rpc import CALLER, Listen, RpcClient, RpcServer, StandardServices
from scoring.serving import scorer_pb2, scorer_pb2_grpc
from tests.support.ports import free_ports


class Scorer(scorer_pb2_grpc.PairScorerServicer):
    """Answers, or fails as it is told."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.hold: Event | None = None
        self.entered = Event()

    def Score(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name that the proto gives
        self.entered.set()
        if self.hold is not None:
            self.hold.wait(10)
        if self.error is not None:
            raise self.error
        return scorer_pb2.ScoreResponse(model_version="v1")


class Client(RpcClient):
    def score(self, request: scorer_pb2.ScoreRequest, deadline_s: float | None = None) -> scorer_pb2.ScoreResponse:
        response: scorer_pb2.ScoreResponse = self._call(
            scorer_pb2_grpc.PairScorerStub(self.channel).Score, request, deadline_s
        )
        return response


def make_server(
    servicer: Scorer,
    port: int,
    page: int,
    registry: CollectorRegistry | None = None,
    request_bytes: int = 1 << 22,
    rights: Mapping[str, Right] = MappingProxyType({}),
    workers: int = 2,
) -> RpcServer:
    listen = Listen("127.0.0.1", port, page, 1 << 20, workers, request_bytes=request_bytes)
    return RpcServer(
        "scorer",
        listen,
        lambda server: scorer_pb2_grpc.add_PairScorerServicer_to_server(servicer, server),
        registry or CollectorRegistry(),
        rights,
    )


@pytest.fixture
def ports() -> list[int]:
    return free_ports(2)


@pytest.fixture
def servicer() -> Scorer:
    return Scorer()


@pytest.fixture
def server(servicer: Scorer, ports: list[int]) -> Iterator[RpcServer]:
    registry = CollectorRegistry()
    Counter("neardup_test_calls", "Calls.", registry=registry).inc(3)
    server = make_server(servicer, *ports, registry)
    server.start()
    yield server
    server.stop(0.1)


@pytest.fixture
def client(ports: list[int]) -> Iterator[Client]:
    client = Client(f"127.0.0.1:{ports[0]}", 5.0, 1 << 20)
    yield client
    client.close()


@contextmanager
def accepting_late(port: int, after_s: float) -> Iterator[int]:
    """Another port, which hands each connection on to this one after a while, as a busy server accepts it."""
    with socket.create_server(("127.0.0.1", 0)) as door:

        def hand_on() -> None:
            with suppress(OSError):
                caller, _ = door.accept()
                time.sleep(after_s)
                with caller, socket.create_connection(("127.0.0.1", port)) as server:
                    back = Thread(target=pump, args=(server, caller))
                    back.start()
                    pump(caller, server)
                    back.join()

        thread = Thread(target=hand_on)
        thread.start()
        yield door.getsockname()[1]
        door.shutdown(socket.SHUT_RDWR)
    thread.join()


def pump(source: socket.socket, target: socket.socket) -> None:
    """Copies bytes until the source ends."""
    with suppress(OSError):
        while some := source.recv(1 << 16):
            target.sendall(some)
        target.shutdown(socket.SHUT_WR)


def test_a_server_may_accept_a_connection_late(server: RpcServer, ports: list[int]) -> None:
    """The pause before the next attempt to connect is no limit for an attempt."""
    with accepting_late(ports[0], 0.4) as port, closing(Client(f"127.0.0.1:{port}", 10.0, 1 << 20)) as client:
        assert client.score(scorer_pb2.ScoreRequest()).model_version == "v1"


@pytest.mark.parametrize(
    ("raised", "expected", "fields"),
    [
        (RefusedError("item 7", 7), RefusedError, {"offset": 7}),
        (BadInputError("too long"), RefusedError, {"offset": None}),
        (LogGapError("gap", 12), LogGapError, {"expected": 12}),
        (StaleError("moved on", 5, 2), StaleError, {"offset": 5, "revision": 2}),
        (UnavailableError("disk full", 1.5), UnavailableError, {"retry_after_s": 1.5}),
        (UnavailableError("disk full"), UnavailableError, {"retry_after_s": None}),
        (BusyError("over the limit", 0.0301), BusyError, {"retry_after_s": 0.031}),
        (DeniedError("no token"), DeniedError, {}),
        (MismatchError("1 is not 2"), MismatchError, {}),
        (ConflictError("override 7 says the contrary"), ConflictError, {}),
        (NeardupError("something of ours"), MismatchError, {}),
        (ZeroDivisionError("a bug"), FaultError, {}),
    ],
)
def test_errors_cross_the_wire(
    server: RpcServer,
    servicer: Scorer,
    client: Client,
    raised: Exception,
    expected: type[NeardupError],
    fields: dict[str, object],
) -> None:
    servicer.error = raised
    with pytest.raises(expected, match=str(raised)) as caught:
        client.score(scorer_pb2.ScoreRequest())
    assert {name: getattr(caught.value, name) for name in fields} == fields
    assert client.instance_id == server.instance_id


def test_a_server_that_came_back_has_another_instance_id(ports: list[int], client: Client) -> None:
    instances = []
    for _ in range(2):
        server = make_server(Scorer(), *ports)
        server.start()
        for _attempt in range(100):
            try:
                client.score(scorer_pb2.ScoreRequest())
                break
            except UnavailableError:
                Event().wait(0.05)
        instances.append((client.instance_id, server.instance_id))
        server.stop(0.1)
    assert instances[0][0] == instances[0][1]
    assert instances[1][0] == instances[1][1]
    assert instances[0] != instances[1]


def test_nobody_there_and_too_slow_both_mean_wait(ports: list[int], client: Client, servicer: Scorer) -> None:
    with pytest.raises(UnavailableError):
        client.score(scorer_pb2.ScoreRequest())
    servicer.hold = Event()
    server = make_server(servicer, *ports)
    server.start()
    for _attempt in range(100):
        if servicer.entered.is_set():
            break
        with pytest.raises(UnavailableError):
            client.score(scorer_pb2.ScoreRequest(), deadline_s=0.2)
        servicer.entered.wait(0.05)
    assert servicer.entered.is_set()
    servicer.hold.set()
    server.stop(0.1)


def test_a_stopping_server_ends_the_calls_it_has(server: RpcServer, servicer: Scorer, client: Client) -> None:
    servicer.hold = Event()
    with ThreadPoolExecutor(2) as pool:
        answer = pool.submit(client.score, scorer_pb2.ScoreRequest())
        assert servicer.entered.wait(5)
        stopped = pool.submit(server.stop, 5.0)
        servicer.hold.set()
        assert answer.result().model_version == "v1"
        stopped.result()


def test_a_taken_port_is_named(server: RpcServer, ports: list[int]) -> None:
    with pytest.raises(UnavailableError, match=str(ports[0])):
        make_server(Scorer(), ports[0], free_ports(1)[0]).start()


def test_status_page(server: RpcServer, ports: list[int]) -> None:
    base = f"http://127.0.0.1:{ports[1]}"
    metrics = httpx.get(f"{base}/metrics").text
    assert "neardup_test_calls_total 3.0" in metrics
    assert f'version="{installed_version()}"' in metrics
    assert httpx.get(f"{base}/healthz").status_code == 200
    assert httpx.get(f"{base}/readyz").status_code == 200
    assert httpx.get(f"{base}/else").status_code == 404


SERVICE = "neardup.scorer.v1.PairScorer"
STATES = health_pb2.HealthCheckResponse


@pytest.mark.parametrize("service", ["", SERVICE])
def test_the_health_service_says_that_a_started_server_serves(server: RpcServer, client: Client, service: str) -> None:
    answer = health_pb2_grpc.HealthStub(client.channel).Check(health_pb2.HealthCheckRequest(service=service))
    assert answer.status == STATES.SERVING


def test_health_of_a_service_that_is_not_there(server: RpcServer, client: Client) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        health_pb2_grpc.HealthStub(client.channel).Check(health_pb2.HealthCheckRequest(service="no.such.Service"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_health_says_not_serving_before_and_after(ports: list[int], client: Client) -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    standard = StandardServices(server, [SERVICE])
    server.add_insecure_port(client.address)
    server.start()
    stub, request = health_pb2_grpc.HealthStub(client.channel), health_pb2.HealthCheckRequest(service=SERVICE)
    for serving, status in ((False, STATES.NOT_SERVING), (True, STATES.SERVING), (False, STATES.NOT_SERVING)):
        standard.serving = serving
        assert stub.Check(request, wait_for_ready=True, timeout=10).status == status
    server.stop(0).wait()


def test_a_server_that_stops_no_longer_serves(server: RpcServer) -> None:
    assert server.standard.serving
    server.stop(0)
    assert not server.standard.serving


def test_health_is_not_watched(server: RpcServer, client: Client) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        next(health_pb2_grpc.HealthStub(client.channel).Watch(health_pb2.HealthCheckRequest()))
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_reflection_describes_the_services(server: RpcServer, client: Client) -> None:
    database = ProtoReflectionDescriptorDatabase(client.channel)
    assert set(database.get_services()) == {
        SERVICE,
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    described = database.FindFileContainingSymbol(SERVICE)
    assert [method.name for method in described.service[0].method] == [
        method.name for method in scorer_pb2.DESCRIPTOR.services_by_name["PairScorer"].methods
    ]


def test_reflection_leaves_workers_for_calls(ports: list[int], client: Client) -> None:
    server = grpc.server(ThreadPoolExecutor(4))
    StandardServices(server, [SERVICE])
    server.add_insecure_port(client.address)
    server.start()
    stub = reflection_pb2_grpc.ServerReflectionStub(client.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    leave = Event()

    def requests() -> Iterator[reflection_pb2.ServerReflectionRequest]:
        yield request
        leave.wait(30)

    try:
        held = [stub.ServerReflectionInfo(requests(), wait_for_ready=True) for _ in range(2)]
        for stream in held:
            next(stream)
        with pytest.raises(grpc.RpcError) as caught:
            next(stub.ServerReflectionInfo(iter([request])))
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    finally:
        leave.set()
        server.stop(0).wait()


def test_status_code_of_an_unknown_method_is_a_fault(server: RpcServer, client: Client) -> None:
    unknown = client.channel.unary_unary("/neardup.scorer.v1.PairScorer/Nothing")
    with pytest.raises(grpc.RpcError):
        unknown(b"")


def test_with_a_budget_of_requests_calls_errors_and_limits_are_the_same(ports: list[int]) -> None:
    servicer, port = Scorer(), ports[0]
    server = make_server(servicer, *ports, request_bytes=1)
    server.start()
    client = Client(f"127.0.0.1:{port}", 10.0, 1 << 22)
    try:
        assert client.score(scorer_pb2.ScoreRequest()).model_version == "v1"
        servicer.error = LogGapError("a gap", 7)
        with pytest.raises(LogGapError) as raised:
            client.score(scorer_pb2.ScoreRequest())
        assert raised.value.expected == 7
        servicer.error = None
        with pytest.raises(NeardupError):
            client.score(scorer_pb2.ScoreRequest(model_version="v" * (1 << 21)))
        assert client.score(scorer_pb2.ScoreRequest(model_version="v" * (1 << 19))).model_version == "v1"
    finally:
        client.close()
        server.stop(0.1)


def test_others_with_large_requests_keep_out_neither_the_stream_nor_questions_after_health(ports: list[int]) -> None:
    servicer, large = Scorer(), scorer_pb2.ScoreRequest(model_version="v" * (1 << 18))
    server = make_server(servicer, *ports, request_bytes=1, rights={"Score": Right.READ}, workers=4)
    server.start()
    servicer.hold = Event()
    address = f"127.0.0.1:{ports[0]}"
    others, stream = Client(address, 10.0, 1 << 20), Client(address, 10.0, 1 << 20, metadata=[(CALLER, "stream")])
    try:
        with ThreadPoolExecutor(2) as pool:
            held = pool.submit(others.score, large)
            assert servicer.entered.wait(5)
            with pytest.raises(BusyError, match="1 calls with large requests"):
                others.score(scorer_pb2.ScoreRequest(), deadline_s=2.5)
            servicer.entered.clear()
            of_stream = pool.submit(stream.score, large)
            assert servicer.entered.wait(5)
            check = health_pb2_grpc.HealthStub(others.channel).Check
            assert check(health_pb2.HealthCheckRequest(), timeout=5.0).status == STATES.SERVING
            servicer.hold.set()
            assert held.result().model_version == of_stream.result().model_version == "v1"
        assert others.score(large).model_version == "v1"
    finally:
        servicer.hold.set()
        others.close()
        stream.close()
        server.stop(0.1)


def test_a_call_without_a_request_is_refused(server: RpcServer, client: Client) -> None:
    score = client.channel.stream_unary(f"/{SERVICE}/Score")
    with pytest.raises(grpc.RpcError) as caught:
        score(iter(()), timeout=5.0)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
