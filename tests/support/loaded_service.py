"""A manifest, and the two real servers of a service that began with it, in the process of the test."""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from core.first_loads import LoadReport, LoadRequest, LoadState
from core.overrides import JOB_KINDS
from core.rpc import RpcServer
from core.types import Decision
from manifests.manifest import Kind, Manifest, ManifestFile
from manifests.metadata import FileMetadata
from search.loading import loads as search_loads
from search.loading.load_task import LoadTask, Progress
from search.loading.loader import load
from search.serving.client import SearchClient
from storage.loading.run import LoadSettings
from storage.rocks.store import RocksStore
from storage.serving.client import StorageClient
from storage.serving.delta_feeder import DeltaFeeder
from storage.serving.delta_run import FeederParts
from storage.serving.first_loads import FirstLoads
from storage.serving.loads import Loads
from storage.serving.metrics import StorageMetrics
from storage.serving.service import StorageService
from storage.serving.storage_pb2_grpc import add_ClusterStorageServicer_to_server
from stream.bootstrap.signal import load_signal, value_checks
from stream.hashing import code_settings
from stream.servers import listen, search_server_settings, store_identity
from stream.settings import Settings, load_settings
from tests.search.serving.running_server import run_search_server
from tests.support.ports import free_ports
from tests.support.store_writer import SMALL

__all__ = ["LOG", "SERVICE_TOML", "LoadedService", "ServiceRow", "loaded_service", "service_toml", "write_service_rows"]

LOG = "joined-of-now"
"""The topic id of `joined`."""

SEARCH, SCORE = 24, 12

SERVICE_TOML = """
default_signal = "photos"
[signals.photos]
search_embedding = {{ name = "s", model_version = "1", dimension = 24 }}
score_embedding = {{ name = "c", model_version = "1", dimension = 12 }}
model = "model"
terms = {{ bits = 64, groups = 4, bits_per_group = 2, candidates = 100 }}
code = {{ bits = 16 }}
search = {{ port = {search}, metrics_port = {search_page} }}
storage = {{ port = {storage}, metrics_port = {storage_page} }}
"""


def service_toml() -> str:
    """Settings with free ports."""
    names = ("search", "search_page", "storage", "storage_page")
    return SERVICE_TOML.format(**dict(zip(names, free_ports(4), strict=True)))


class ServiceRow(NamedTuple):
    """One row of a manifest. Its vectors follow from the id and the version."""

    image_id: str
    head: str | None
    version: int = 1

    @property
    def vectors(self) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
        """Of search and of score."""
        dice = np.random.default_rng([*self.image_id.encode(), self.version])
        return dice.standard_normal(SEARCH).astype(np.float16), dice.standard_normal(SCORE).astype(np.float32)


