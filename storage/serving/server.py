"""The storage server: a store, its gRPC service, its HTTP API and the publisher of its history, in one process."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from core.access import OPEN, Access
from core.blas import use_one_blas_thread
from core.disk_metrics import DiskCollector
from core.lasting import keep_all
from core.rpc import Listen, RpcServer
from storage.api.aliases import NO_ALIASES, AliasSettings, FollowedAliases
from storage.api.app import create_app
from storage.api.explaining import Explainer
from storage.api.server import ApiServer
from storage.loading.run import LoadSettings
from storage.opening import open_store
from storage.serving.dead_letter_outbox import DeadLetterOutbox
from storage.serving.delta_feeder import DeltaFeeder
from storage.serving.delta_run import FeederParts
from storage.serving.eraser_loop import EraserLoop
from storage.serving.first_loads import FirstLoads
from storage.serving.history_sweep import HistorySweep
from storage.serving.live_delay import LiveDelay
from storage.serving.loads import Loads
from storage.serving.metrics import StorageMetrics
from storage.serving.move_loop import MoveLoop
from storage.serving.order_writer import OrderWriter
from storage.serving.outbox import Outbox
from storage.serving.publisher import KafkaSender, quiet_client_log
from storage.serving.service import RIGHTS, StorageService
from storage.serving.storage_pb2_grpc import add_ClusterStorageServicer_to_server
from storage.serving.undo_outbox import UndoOutbox

__all__ = ["StorageServerSettings", "serve"]

log = logging.getLogger(__name__)

_DELTA_SPOOL = "delta.files"
"""The folder for what a delta needs while it is checked and read, below that of the store."""

_WORKERS = 32
"""Threads for calls. Those that wait until large requests of others are handled hold one each."""


@dataclass(frozen=True, slots=True)
class StorageServerSettings:
    """The settings of the storage server."""

    listen: Listen
    folder: Path
    """The folder of the store; created if it is missing."""
    api_host: str
    api_port: int
    max_page: int
    """The largest page that the HTTP API returns."""
    kafka: Mapping[str, Any]
    """Where the brokers are and how to log in, as arguments of `KafkaProducer`; empty: nothing is published."""
    assignments_topic: str
    joined_topic: str
    """Where deletes and the rows of deltas are written."""
    replay_topic: str
    """Where the images of undone overrides are asked for again."""
    dead_letter_topic: str
    max_message_bytes: int
    """The largest message that Kafka takes."""
    api_access: Access = OPEN
    """Who may call the HTTP API."""
    identity: str = ""
    """What the store serves. A store that was created for something else is refused."""
    explainer: Explainer | None = None
    """Asks questions of verdicts again, for the HTTP API."""
    store_class: str = "rocksdb"
    """Which store: an entry point of the group `neardup.stores`, or `module:Class`."""
    history_days: float = 0.0
    """Older history is removed; 0: none is."""
    aliases: AliasSettings = NO_ALIASES
    """Where the HTTP API learns which signal each alias names."""
    load: Callable[[], LoadSettings] | None = None
    """Tells which images of manifests the store takes; None: no manifest is loaded."""


def serve(settings: StorageServerSettings) -> None:
    """Runs the server until SIGTERM or SIGINT. Main thread only.

    Raises:
        SettingsError: `store_class` names no store.
        LockedError: Another process has the store open.
        IncompatibleError: The store was created for another signal, or has another format.
        CorruptedError: The store is damaged.
        UnavailableError: A port is taken.
    """
    started = time.monotonic()
    use_one_blas_thread()  # manifests without codes are hashed here
    with ExitStack() as parts:
        store = open_store(settings.store_class, settings.folder, settings.identity)
        parts.callback(store.close)
        registry = CollectorRegistry()
        registry.register(DiskCollector({"store": settings.folder}))
        state, published = store.state(), store.published()
        metrics = StorageMetrics(registry, state, published)
        loads = FirstLoads(store, settings.load, _stop_this)
        loads.resume()
        parts.callback(loads.stop)
        metrics.watch_load(registry, loads.report)
        live_delay = LiveDelay()
        open_order = partial(KafkaSender, settings.kafka, settings.joined_topic) if settings.kafka else None
        delta_parts = FeederParts(settings.load, open_order, live_delay.now, settings.folder / _DELTA_SPOOL)
        deltas = DeltaFeeder(store, delta_parts)
        deltas.start()
        parts.callback(deltas.stop)
        metrics.watch_deltas(registry, deltas.states, deltas.rows_left)
        service = StorageService(store, metrics, loads=Loads(loads, deltas), live_delay=live_delay)
        register = partial(add_ClusterStorageServicer_to_server, service)
        listen = replace(settings.listen, workers=max(settings.listen.workers, _WORKERS))
        rpc = RpcServer("storage", listen, register, registry, RIGHTS)
        if settings.kafka:
            quiet_client_log()
            open_sender = partial(KafkaSender, settings.kafka, settings.assignments_topic)
            outbox = Outbox(store, open_sender, metrics)
            outbox.start()
            parts.callback(outbox.stop)
            open_dead_letters = partial(KafkaSender, settings.kafka, settings.dead_letter_topic)
            dead_letters = DeadLetterOutbox(store, open_dead_letters, metrics, settings.max_message_bytes)
            dead_letters.start()
            parts.callback(dead_letters.stop)
            open_lane = partial(KafkaSender, settings.kafka, settings.replay_topic)
            undos = UndoOutbox(store, open_lane, store.require_kinds, metrics.publish_failed)
            undos.start()
            parts.callback(undos.stop)
        moves = MoveLoop(store, metrics)
        moves.start()
        parts.callback(moves.stop)
        if settings.history_days:
            sweep = HistorySweep(store, settings.history_days, metrics)
            sweep.start()
            parts.callback(sweep.stop)
        eraser = EraserLoop(store, bool(settings.kafka), metrics.erase_failed, metrics.unerased)
        eraser.start()
        parts.callback(eraser.stop)
        order = None
        if open_order is not None:
            order = OrderWriter(open_order, store.require_kinds)
            parts.callback(order.close)
        aliases = FollowedAliases(settings.aliases, metrics.aliases_failed)
        app = create_app(store, settings.max_page, registry, settings.api_access, order, settings.explainer, aliases)
        api = ApiServer(app, settings.api_host, settings.api_port, settings.listen.tls)
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
                    "http": f"{'https' if settings.listen.tls else 'http'}://{settings.api_host}:{settings.api_port}",
                    "images": state.images,
                    "clusters": state.clusters,
                    "offset": state.position.offset,
                    "history_number": state.history_number,
                    "published": published,
                    "seconds": round(time.monotonic() - started, 3),
                }
            ),
        )
        keep_all()
        rpc.run_until_stopped(on_stop=parts.close)


def _stop_this() -> None:
    # The supervisor starts the server again, on what is the store now.
    os.kill(os.getpid(), signal.SIGTERM)
