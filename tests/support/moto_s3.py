"""Moto's S3 in a process of its own, for tests."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.support.ports import free_ports

__all__ = ["AWS", "moto_server"]

AWS = {
    "AWS_ACCESS_KEY_ID": "test-key",
    "AWS_SECRET_ACCESS_KEY": "test-secret",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""The environment of a client."""

_PATIENCE_S = 120.0


@contextmanager
def moto_server() -> Iterator[str]:
    """Runs the server and gives its URL. Buckets are made with a plain PUT: it checks no signatures."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _wait(server, url)
            yield url
        finally:
            server.terminate()


def _wait(server: subprocess.Popen[bytes], url: str) -> None:
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end:
        assert server.poll() is None, "moto's server has ended: is moto[server] installed?"
        try:
            httpx.get(url)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(f"moto's server did not answer within {_PATIENCE_S:.0f} s")
