"""How fast the HTTP API answers while the store is written: part of `make bench-storage`.

`hey` (a Debian package) asks for one image 500 times a second, and for the heads of 100 images 20 times a second, both
at once. Beside them 200 new images a second are written, in synced batches of 8, by the process that answers.
"""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import shutil
import subprocess
import threading
import time
from contextlib import closing
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from prometheus_client import CollectorRegistry

from benchmarks.storage_moves import Stream
from core.lasting import keep_all
from storage.api.app import create_app
from storage.api.server import ApiServer
from storage.rocks.store import RocksStore

__all__ = ["http_under_load"]

PORT = 17913
BATCH = 8
GETS, GET_WORKERS = 500, 20
LOOK_UPS, IDS = 20, 100


def _serve(folder: Path, stop: Event) -> None:
    with closing(RocksStore(folder)) as store:
        server = ApiServer(create_app(store, 1000, CollectorRegistry()), "127.0.0.1", PORT)
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


def http_under_load(folder: Path, names: list[str], seconds: float) -> dict[str, Any]:
    """Both waits, beside the writes.

    Args:
        folder: A store.
        names: Images of it, at least 100.
        seconds: How long both run.

    Raises:
        RuntimeError: `hey` is not installed, or an answer was not good.
    """
    if shutil.which("hey") is None:
        raise RuntimeError("the load tool is missing: apt-get install hey")
    spawn = multiprocessing.get_context("spawn")
    stop = spawn.Event()
    process = spawn.Process(target=_serve, args=(folder, stop))
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
