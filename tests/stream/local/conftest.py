"""Deployments of small dummy processes, and settings whose ports are free."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stream.local.parts import Listener, Part
from stream.local.processes import end_processes, marked_processes
from stream.local.readiness import HttpReady
from stream.local.supervisor import Deployment
from stream.settings import Settings, load_settings
from tests.support.ports import free_ports

_SERVER = """
import http.server, signal, sys, time
port, order, name = int(sys.argv[1]), sys.argv[2], sys.argv[3]

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()

    def log_message(self, *arguments):
        pass

def end(*arguments):
    with open(order, "a") as file:
        file.write(name + "\\n")
    sys.exit(0)

signal.signal(signal.SIGTERM, end)
print(name, "serves", flush=True)
http.server.HTTPServer(("127.0.0.1", port), Page).serve_forever()
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose data folder is the test's own and whose ports nobody holds."""
    names = ("kafka.port", "kafka.controller_port", "flink.rest_port", "flink.rpc_port")
    names += ("flink.jobmanager_metrics_port", "flink.taskmanager_metrics_port")
    lines = ['data = "data"']
    for name, port in zip(names, free_ports(len(names)), strict=True):
        lines.append(f"{name} = {port}")
    file = tmp_path / "neardup.toml"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return load_settings(file)


@pytest.fixture
def dummy(tmp_path: Path) -> Callable[..., Part]:
    """Makes parts that serve `/readyz`, and note their name in the file `order` when they are asked to end."""

    def make(name: str, stop_wave: int = 0, **fields: object) -> Part:
        port = free_ports(1)[0]
        part = Part(
            name=name,
            command=(sys.executable, "-S", "-c", _SERVER, str(port), str(tmp_path / "order"), name),
            stop_wave=stop_wave,
            ready=HttpReady("127.0.0.1", port, "/readyz"),
            listeners=(Listener(f"{name}.port", "127.0.0.1", port),),
            ready_timeout_s=30.0,
            stop_wait_s=5.0,
        )
        return replace(part, **fields)  # type: ignore[arg-type]

    return make


@pytest.fixture
def deploy(settings: Settings) -> Iterator[Callable[..., Deployment]]:
    """Makes deployments of given parts; whatever a test leaves running is ended."""

    def make(*parts: Part, settings: Settings = settings) -> Deployment:
        return Deployment(settings, parts)

    yield make
    end_processes(marked_processes(settings.data_dir), grace_s=2.0)
