"""The page of a process under callers that say nothing, with real sockets. Deadlines are almost none, or endless."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter

from core.errors import UnavailableError
from core.status_page import PageLimits, StatusPage
from tests.support.ports import free_ports

LONG = 3600.0
"""Seconds that no test takes: a deadline that would let it hang."""


@contextmanager
def serving(limits: PageLimits) -> Iterator[tuple[StatusPage, int]]:
    (port,) = free_ports(1)
    registry = CollectorRegistry()
    Counter("seen", "For the test.", registry=registry).inc(3)
    page = StatusPage("127.0.0.1", port, registry, limits)
    page.start()
    try:
        yield page, port
    finally:
        page.stop()


def connect(port: int, sent: bytes = b"") -> socket.socket:
    link = socket.create_connection(("127.0.0.1", port), timeout=30)
    link.sendall(sent)
    return link


def received(link: socket.socket) -> bytes:
    """All that comes until the page ends the connection."""
    found = b""
    with link:
        try:
            while part := link.recv(65_536):
                found += part
        except ConnectionResetError:
            pass
    return found


def test_it_shows_metrics_and_health() -> None:
    with serving(PageLimits()) as (page, port):
        base = f"http://127.0.0.1:{port}"
        shown = httpx.get(f"{base}/metrics")
        assert "seen_total 3.0" in shown.text
        assert shown.headers["content-type"].startswith("text/plain; version=")
        open_metrics = httpx.get(f"{base}/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        assert open_metrics.text.endswith("# EOF\n")
        assert httpx.get(f"{base}/healthz").text == "alive\n"
        assert httpx.get(f"{base}/readyz").status_code == 503
        page.ready = True
        assert httpx.get(f"{base}/readyz?x=1").text == "ready\n"
        assert httpx.head(f"{base}/readyz").content == b""
        assert httpx.get(f"{base}/other").status_code == 404
        assert httpx.post(f"{base}/metrics").status_code == 405


@pytest.mark.parametrize("sent", [b"", b"GET /met", b"GET /metrics HTTP/1.1\r\nHost: x\r\n"])
def test_a_request_that_never_ends_is_ended_at_its_deadline(sent: bytes) -> None:
    with serving(PageLimits(exchange_s=0.05)) as (_, port):
        assert received(connect(port, sent)) == b""


def test_a_head_without_end_is_refused() -> None:
    with serving(PageLimits(exchange_s=LONG)) as (_, port):
        assert received(connect(port, b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000)) == b""


def test_silent_callers_cost_no_thread_and_keep_nobody_out() -> None:
    with serving(PageLimits(connections=8, exchange_s=LONG)) as (_, port), ExitStack() as links:
        before = threading.active_count()
        silent = [links.enter_context(connect(port, b"GET /met" if n % 2 else b"")) for n in range(2_000)]
        assert httpx.get(f"http://127.0.0.1:{port}/healthz").text == "alive\n"
        assert threading.active_count() <= before + 1
        # The oldest made room for the newest.
        assert received(silent[0]) == b""


def test_a_taken_port_is_named() -> None:
    with serving(PageLimits()) as (_, port), pytest.raises(UnavailableError, match=str(port)):
        StatusPage("127.0.0.1", port, CollectorRegistry()).start()


def test_it_can_be_stopped_before_it_starts_and_while_callers_wait() -> None:
    StatusPage("127.0.0.1", 1, CollectorRegistry()).stop()
    with serving(PageLimits(exchange_s=LONG)) as (page, port):
        waiting = connect(port)
        httpx.get(f"http://127.0.0.1:{port}/healthz")
        page.stop()
        assert received(waiting) == b""
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{port}/healthz")
