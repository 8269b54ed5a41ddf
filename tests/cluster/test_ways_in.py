"""Who reaches a deployment with the default settings: this machine alone, and Flink's ports only its own parts."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
from collections.abc import Iterator

import psutil
import pytest

from stream.local.processes import marked_processes
from tests.support.stack import Stack

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


def _listeners(process: psutil.Process) -> Iterator[tuple[str, int]]:
    """Address and port of each TCP socket that a process listens on."""
    with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
        for each in process.net_connections("tcp"):
            if each.status == psutil.CONN_LISTEN:
                yield each.laddr.ip, each.laddr.port


def test_every_part_listens_on_loopback_alone(stack: Stack) -> None:
    found = {(ip, port) for process in marked_processes(stack.settings.data_dir) for ip, port in _listeners(process)}
    assert {stack.settings.kafka.port, stack.settings.flink.rest_port} <= {port for _, port in found}
    assert [each for each in found if not _is_loopback(each[0])] == []


def test_flinks_ports_take_no_caller_without_a_certificate(stack: Stack) -> None:
    """Its ports for jobs, calls and files run code that is sent to them. Only the metrics pages are for everyone."""
    flink = stack.settings.flink
    metrics = {flink.jobmanager_metrics_port, flink.taskmanager_metrics_port}
    pids = {status.name: status.pid for status in stack.deployment.status()}
    for name in ("jobmanager", "taskmanager"):
        pid = pids[name]
        assert pid is not None
        ports = {port for _, port in _listeners(psutil.Process(pid))}
        assert len(ports - metrics) >= 2, f"{name} listens on {ports}"
        for port in ports - metrics:
            # A port without TLS would fail too, but it would send no alert.
            with pytest.raises(ssl.SSLError, match="alert"):
                _ask_without_certificate(port)


def _ask_without_certificate(port: int) -> None:
    """Sends a request over TLS as a stranger, and waits for the first byte of the answer."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
        context.wrap_socket(plain) as secure,
    ):
        secure.sendall(b"GET /config HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        secure.recv(1)


def _is_loopback(text: str) -> bool:
    address = ipaddress.ip_address(text)
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
