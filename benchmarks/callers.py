"""How much a flood of other callers slows down the stream: `make bench-callers`.

A search server of its own is filled with noisy copies of the sample's photographs. Then the stream sends batches at a
steady rate, three times: alone; while others flood the server as if there were no classes of callers (they say that
they are the stream); while the same flood comes as interactive and shadow traffic. Latency of the stream's calls, and
what the flood gets done meanwhile.

    python -m benchmarks.callers                                                      what `make bench-callers` runs
    python -m benchmarks.callers --images 2000 --seconds 3                            a short one
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import measured_with, write_results
from benchmarks.search.results import table
from benchmarks.search.timing import percentiles_ms
from core.errors import BusyError, UnavailableError
from core.protos.joined_pb2 import JoinedImage
from core.rpc import Listen
from manifests.image_files import ImageFile, ImageRow
from neardup.events_pb2 import FLOAT16
from search.serving import search_pb2 as pb
from search.serving.admission import Caller
from search.serving.client import SearchClient
from stream.demo.sample import SAMPLE
from stream.servers import search_server_settings
from stream.settings import load_settings

LOG = "benchmark"
PORT, METRICS_PORT = 17901, 17902
MESSAGE = 33_554_432
STREAM_BATCH, STREAM_RATE = 16, 200
FLOOD_BATCH, FLOODERS = 64, 4
NOISE = 0.05


def entries(rows: Sequence[ImageRow], first: int, count: int) -> list[pb.LogEntry]:
    """Records of noisy copies, one for each offset."""
    made = []
    for offset in range(first, first + count):
        row = rows[offset % len(rows)]
        vectors = [_noisy(vector.data, offset + shift) for shift, vector in enumerate((row.search, row.score))]
        image = JoinedImage(
            image_id=f"i{offset}",
            image_version=1,
            search_type=FLOAT16,
            search_vector=vectors[0],
            score_type=FLOAT16,
            score_vector=vectors[1],
        )
        made.append(pb.LogEntry(offset=offset, insert=image))
    return made


def _noisy(data: bytes, seed: int) -> bytes:
    values = np.frombuffer(data, "<f2").astype(np.float32)
    noise = np.random.default_rng(seed).standard_normal(len(values)).astype(np.float32)
    noisy: bytes = (values + NOISE * values.std() * noise).astype("<f2").tobytes()
    return noisy


def serve(folder: str) -> None:
    """Runs the server."""
    from search.serving.server import serve as run

    settings = search_server_settings(load_settings())
    run(replace(settings, folder=Path(folder), listen=Listen("127.0.0.1", PORT, METRICS_PORT, MESSAGE)))


def flood(caller: Caller, vectors: list[bytes], done: Any, over: Any) -> None:
    """Searches without a pause until it is over; after a rejection it waits as long as the server says."""
    queries = [pb.SearchQuery(vector=pb.Vector(element_type=FLOAT16, data=each)) for each in vectors]
    with closing(client(caller)) as search:
        while not over.is_set():
            try:
                search.search(queries)
            except BusyError as error:
                time.sleep(error.retry_after_s or 0.1)
                continue
            with done.get_lock():
                done.value += len(queries)


def client(caller: Caller) -> SearchClient:
    """A client of the server."""
    return SearchClient(f"127.0.0.1:{PORT}", 30.0, MESSAGE, caller)


@contextmanager
def server(folder: Path) -> Iterator[SearchClient]:
    """The server, and the stream's client of it."""
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(str(folder),))
    process.start()
    try:
        with closing(client(Caller.STREAM)) as stream:
            deadline = time.monotonic() + 120
            while True:
                try:
                    stream.describe()
                    break
                except UnavailableError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.1)
            yield stream
    finally:
        process.terminate()
        process.join(30)


def steady(stream: SearchClient, batches: Sequence[list[pb.LogEntry]]) -> list[float]:
    """Sends batches at the stream's rate; returns for each the seconds from its due time to its answer."""
    interval_s = STREAM_BATCH / STREAM_RATE
    start = time.perf_counter()
    waits = []
    for number, batch in enumerate(batches):
        due = start + number * interval_s
        time.sleep(max(0.0, due - time.perf_counter()))
        stream.insert_and_search(LOG, batch)
        waits.append(time.perf_counter() - due)
    return waits


def phase(
    stream: SearchClient, rows: Sequence[ImageRow], flooders: Sequence[Caller], first: int, seconds: float
) -> tuple[dict[str, float], int]:
    """One of the three; also the offset after it."""
    count = int(seconds * STREAM_RATE / STREAM_BATCH)
    batches = [entries(rows, first + number * STREAM_BATCH, STREAM_BATCH) for number in range(count)]
    spawn = multiprocessing.get_context("spawn")
    done, over = spawn.Value("q", 0), spawn.Event()
    vectors = [row.search.data for row in rows[:FLOOD_BATCH]]
    processes = [spawn.Process(target=flood, args=(caller, vectors, done, over)) for caller in flooders]
    for process in processes:
        process.start()
    time.sleep(5.0 if processes else 0.0)  # until they have imported what they need
    before, started = done.value, time.perf_counter()
    waits = steady(stream, batches)
    flooded = (done.value - before) / (time.perf_counter() - started)
    over.set()
    for process in processes:
        process.join()
    return {**percentiles_ms(waits), "flood_queries_per_s": round(flooded)}, first + count * STREAM_BATCH


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints the table, writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000, help="in the index before the first phase")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each phase")
    options = parser.parse_args(arguments)
    signal = load_settings().signal()[1]
    rows = list(
        ImageFile(load_settings().path(SAMPLE), signal.search_embedding.dimension, signal.score_embedding.dimension)
    )
    phases: dict[str, list[Caller]] = {
        "the stream alone": [],
        "flood without classes": [Caller.STREAM] * FLOODERS,
        "flood as interactive and shadow": [Caller.INTERACTIVE, Caller.SHADOW] * (FLOODERS // 2),
    }
    results = {}
    with tempfile.TemporaryDirectory() as folder, server(Path(folder) / "index") as stream:
        for first in range(0, options.images, 256):
            stream.insert_and_search(LOG, entries(rows, first, min(256, options.images - first)))
        offset = options.images
        for name, flooders in phases.items():
            results[name], offset = phase(stream, rows, flooders, offset, options.seconds)
    columns = ["p50_ms", "p99_ms", "max_ms", "flood_queries_per_s"]
    table(
        f"Batches of {STREAM_BATCH} at {STREAM_RATE} images/s into {options.images:,}",
        ["", *columns],
        [[name, *(found[column] for column in columns)] for name, found in results.items()],
    )
    write_results(
        load_settings().data_dir / "bench" / "callers.json",
        {
            **measured_with("benchmarks.callers"),
            "images": options.images,
            "seconds": options.seconds,
            "phases": results,
        },
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
