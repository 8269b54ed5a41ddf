"""The storage server: one store, its gRPC service, its HTTP API and the publisher of its history, in one process."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from core.rpc import Listen, RpcServer
from storage.api.app import create_app
from storage.api.server import ApiServer
from storage.rocks.options import RocksOptions
from storage.rocks.store import RocksStore
from storage.serving.metrics import StorageMetrics
from storage.serving.outbox import Outbox
from storage.serving.publisher import KafkaSender, quiet_client_log
from storage.serving.service import StorageService
from storage.serving.storage_pb2_grpc import add_ClusterStorageServicer_to_server

__all__ = ["StorageServerSettings", "serve"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StorageServerSettings:
    """Everything the storage server is told."""

    listen: Listen
    folder: Path
    """Of the store; made when it is not there."""
    api_host: str
    api_port: int
    max_page: int
    """The largest page that the HTTP API gives."""
    kafka: Mapping[str, Any]
    """Where the brokers are and how to log in, as arguments of `KafkaProducer`; empty: nothing is published."""
    assignments_topic: str
    api_token: str = ""
    """For writes through the HTTP API; so far it has none."""
    identity: str = ""
    """What the store serves; a store that was made for something else is refused."""
    rocks: RocksOptions = field(default_factory=RocksOptions)


def serve(settings: StorageServerSettings) -> None:
    """Runs the server until SIGTERM or SIGINT. Main thread only.

    Raises:
        LockedError: Another process has the store open.
        IncompatibleError: The store was made for another signal, or has another format.
        CorruptedError: The store is damaged.
        UnavailableError: A port is taken.
    """
    started = time.monotonic()
    with ExitStack() as parts:
        store = RocksStore(settings.folder, settings.identity, settings.rocks)
        parts.callback(store.close)
        registry = CollectorRegistry()
        state, published = store.state(), store.published()
        metrics = StorageMetrics(registry, state, published)
        service = StorageService(store, metrics)
        rpc = RpcServer("storage", settings.listen, partial(add_ClusterStorageServicer_to_server, service), registry)
        if settings.kafka:
            quiet_client_log()
            open_sender = partial(KafkaSender, settings.kafka, settings.assignments_topic)
            outbox = Outbox(store, open_sender, metrics)
            outbox.start()
            parts.callback(outbox.stop)
        api = ApiServer(create_app(store, settings.max_page, registry), settings.api_host, settings.api_port)
        api.start()
        parts.callback(api.stop)
        log.info(
            "the storage server is up: %s",
            json.dumps(
                {
                    "pid": os.getpid(),
                    "instance_id": rpc.instance_id,
                    "folder": str(settings.folder),
                    "grpc": f"{settings.listen.bind_host}:{settings.listen.port}",
                    "http": f"http://{settings.api_host}:{settings.api_port}",
                    "images": state.images,
                    "clusters": state.clusters,
                    "offset": state.position.offset,
                    "history_number": state.history_number,
                    "published": published,
                    "seconds": round(time.monotonic() - started, 3),
                }
            ),
        )
        rpc.run_until_stopped(on_stop=parts.close)
