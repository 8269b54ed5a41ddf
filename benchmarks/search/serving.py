"""Queries a second through the server: a process of its own, two clients in theirs, batches of 32, candidates whole.

A candidate comes with its id and its score code of 128 bytes. The clients are interactive callers without a rate limit,
so two of their calls run at once; all three processes share the machine.
"""

from __future__ import annotations

import multiprocessing
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import numpy as np

from benchmarks.search.bench import FEW_LONG, MANY_SHORT, Bench
from benchmarks.search.corpus import BITS, Shape
from benchmarks.search.engine import fill_index, image_id
from benchmarks.search.results import table
from benchmarks.search.timing import percentiles_ms
from core.errors import UnavailableError
from core.rpc import Listen
from search.hashing.score_codes import CodeSettings
from search.hashing.terms import TermSettings
from search.index.generations import IndexGenerations
from search.ranking import Order, Ranking
from search.serving import search_pb2 as pb
from search.serving.admission import AdmissionPolicy
from search.serving.client import SearchClient
from search.serving.server import SearchServerSettings, index_settings, serve

__all__ = ["measure"]

_BATCH = 32
_CLIENTS = 2
_MESSAGE_BYTES = 33_554_432
_SEED = 20_240_501
_START_S = 90.0


def measure(bench: Bench) -> dict[str, Any]:
    """Both ways of reading: by place, as the job asks for more, and by image id, as interactive callers do."""
    found: dict[str, dict[str, Any]] = {}
    for shape in (FEW_LONG, MANY_SHORT):
        settings = _settings(bench, shape)
        _built(bench, settings)
        with _server(settings) as address:
            found[shape.name] = {
                kind: _clients(address, kind, bench.images, bench.seconds(15.0)) for kind in ("SearchMore", "Search")
            }
    table(
        f"Through the server, {bench.images:,} images, top 100, two clients, batches of {_BATCH}",
        ["", "", "queries/s", "call p50 ms", "call p99 ms"],
        [
            [shape, kind, row["rate"], row["p50_ms"], row["p99_ms"]]
            for shape, kinds in found.items()
            for kind, row in kinds.items()
        ],
    )
    return {"images": bench.images, "clients": _CLIENTS, "batch": _BATCH, "calls": found}


def _settings(bench: Bench, shape: Shape) -> SearchServerSettings:
    # Nothing is hashed here: the dimension of the embeddings is as small as may be.
    return SearchServerSettings(
        listen=Listen("127.0.0.1", _free_port(), _free_port(), _MESSAGE_BYTES),
        folder=bench.place(f"served-{shape.name}"),
        terms=TermSettings(2, _SEED, BITS, shape.groups, shape.bits_per_group),
        code=CodeSettings(2, BITS, _SEED),
        search_dimension=2,
        score_dimension=2,
        ranking=Ranking(100, order=Order.OVERLAP),
        index_sync=False,
        admission=AdmissionPolicy(interactive_per_s=0.0),
    )


def _built(bench: Bench, settings: SearchServerSettings) -> None:
    told = index_settings(settings, settings.terms.build(), settings.code.build())
    generations = IndexGenerations(settings.folder)
    if generations.current() is None:
        with generations.building() as folder:
            fill_index(folder, None, bench.corpus.codes, told)
            generations.adopt(folder, told.identity)


@contextmanager
def _server(settings: SearchServerSettings) -> Iterator[str]:
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(settings,))
    process.start()
    address = f"127.0.0.1:{settings.listen.port}"
    try:
        with closing(SearchClient(address, 5.0, _MESSAGE_BYTES)) as client:
            until = time.monotonic() + _START_S
            while True:
                try:
                    client.describe()
                    break
                except UnavailableError:
                    if time.monotonic() > until or not process.is_alive():
                        raise
                    time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.join(30)


def _clients(address: str, kind: str, images: int, seconds: float) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    with context.Pool(_CLIENTS) as pool:
        told = [(address, kind, images, seconds, number) for number in range(_CLIENTS)]
        both = pool.starmap(_client, told)
    calls = [wait for waits, _ in both for wait in waits]
    # Each client counts over its own time, so that a late start does no harm.
    rate = sum(len(waits) * _BATCH / spent for waits, spent in both)
    return {"rate": round(rate, 1), **percentiles_ms(calls)}


def _client(address: str, kind: str, images: int, seconds: float, number: int) -> tuple[list[float], float]:
    places = np.random.default_rng(number).permutation(images)[: 64 * _BATCH].reshape(-1, _BATCH).tolist()
    with closing(SearchClient(address, 60.0, _MESSAGE_BYTES)) as client:

        def call(batch: list[int]) -> None:
            if kind == "SearchMore":
                answers = client.search_more([pb.MoreQuery(place=place) for place in batch]).answers
            else:
                answers = client.search([pb.SearchQuery(image_id=image_id(place), k=100) for place in batch]).answers
            if len(answers) != _BATCH:
                raise RuntimeError(f"{len(answers)} answers to {_BATCH} queries")

        for batch in places[:8]:
            call(batch)
        waits: list[float] = []
        started = time.perf_counter()
        while (now := time.perf_counter()) - started < seconds:
            call(places[len(waits) % len(places)])
            waits.append(time.perf_counter() - now)
        return waits, time.perf_counter() - started


def _free_port() -> int:
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
