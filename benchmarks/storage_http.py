"""How fast the HTTP API answers while the store is written: part of `make bench-storage`.

    python -m benchmarks.storage_http                            this part alone, on a small store

`hey` (a Debian package) asks for one image 500 times a second, and for the heads of 100 images 20 times a second, both
at once. Its 20 workers ask at the same instants, so 20 requests come together every 40 ms. Beside them 200 new images a
second are written, in synced batches of 8, by the process that answers. The floor is a constant answer to each request
under the same load, in turn with the API: what load tool, HTTP server and writes cost on their own.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import multiprocessing
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np
from prometheus_client import CollectorRegistry

from benchmarks.machine import measured_with
from benchmarks.search.results import table
from benchmarks.service_run import carried_out
from benchmarks.storage_fill import fill, name_of
from benchmarks.storage_moves import Stream
from core.lasting import keep_all
from storage.api.app import create_app
from storage.api.server import ApiServer
from storage.rocks.store import RocksStore
from stream.settings import load_settings

__all__ = ["http_under_load"]

PORT = 17913
BATCH = 8
GETS, GET_WORKERS = 500, 20
LOOK_UPS, IDS = 20, 100


async def _constant(_scope: Any, _receive: Any, send: Any) -> None:
    """An application with one answer, of the size that one image has."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"256")]})
    await send({"type": "http.response.body", "body": b"." * 256})


def _serve(folder: Path, stop: Event, floor: bool) -> None:
    with closing(RocksStore(folder)) as store:
        app: Any = _constant if floor else create_app(store, 1000, CollectorRegistry())
        server = ApiServer(app, "127.0.0.1", PORT)
        server.start()
        keep_all()
        with Stream(store, BATCH).beside():
            stop.wait()
        server.stop()


def _hey(seconds: float, workers: int, rate: float, url: str, *more: str) -> list[float]:
    """The seconds that each answer took; all must be good."""
    called = ["hey", "-z", f"{seconds:.0f}s", "-c", str(workers), "-q", f"{rate / workers:g}", "-o", "csv", *more, url]
    said = subprocess.run(called, check=True, capture_output=True, text=True).stdout
    rows = list(csv.DictReader(io.StringIO(said)))
    bad = [row for row in rows if row["status-code"] != "200"]
    if bad or not rows:
        raise RuntimeError(f"{len(bad)} of {len(rows)} answers of {url} were not good")
    return [float(row["response-time"]) for row in rows]


def http_under_load(folder: Path, names: Sequence[str], seconds: float, *, floor: bool = False) -> dict[str, Any]:
    """Both waits, beside the writes.

    Args:
        folder: A store.
        names: Images of it, at least 100.
        seconds: How long both run.
        floor: Ask for a constant answer instead.

    Raises:
        RuntimeError: `hey` is not installed, or an answer was not good.
    """
    if shutil.which("hey") is None:
        raise RuntimeError("the load tool is missing: apt-get install hey")
    spawn = multiprocessing.get_context("spawn")
    stop = spawn.Event()
    process = spawn.Process(target=_serve, args=(folder, stop, floor))
    process.start()
    try:
        base = f"http://127.0.0.1:{PORT}"
        _await(base)
        found: dict[str, list[float]] = {}
        body = json.dumps({"image_ids": names[:IDS]})

        def look_up() -> None:
            post = ("-m", "POST", "-T", "application/json", "-d", body)
            found["look_up"] = _hey(seconds, 2, LOOK_UPS, f"{base}/v1/images:lookup", *post)

        beside = threading.Thread(target=look_up)
        beside.start()
        gets = _hey(seconds, GET_WORKERS, GETS, f"{base}/v1/images/{names[-1]}")
        beside.join()
    finally:
        stop.set()
        process.join()
    look_ups = found["look_up"]
    return {
        "gets_per_s": round(len(gets) / seconds),
        "get_p50_ms": round(1000 * float(np.percentile(gets, 50)), 1),
        "get_p99_ms": round(1000 * float(np.percentile(gets, 99)), 1),
        "look_ups_per_s": round(len(look_ups) / seconds, 1),
        "look_up_p50_ms": round(1000 * float(np.percentile(look_ups, 50)), 1),
        "look_up_p95_ms": round(1000 * float(np.percentile(look_ups, 95)), 1),
    }


def _await(base: str) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            httpx.get(f"{base}/healthz", trust_env=False)
        except httpx.ConnectError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return


def _measure(folder: Path, images: int, seconds: float, rounds: int) -> dict[str, Any]:
    shutil.rmtree(folder, ignore_errors=True)
    fill(folder, images, 1_000)
    names = [name_of(number) for number in range(IDS)]
    taken = [[http_under_load(folder, names, seconds, floor=floor) for floor in (False, True)] for _ in range(rounds)]
    api, floors = zip(*taken, strict=True)
    medians = {
        name: {what: round(median(each[what] for each in found), 1) for what in found[0]}
        for name, found in (("api", api), ("floor", floors))
    }
    return {**measured_with("benchmarks.storage_http"), **medians, "rounds": taken}


def _show(result: dict[str, Any]) -> None:
    rows = [(what, measured, result["floor"][what]) for what, measured in result["api"].items()]
    table("HTTP beside writes, medians", ("what", "API", "constant answers"), rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs this part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000, help="ordinary images")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="of the API and the constant answers in turn")
    arguments = parser.parse_args(argv)
    bench = load_settings().data_dir / "bench"
    run = partial(_measure, bench / "storage-http", arguments.images, arguments.seconds, arguments.rounds)
    return carried_out(run, bench / "storage_http.json", _show)


if __name__ == "__main__":
    sys.exit(main())
