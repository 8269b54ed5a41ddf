"""The HTTP API over a store, on a port of its own, for tests that call it from outside."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from prometheus_client import CollectorRegistry

from storage.api.app import create_app
from storage.api.server import ApiServer
from storage.interfaces import ClusterStore
from tests.support.ports import free_ports

__all__ = ["served_api"]


@contextmanager
def served_api(store: ClusterStore, max_page: int = 1000, **options: Any) -> Iterator[int]:
    """Gives the port of a server that answers; `options` are those of `create_app`."""
    (port,) = free_ports(1)
    server = ApiServer(create_app(store, max_page, CollectorRegistry(), **options), "127.0.0.1", port)
    server.start()
    while True:
        try:
            httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False)
            break
        except httpx.ConnectError:
            time.sleep(0.01)
    yield port
    server.stop()
