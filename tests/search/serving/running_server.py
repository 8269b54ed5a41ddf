"""A search server that runs in the test's process, and what is read off it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import numpy as np
from prometheus_client import CollectorRegistry

from core.access import Credentials
from core.rpc import RpcServer
from core.types import Candidate, ImageId
from search.index.interface import TermIndex
from search.loading.loads import Loads
from search.serving import search_pb2 as pb
from search.serving import search_pb2_grpc
from search.serving.client import SearchClient
from search.serving.server import SearchServerSettings, build_service, open_index
from search.serving.service import RIGHTS
from tests.search.serving.search_setup import MAX_MESSAGE_BYTES


@dataclass
class RunningSearch:
    """The server, its index, and a client of it."""

    settings: SearchServerSettings
    index: TermIndex
    client: SearchClient
    broken: list[bool]
    loads: Loads

    def metrics(self) -> dict[str, float]:
        text = httpx.get(f"http://127.0.0.1:{self.settings.listen.metrics_port}/metrics").text
        lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in lines}


@contextmanager
def run_search_server(settings: SearchServerSettings) -> Iterator[RunningSearch]:
    """The server of these settings, until the block ends."""
    extractor, hyperplanes = settings.terms.build(), settings.code.build()
    opened = open_index(settings, extractor, hyperplanes)
    registry = CollectorRegistry()
    broken: list[bool] = []
    service = build_service(settings, opened, extractor, hyperplanes, registry, lambda: broken.append(True))
    server = RpcServer(
        "search",
        settings.listen,
        lambda grpc_server: search_pb2_grpc.add_TermSearchServicer_to_server(service, grpc_server),
        registry,
        RIGHTS,
    )
    server.start()
    client = SearchClient(
        f"127.0.0.1:{settings.listen.port}",
        30.0,
        MAX_MESSAGE_BYTES,
        credentials=Credentials(settings.listen.access.keys.write),
    )
    try:
        yield RunningSearch(settings, opened.index, client, broken, opened.loads)
    finally:
        client.close()
        server.stop(0)
        opened.close()


def candidates(found: pb.Candidates, code_bytes: int = 4) -> list[Candidate]:
    overlaps, places = np.frombuffer(found.overlaps, "<u2"), np.frombuffer(found.places, "<i8")
    codes = [found.score_codes[at : at + code_bytes] for at in range(0, len(found.score_codes), code_bytes)]
    columns = zip(found.image_ids, places.tolist(), overlaps.tolist(), codes, strict=True)
    return [Candidate(ImageId(image_id), place, overlap, code) for image_id, place, overlap, code in columns]
