"""The sequence on fake Flink against the real search and storage servers over gRPC (the scorer is one in memory)."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from pyflink.common import Row

from core.protos.joined_pb2 import JoinedRecord
from core.rpc import Listen, RpcServer
from core.types import DeadLetterRecord
from operators.assign import AssignFunction
from operators.batcher import BatchPolicy
from operators.score import ScoreFunction
from operators.search import LogEpoch, SearchFunction
from operators.step import ServerAddress
from search.index.settings import DEFAULT_MAX_POSTINGS
from search.serving.admission import AdmissionPolicy
from search.serving.search_pb2_grpc import add_TermSearchServicer_to_server
from search.serving.server import build_service, open_index
from storage.memory import MemoryStore
from storage.serving.metrics import StorageMetrics
from storage.serving.service import StorageService
from storage.serving.storage_pb2_grpc import add_ClusterStorageServicer_to_server
from tests.search.serving.search_setup import RANKING, image, server_settings
from tests.support.clock import FakeClock
from tests.support.fake_flink import Harness
from tests.support.fake_servers import FakeScorer
from tests.support.ports import free_ports

POLICY = BatchPolicy(max_items=4, backoff_first_ms=10, backoff_max_ms=50)


class Town:
    """The two servers, on folders and ports that outlive them, and the three functions."""

    def __init__(self, folder: Path, scorer: FakeScorer) -> None:
        self._ports = free_ports(4)
        self._folder = folder
        self.max_postings = DEFAULT_MAX_POSTINGS
        self.ranking = RANKING
        self.admission = AdmissionPolicy()
        self.store = MemoryStore()
        self.scorer = scorer
        self.clock = FakeClock()
        self.running = ExitStack()
        search, storage = self.address(0), self.address(2)
        unused = ServerAddress("127.0.0.1:1", 1.0, 1)
        self._servers = search, unused, storage
        self.steps: list[Harness] = []
        self.submit(LogEpoch("log-1"))

    def submit(self, log: LogEpoch) -> None:
        """Makes the three functions anew, for a log epoch."""
        for step in self.steps:
            step.function.close()
        (search, unused, storage), sleep = self._servers, self.clock.sleep_s
        self.steps = [
            Harness(SearchFunction(POLICY, search, log, sleep=sleep), self.clock),
            Harness(ScoreFunction(POLICY, unused, search, sleep=sleep), self.clock),
            Harness(AssignFunction(POLICY, search, unused, storage, log, sleep=sleep), self.clock),
        ]

    def address(self, at: int) -> ServerAddress:
        return ServerAddress(f"127.0.0.1:{self._ports[at]}", 5.0, 1 << 20)

    def start(self) -> None:
        """Both servers, with new instance ids."""
        settings = replace(
            server_settings(self._folder / "index", ranking=self.ranking),
            max_postings=self.max_postings,
            admission=self.admission,
        )
        extractor, hyperplanes = settings.terms.build(), settings.code.build()
        self.scorer.code_fingerprint, self.scorer.code_bytes = hyperplanes.fingerprint, hyperplanes.code_bytes
        opened = open_index(settings, extractor, hyperplanes)
        self.index = opened.index
        self.running.callback(opened.index.close)
        registry = CollectorRegistry()
        search = build_service(settings, opened, extractor, hyperplanes, registry, lambda: None)
        self._serve(partial(add_TermSearchServicer_to_server, search), 0, registry)
        registry = CollectorRegistry()
        storage = StorageService(self.store, StorageMetrics(registry, self.store.state(), 0))
        self._serve(partial(add_ClusterStorageServicer_to_server, storage), 2, registry)

    def stop(self) -> None:
        self.running.close()

    def send(self, offset: int, payload: bytes) -> None:
        self.steps[0].send(Row(payload, offset, None))
        self._pass_on()

    def run_until(self, done: Callable[[], bool]) -> None:
        """Lets time pass until `done`; a channel takes real time to connect again."""
        until = time.monotonic() + 30
        while not done():
            assert time.monotonic() < until
            self.advance()
            time.sleep(0.005)

    def advance(self) -> None:
        """Lets a little time pass, so that what failed is tried again."""
        for step in self.steps:
            step.advance(10)
            self._pass_on()

    def position(self) -> int:
        return self.store.position().offset

    def dead_letters(self) -> list[tuple[int, DeadLetterRecord]]:
        with self.store.snapshot() as view:
            return list(view.dead_letters())

    def _serve(self, register: Callable[[Any], None], at: int, registry: CollectorRegistry) -> None:
        listen = Listen("127.0.0.1", self._ports[at], self._ports[at + 1], 1 << 20)
        server = RpcServer("test", listen, register, registry)
        server.start()
        self.running.callback(server.stop, 0.1)

    def _pass_on(self) -> None:
        for this, following in zip(self.steps, self.steps[1:], strict=False):
            rows, this.main = this.main, []
            for row in rows:
                following.send(row[1])


def record(image_id: str, seed: int, version: int = 1, near: float = 0.0) -> bytes:
    body = image(image_id, seed, near, version)
    body.arrived_at_ms = 1_700_000_000_000
    return JoinedRecord(image=body).SerializeToString(deterministic=True)