def write_service_rows(
    settings: Settings,
    root: Path,
    name: str,
    rows: Sequence[ServiceRow],
    per_file: int = 25,
    previous: str | None = None,
) -> Manifest:
    """Writes files and manifest; a delta if there is a previous one."""
    for folder in ("data", "manifests"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    files = []
    for at in range(0, len(rows), per_file):
        some, path = rows[at : at + per_file], root / "data" / f"{name}-{at:06}.parquet"
        columns = {
            "image_id": pa.array([row.image_id for row in some]),
            "image_version": pa.array([row.version for row in some]),
            "head": pa.array([row.head for row in some], pa.string()),
            "search": pa.array([row.vectors[0] for row in some], pa.list_(pa.float16())),
            "score": pa.array([row.vectors[1] for row in some], pa.list_(pa.float32())),
        }
        made = FileMetadata(load_signal(settings).name)
        pq.write_table(pa.table(columns).replace_schema_metadata(made.encoded()), path, row_group_size=16)
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        files.append(ManifestFile(f"data/{path.name}", len(some), len(content), digest))
    manifest = Manifest(Kind.SNAPSHOT if previous is None else Kind.DELTA, files, previous)
    (root / "manifests" / f"{name}.json").write_bytes(manifest.encoded())
    return manifest


class LoadedService:
    """The servers of a service that has loaded a manifest. Each `served` block has a store of its own."""

    def __init__(self, settings: Settings, folder: Path, manifest: Manifest, root: Path, name: str) -> None:
        """Loads both."""
        self.settings, self.folder, self.manifest, self.root, self.name = settings, folder, manifest, root, name
        request = LoadRequest(str(root), f"{name}.json", manifest.id, LOG)
        self._load_store(request)
        self._load_index(request)

    def _load_store(self, request: LoadRequest) -> None:
        store = self._store(self.folder / "loaded")
        loads = FirstLoads(store, partial(_load_settings, self.settings), lambda: None)
        loads.load(request)
        _until_ready(loads.report)
        loads.finish(request.manifest_id)
        loads.stop()
        store.close()

    def _load_index(self, request: LoadRequest) -> None:
        def at_once(task: LoadTask, tell: Callable[[Progress], None], _: threading.Event) -> int:
            return load(task, tell)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(search_loads, "load_apart", at_once)
            with run_search_server(search_server_settings(self.settings)) as server:
                server.loads.begin(request)
                _until_ready(lambda: server.loads.report)
                server.loads.adopt(request.manifest_id, LOG, self.manifest.rows)

    def _store(self, folder: Path) -> RocksStore:
        return RocksStore(folder, store_identity(self.settings, "photos"), SMALL)

    @contextmanager
    def searching(self) -> Iterator[None]:
        """The search server runs."""
        with run_search_server(search_server_settings(self.settings)):
            yield

    @contextmanager
    def served(self, folder: Path) -> Iterator[ServedLoad]:
        """Storage runs on a copy of what was loaded."""
        shutil.copytree(self.folder / "loaded", folder)
        server = self.settings.signal(None)[1].storage
        with ExitStack() as parts:
            store = self._store(folder)
            parts.callback(store.close)
            first = FirstLoads(store, partial(_load_settings, self.settings), lambda: None)
            loads = Loads(first, DeltaFeeder(store, FeederParts(None, None, lambda: 0, folder)))
            registry = CollectorRegistry()
            service = StorageService(store, StorageMetrics(registry, store.state(), 0), loads=loads)
            register = partial(add_ClusterStorageServicer_to_server, service)
            rpc = RpcServer("storage", listen(self.settings, server), register, registry)
            rpc.start()
            parts.callback(rpc.stop, 0)
            storage = StorageClient(server.address, 10.0, 1 << 22)
            parts.callback(storage.close)
            index = SearchClient(self.settings.signal(None)[1].search.address, 10.0, 1 << 22)
            parts.callback(index.close)
            yield ServedLoad(store, storage, index)


class ServedLoad(NamedTuple):
    """The store, and clients of both servers."""

    store: RocksStore
    storage: StorageClient
    index: SearchClient

    def apply(self, make: Callable[[int], Decision]) -> None:
        """Applies the next record of the order; `make` is told its position."""
        offset = self.store.position().offset
        self.store.apply(LOG, [make(offset + 1)], offset, self.store.state().revision, JOB_KINDS)

    def damage(self, family: str, key: bytes, value: bytes | None) -> None:
        """Writes into the database beside the store; None removes."""
        database = self.store._database
        assert database is not None
        database.write([(family, key, value)])


@contextmanager
def loaded_service(folder: Path, rows: Sequence[ServiceRow]) -> Iterator[LoadedService]:
    """A service that began with these rows; its search server runs, and nothing changes its index."""
    (folder / "neardup.toml").write_text(service_toml(), encoding="utf-8")
    settings = load_settings(folder / "neardup.toml")
    manifest = write_service_rows(settings, folder / "old", "first", rows)
    service = LoadedService(settings, folder, manifest, folder / "old", "first")
    with service.searching():
        yield service


def _load_settings(settings: Settings) -> LoadSettings:
    coder = code_settings(settings, settings.signal(None)[1]).build()
    return LoadSettings(load_signal(settings), lambda search, score: coder.codes(score, search), value_checks(settings))


def _until_ready(report: Callable[[], LoadReport | None]) -> None:
    end = time.monotonic() + 60
    while (found := report()) is None or found.state is not LoadState.READY:
        assert time.monotonic() < end, found
        time.sleep(0.01)
