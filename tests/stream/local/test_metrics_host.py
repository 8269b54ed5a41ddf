"""The metrics pages of Flink's processes, asked of a real job manager: on which address, and under silent callers."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import httpx
import psutil
import pytest

from stream.local.certificates import ensure_certificate
from stream.local.files import tail
from stream.local.flink_home import flink_command, flink_environment, prepare_flink
from stream.local.processes import end_processes
from stream.local.readiness import HttpReady
from stream.settings import Settings, load_settings
from tests.support.ports import free_ports
from tests.support.stack import eventually


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("flink")
    names = ("rest_port", "rpc_port", "jobmanager_metrics_port", "taskmanager_metrics_port")
    ports = zip(names, free_ports(len(names)), strict=True)
    file = folder / "neardup.toml"
    file.write_text('data = "data"\n' + "".join(f"flink.{name} = {port}\n" for name, port in ports))
    return load_settings(file)


@pytest.fixture(scope="module")
def job_manager(settings: Settings) -> Iterator[psutil.Process]:
    # A look at the ports before Flink's REST interface has opened its own would see too few.
    rest = HttpReady("127.0.0.1", settings.flink.rest_port, "/overview", ensure_certificate(settings))
    prepare_flink(settings)
    log = settings.data_dir / "jobmanager.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            flink_command(settings, "jobmanager"),
            env={**os.environ, **flink_environment(settings)},
            stdout=output,
            stderr=output,
        )
    found = psutil.Process(process.pid)
    try:
        eventually(lambda: rest() is None or None, 120, lambda: tail(log))
        yield found
    finally:
        end_processes([found], grace_s=0.0)
        process.wait()


def _shows_metrics(settings: Settings) -> bool:
    url = f"http://127.0.0.1:{settings.flink.jobmanager_metrics_port}/metrics"
    try:
        return "flink_jobmanager_Status_JVM" in httpx.get(url, trust_env=False, timeout=30).text
    except httpx.TransportError:
        return False


def test_every_port_of_the_job_manager_is_on_loopback(settings: Settings, job_manager: psutil.Process) -> None:
    listening = [link.laddr for link in job_manager.net_connections() if link.status == psutil.CONN_LISTEN]
    assert {settings.flink.rest_port, settings.flink.jobmanager_metrics_port} <= {each.port for each in listening}
    assert {each.ip.removeprefix("::ffff:") for each in listening} == {"127.0.0.1"}


def test_ports_that_run_what_they_are_sent_refuse_callers_without_the_certificate(
    settings: Settings, job_manager: psutil.Process
) -> None:
    """The REST interface, RPC between Flink's processes, and the server of blobs."""
    metrics = settings.flink.jobmanager_metrics_port
    listening = {link.laddr.port for link in job_manager.net_connections() if link.status == psutil.CONN_LISTEN}
    assert len(listening - {metrics}) >= 3
    assert {_answer_without_certificate(port) for port in listening - {metrics}} == {b""}


def _answer_without_certificate(port: int) -> bytes:
    """What a server with TLS answers to a caller that trusts it and shows no certificate."""
    anyone = ssl.create_default_context()
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    # In TLS 1.3 the refusal comes with the first read.
    with (
        suppress(ssl.SSLError, ConnectionError),
        socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
        anyone.wrap_socket(plain) as secured,
    ):
        secured.sendall(b"GET /overview HTTP/1.1\r\nHost: x\r\n\r\n")
        return secured.recv(100)
    return b""


def test_two_thousand_callers_that_say_nothing_or_half_a_request_do_not_end_the_pages(
    settings: Settings, job_manager: psutil.Process
) -> None:
    flink = settings.flink
    with ExitStack() as links:
        for port in (flink.jobmanager_metrics_port, flink.rest_port):
            for number in range(2_000):
                link = links.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
                if number % 2:
                    link.sendall(b"GET /met")
        eventually(lambda: _shows_metrics(settings) or None, 120, lambda: "the page does not answer")
        assert job_manager.is_running()
