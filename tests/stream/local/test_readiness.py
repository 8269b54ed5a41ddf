"""Checks tell ready from not ready, and never raise."""

from __future__ import annotations

import http.server
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from stream.kafka_access import KafkaAccess
from stream.local.readiness import AlwaysReady, BrokerReady, HttpReady, KafkaReady, TaskManagersReady
from tests.support.ports import free_ports


@pytest.fixture
def page() -> Iterator[Callable[[int, str], int]]:
    """Serves one answer to every request; returns the port."""
    servers: list[http.server.HTTPServer] = []

    def serve(status: int, body: str) -> int:
        class Page(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = http.server.HTTPServer(("127.0.0.1", 0), Page)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return int(server.server_address[1])

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def broker() -> Iterator[Callable[[bytes], int]]:
    """Answers one metadata request with the given bytes, after a check of the request; returns the port."""
    sockets: list[socket.socket] = []

    def serve(answer: bytes) -> int:
        server = socket.create_server(("127.0.0.1", 0))
        sockets.append(server)

        def run() -> None:
            link, _ = server.accept()
            with link:
                (size,) = struct.unpack(">i", link.recv(4))
                request = link.recv(size)
                assert len(request) == size
                assert struct.unpack_from(">hh", request) == (3, 1)
                link.sendall(answer)

        threading.Thread(target=run, daemon=True).start()
        return int(server.getsockname()[1])

    yield serve
    for each in sockets:
        each.close()


def _metadata(brokers: int) -> bytes:
    body = struct.pack(">ii", 1, brokers)
    return struct.pack(">i", len(body)) + body


def test_a_page_that_answers(page: Callable[[int, str], int]) -> None:
    assert HttpReady("127.0.0.1", page(200, "ready"), "/readyz")() is None


def test_a_page_that_refuses_gives_its_reason(page: Callable[[int, str], int]) -> None:
    reason = HttpReady("127.0.0.1", page(503, "the model is loading\n"), "/readyz")()
    assert reason is not None
    assert "503" in reason
    assert reason.endswith("the model is loading")


def test_nobody_there() -> None:
    port = free_ports(1)[0]
    for check in (
        HttpReady("127.0.0.1", port, "/"),
        BrokerReady("127.0.0.1", port),
        TaskManagersReady("127.0.0.1", port, 1),
    ):
        assert "refused" in (check() or "")


def test_proxies_are_not_asked(page: Callable[[int, str], int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_ports(1)[0]}")
    assert HttpReady("127.0.0.1", page(200, ""), "/")() is None


@pytest.mark.parametrize(("slots", "reason"), [(8, None), (9, None), (0, "0 of 8 slots are offered")])
def test_slots(page: Callable[[int, str], int], slots: int, reason: str | None) -> None:
    assert TaskManagersReady("127.0.0.1", page(200, json.dumps({"slots-total": slots})), 8)() == reason


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"slots-total": null}', "<html>"])
def test_an_overview_that_makes_no_sense(page: Callable[[int, str], int], body: str) -> None:
    assert "cannot be read" in (TaskManagersReady("127.0.0.1", page(200, body), 8)() or "")


def test_a_broker_that_counts_itself(broker: Callable[[bytes], int]) -> None:
    assert BrokerReady("127.0.0.1", broker(_metadata(1)))() is None


def test_a_broker_outside_its_cluster(broker: Callable[[bytes], int]) -> None:
    assert "not yet part" in (BrokerReady("127.0.0.1", broker(_metadata(0)))() or "")


@pytest.mark.parametrize("answer", [b"", b"\0\0", struct.pack(">i", 100) + b"short"])
def test_a_broker_that_hangs_up(broker: Callable[[bytes], int], answer: bytes) -> None:
    assert BrokerReady("127.0.0.1", broker(answer))() is not None


def test_brokers_that_do_not_answer() -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    assert f"Kafka at {address}: " in (KafkaReady(KafkaAccess(address, "test"))() or "")


def test_a_running_process_may_be_enough() -> None:
    assert AlwaysReady()() is None
