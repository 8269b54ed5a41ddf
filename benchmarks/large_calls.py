"""The memory of each server while many callers send requests of the largest size: `make bench-large-calls`.

Starts search server, scorer and storage server one after the other, each alone, with the settings of `neardup.toml`.
Then 64 callers send one request of 33 MB each, at the same time. The peak of the server's resident memory is compared
with its limit in `docker-compose.yml`.

    python -m benchmarks.large_calls                                  what `make bench-large-calls` runs
    python -m benchmarks.large_calls --budget-mib 65536               as if requests had no budget
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks.machine import measured_with, write_results
from benchmarks.search.results import table
from core.errors import UnavailableError
from core.rpc import Listen, RpcClient
from neardup.events_pb2 import FLOAT16
from scoring.model_folder import ModelFolder
from scoring.serving import scorer_pb2
from search.serving import search_pb2
from storage.serving import storage_pb2
from stream.servers import search_server_settings
from stream.settings import load_settings

PORT, METRICS_PORT = 17911, 17912
MESSAGE = 33_554_432
LIMITS_MIB = {"search": 4096, "scorer": 3072, "storage": 2048}
"""Of the containers."""

_DESCRIBE = {
    "search": "neardup.search.v1.TermSearch",
    "scorer": "neardup.scorer.v1.PairScorer",
    "storage": "neardup.storage.v1.ClusterStorage",
}


def _listen(budget_bytes: int) -> Listen:
    return Listen("127.0.0.1", PORT, METRICS_PORT, MESSAGE, request_bytes=budget_bytes)


def serve_search(folder: str, budget_bytes: int) -> None:
    """Runs a search server with an empty index."""
    from search.serving.server import serve

    settings = search_server_settings(load_settings())
    serve(replace(settings, folder=Path(folder) / "index", listen=_listen(budget_bytes)))


def serve_scorer(folder: str, budget_bytes: int) -> None:
    """Runs a scorer with the model of the sample."""
    from scoring.serving.server import ScorerServerSettings, serve

    settings = load_settings()
    serve(ScorerServerSettings(_listen(budget_bytes), settings.path(settings.signal()[1].model)))


def serve_storage(folder: str, budget_bytes: int) -> None:
    """Runs a storage server with an empty store."""
    from storage.serving.server import StorageServerSettings, serve

    serve(
        StorageServerSettings(
            _listen(budget_bytes), Path(folder), "127.0.0.1", METRICS_PORT + 1, 100, {}, "", "", "", "", 1
        )
    )


def search_call() -> tuple[str, bytes]:
    """Inserts and searches for images, each with bytes that no field explains."""
    signal = load_settings().signal()[1]
    entries = [
        search_pb2.LogEntry(
            offset=offset,
            insert={
                "image_id": f"i{offset}",
                "search_type": FLOAT16,
                "search_vector": _vector(offset, signal.search_embedding.dimension),
                "score_type": FLOAT16,
                "score_vector": _vector(offset, signal.score_embedding.dimension),
            },
        )
        for offset in range(64)
    ]
    return "InsertAndSearch", _padded(search_pb2.InsertAndSearchRequest(log_id="benchmark", entries=entries))


def _vector(seed: int, dimension: int) -> bytes:
    data: bytes = np.random.default_rng(seed).standard_normal(dimension).astype("<f2").tobytes()
    return data


def scorer_call() -> tuple[str, bytes]:
    """Scores as many pairs as a call may have."""
    settings = load_settings()
    models = ModelFolder(settings.path(settings.signal()[1].model))
    size = models.card(models.served()).code_bytes
    pairs = min(260_000, (MESSAGE - 4096) // size)
    block = scorer_pb2.PairBlock(query_code=bytes(size), candidate_codes=bytes(pairs * size))
    return "Score", _padded(scorer_pb2.ScoreRequest(blocks=[block]))


def storage_call() -> tuple[str, bytes]:
    """Writes dead letters."""
    count = 1024
    letter = storage_pb2.DeadLetterRecord(value=bytes(MESSAGE // count - 100))
    decisions = [
        storage_pb2.Decision(offset=offset, outcome="unreadable", dead_letter=letter) for offset in range(count)
    ]
    return "Apply", _padded(storage_pb2.ApplyRequest(log_id="benchmark", offset=-1, decisions=decisions))


def _padded(message: Any) -> bytes:
    """Up to the largest size, by a field that no version knows."""
    data: bytes = message.SerializeToString()
    room = MESSAGE - len(data) - 1024
    return data + b"\xfa\x7f" + _varint(room) + bytes(room)  # field 2047, length-delimited


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


@dataclass(frozen=True, slots=True)
class Server:
    """One of the three."""

    serve: Callable[[str, int], None]
    call: Callable[[], tuple[str, bytes]]


SERVERS: Mapping[str, Server] = {
    "search": Server(serve_search, search_call),
    "scorer": Server(serve_scorer, scorer_call),
    "storage": Server(serve_storage, storage_call),
}


def measure(name: str, calls: int, budget_bytes: int) -> dict[str, Any]:
    """Memory of one server in MiB, and how its calls ended."""
    method, request = SERVERS[name].call()
    with tempfile.TemporaryDirectory() as folder:
        spawn = multiprocessing.get_context("spawn")
        process = spawn.Process(target=SERVERS[name].serve, args=(folder, budget_bytes))
        process.start()
        try:
            with closing(RpcClient(f"127.0.0.1:{PORT}", 5.0, MESSAGE)) as client:
                path = f"/{_DESCRIBE[name]}"
                _await(client, path, process)
                before = _memory_mib(process.pid or 0, "VmRSS")
                ends = _send(client, f"{path}/{method}", request, calls)
                return {"before": before, "peak": _memory_mib(process.pid or 0, "VmHWM"), "ends": ends}
        finally:
            process.terminate()
            process.join(30)


def _await(client: RpcClient, path: str, process: Any) -> None:
    deadline = time.monotonic() + 120
    describe = client.channel.unary_unary(f"{path}/Describe")
    while True:
        try:
            describe(b"", timeout=5.0)
            return
        except grpc.RpcError:
            if time.monotonic() > deadline or not process.is_alive():
                raise UnavailableError(f"{path} does not answer") from None
            time.sleep(0.2)


def _send(client: RpcClient, path: str, request: bytes, calls: int) -> dict[str, int]:
    """Sends all at once; how often each status came back."""
    ends: Counter[str] = Counter()
    together = threading.Barrier(calls)

    def call() -> None:
        together.wait()
        try:
            client.channel.unary_unary(path)(request, timeout=120.0, metadata=(("caller", "stream"),))
            ends["OK"] += 1
        except grpc.RpcError as error:
            ends[error.code().name] += 1  # type: ignore[attr-defined, unused-ignore]

    threads = [threading.Thread(target=call) for _ in range(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return dict(ends)


def _memory_mib(pid: int, field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="ascii"), re.MULTILINE)
    return int(found[1]) // 1024 if found else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints the table, writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=64, help="at once")
    parser.add_argument("--budget-mib", type=int, default=256, help="for the stream, and as much again for others")
    parser.add_argument("servers", nargs="*", default=list(SERVERS), metavar="SERVER", help="search, scorer, storage")
    options = parser.parse_args(arguments)
    results = {name: measure(name, options.calls, options.budget_mib << 20) for name in options.servers}
    table(
        f"{options.calls} calls of {MESSAGE / 1e6:.0f} MB at once, MiB",
        ["", "before", "peak", "limit", "ends"],
        [
            [name, found["before"], found["peak"], LIMITS_MIB[name], json.dumps(found["ends"])]
            for name, found in results.items()
        ],
    )
    write_results(
        load_settings().data_dir / "bench" / "large_calls.json",
        {
            **measured_with("benchmarks.large_calls"),
            "calls": options.calls,
            "budget_mib": options.budget_mib,
            "servers": results,
        },
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
