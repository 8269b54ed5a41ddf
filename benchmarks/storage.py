"""How fast the store reads, writes and lists, beside plain RocksDB: `make bench-storage`.

A store of its own is filled: ordinary images in clusters of six, one cluster of 6,000 and one of 1,100,000 members.

    python -m benchmarks.storage                                                      what `make bench-storage` runs
    python -m benchmarks.storage --images 20000 --giant 60000 --seconds 1             a short one

Measured are heads in the process (beside bare gets of the same keys and the same decoding) and over gRPC, synced
writes of 64 decisions, and pages of 1,000 members: first, middle and last of both clusters, in both orders, and again
after half of the giant cluster's members left. The look-up of a batch is measured with 100,000 forbids too, the HTTP
API under a load tool (the Debian package `hey`), and a rollback and a merge of the giant cluster beside the stream. It
writes `var/bench/storage.json`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from prometheus_client import CollectorRegistry
from rocksdict import Rdict

from benchmarks.machine import measured_with
from benchmarks.search.results import table
from benchmarks.search.timing import percentiles_ms, rate
from benchmarks.service_run import carried_out, say
from benchmarks.storage_fill import BATCH, LOG, PAGE, SMALL, Filler, decision, fill, giant_member, name_of, small_member
from benchmarks.storage_http import http_under_load
from benchmarks.storage_moves import measure_moves, show_moves
from core.overrides import OVERRIDE_KIND, Override, OverrideKind, OverrideRequest
from core.rpc import Listen, RpcServer
from core.types import ImageId
from storage import codec
from storage.overrides.log import line_of
from storage.rocks.options import RocksOptions, database_options, family_options
from storage.rocks.store import RocksStore
from storage.serving.client import StorageClient
from storage.serving.metrics import StorageMetrics
from storage.serving.service import StorageService
from storage.serving.storage_pb2_grpc import add_ClusterStorageServicer_to_server
from stream.settings import load_settings

IDS = 100
"""Images of one look-up."""

LOOKED_UP = 1_300
"""Images of the look-up of a batch of 64, each with its candidates."""

FORBIDS = 100_000
SAID = 1_000
"""So many of them are said one by one. The others are put into the log, and applied when the store is opened."""

PORT, METRICS_PORT = 17911, 17912
CLIENTS = 3
"""At most. Two in Python do not keep the server busy: between two calls each takes a third of what the server does."""


def heads_in_process(folder: Path, images: int, seconds: float) -> dict[str, float]:
    """Heads a second from the store, and from bare gets of the same keys with the same decoding."""
    rng = random.Random(1)
    asked = [[name_of(rng.randrange(images)) for _ in range(IDS)] for _ in range(2_000)]
    with closing(RocksStore(folder)) as store:
        ours = rate(asked, IDS, store.heads, seconds)
        one = rate([batch[:1] for batch in asked], 1, lambda batch: store.image(batch[0]), seconds)
    database = Rdict(str(folder / "db"), database_options(RocksOptions(), create=False), family_options(RocksOptions()))
    try:
        family = database.get_column_family("images")

        def bare(batch: Sequence[ImageId]) -> dict[ImageId, ImageId]:
            found = {}
            for image_id in batch:
                value = family.get(image_id.encode())
                if value is not None:
                    found[image_id] = codec.decode_head(image_id, value)
            return found

        plain = rate(asked, IDS, bare, seconds)
    finally:
        database.close()
    return {
        "heads_per_s": round(ours),
        "bare_heads_per_s": round(plain),
        "share_of_bare": round(ours / plain, 3),
        "whole_images_one_by_one_per_s": round(one),
    }


@contextmanager
def _served(store: RocksStore) -> Iterator[None]:
    registry = CollectorRegistry()
    service = StorageService(store, StorageMetrics(registry, store.state(), 0))
    register = partial(add_ClusterStorageServicer_to_server, service)
    server = RpcServer("storage", Listen("127.0.0.1", PORT, METRICS_PORT, 1 << 22), register, registry)
    server.start()
    try:
        yield
    finally:
        server.stop(0)


def _ask(images: int, seconds: float, seed: int) -> float:
    """Heads a second that one client gets; it runs in a process of its own."""
    rng = random.Random(seed)
    asked = [[name_of(rng.randrange(images)) for _ in range(IDS)] for _ in range(500)]
    with closing(StorageClient(f"127.0.0.1:{PORT}", 10.0, 1 << 22)) as client:
        return rate(asked, IDS, client.heads, seconds)


def heads_over_grpc(folder: Path, images: int, seconds: float) -> dict[str, float]:
    """Heads a second over gRPC: of one client, and of more at once."""
    spawn = multiprocessing.get_context("spawn")
    with closing(RocksStore(folder)) as store, _served(store), spawn.Pool(CLIENTS) as clients:
        return {
            f"{count}_clients_per_s": round(
                sum(clients.starmap(_ask, [(images, seconds, seed) for seed in range(count)], chunksize=1))
            )
            for count in range(1, CLIENTS + 1)
        }


def writes(folder: Path, images: int, seconds: float) -> dict[str, Any]:
    """Synced writes of new images, five of six of which join a head."""
    took: list[float] = []
    with closing(RocksStore(folder)) as store:
        offset, number = store.position().offset, images
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            batch = [
                decision(offset + 1 + n, name_of(number + n), name_of(number + n - (number + n) % 6))
                for n in range(BATCH)
            ]
            started = time.perf_counter()
            store.apply(LOG, batch, offset, 0)
            took.append(time.perf_counter() - started)
            offset, number = offset + BATCH, number + BATCH
    return {"images_per_s": round(BATCH * len(took) / sum(took)), **percentiles_ms(took)}


def overrides(folder: Path, images: int, seconds: float) -> dict[str, Any]:
    """The look-up of a batch before and after there are many forbids, and what these cost to say and to keep."""
    rng, plain = random.Random(2), images // 10
    # Of the first tenth nothing is said; nearly each of the others is named by a forbid.
    asked = [[name_of(rng.randrange(plain)) for _ in range(LOOKED_UP)] for _ in range(200)]
    named = [[name_of(rng.randrange(plain, images)) for _ in range(LOOKED_UP)] for _ in range(200)]
    took: list[float] = []
    with closing(RocksStore(folder)) as store:
        before = rate(asked, 1, store.look_up, seconds)
        offset = store.position().offset
        store.apply(LOG, (), offset, store.state().revision, (OVERRIDE_KIND,))
        for number in range(SAID):
            pair = name_of(plain + number), name_of(images - 1 - number)
            started = time.perf_counter()
            store.override(OverrideRequest(OverrideKind.FORBID, pair[:1], pair[1], reason="bench"), 0)
            took.append(time.perf_counter() - started)
    with (folder / "overrides.log").open("ab") as file:
        for number in range(SAID, FORBIDS):
            one, other = name_of(plain + number % (images - plain)), name_of(rng.randrange(plain, images))
            forbid = Override(number + 1, OverrideKind.FORBID, (one,), other, 0, "", "bench", 0, offset)
            file.write(line_of(forbid))
    with closing(RocksStore(folder, options=RocksOptions(sync=False))):
        say(f"{FORBIDS:,} forbids are applied")
    memory, started = _rss_mib(), time.monotonic()
    with closing(RocksStore(folder)) as store:
        opened_s, memory_mib = time.monotonic() - started, _rss_mib() - memory
        after, of_named = (rate(batches, 1, store.look_up, seconds) for batches in (asked, named))
        ruled = sum(len(store.look_up(batch).rules) for batch in named) / len(named)
    return {
        "ids_of_a_look_up": LOOKED_UP,
        "look_up_ms_before": round(1000 / before, 3),
        "look_up_ms_with_forbids_of_others": round(1000 / after, 3),
        "look_up_ms_of_forbidden": round(1000 / of_named, 3),
        "forbidden_of_these": round(ruled, 1),
        "forbids": FORBIDS,
        "opening_s": round(opened_s, 2),
        "memory_mib": round(memory_mib),
        "say_median_ms": round(1000 * median(took), 2),
    }


def _rss_mib() -> float:
    return psutil.Process().memory_info().rss / 2**20


def pages(folder: Path) -> dict[str, dict[str, float]]:
    """Milliseconds of a page of the giant cluster and of the other one, and their ratio."""
    found: dict[str, dict[str, float]] = {}
    with closing(RocksStore(folder)) as store:
        for newest_first in (False, True):
            order = "newest" if newest_first else "oldest"
            small = _page_ms(store, small_member(0), newest_first)
            large = _page_ms(store, giant_member(0), newest_first)
            for where, reference in small.items():
                found[f"{where}, {order} first"] = {
                    "small_ms": round(reference, 3),
                    "giant_ms": round(large[where], 3),
                    "ratio": round(large[where] / reference, 2),
                }
    return found


def _page_ms(store: RocksStore, head: ImageId, newest_first: bool) -> dict[str, float]:
    tokens: list[str | None] = [None]
    while (token := store.members(head, PAGE, tokens[-1], newest_first=newest_first).next_token) is not None:
        tokens.append(token)
    last = len(tokens) - 1
    return {
        where: _median_ms(lambda at=at: store.members(head, PAGE, tokens[at], newest_first=newest_first))
        for where, at in (("first", 0), ("middle", last // 2), ("last", last - 1))  # the very last may be short
    }


def _median_ms(call: Callable[[], object], times: int = 21) -> float:
    took = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        took.append(1000 * (time.perf_counter() - started))
    return median(took)


def half_leave(folder: Path, giant: int) -> None:
    """Every other member of both large clusters founds a cluster of its own."""
    with closing(RocksStore(folder, options=RocksOptions(sync=False))) as store:
        filler = Filler(store)
        for member, count in ((small_member, SMALL), (giant_member, giant)):
            for number in range(1, count, 2):
                filler.add(member(number), member(number), version=2, old=member(0))
        filler.flush()


def measure(folder: Path, images: int, giant: int, seconds: float) -> dict[str, Any]:
    """All parts, on a new store."""
    shutil.rmtree(folder, ignore_errors=True)
    say(f"filling: {images:,} images, one cluster of {SMALL:,} and one of {giant:,}")
    started = time.monotonic()
    fill(folder, images, giant)
    say(f"filled in {time.monotonic() - started:.0f} s")
    result: dict[str, Any] = {"images": images, "giant": giant}
    result["heads"] = heads_in_process(folder, images, seconds)
    result["grpc"] = heads_over_grpc(folder, images, seconds)
    result["pages"] = pages(folder)
    copy = folder.with_name("storage-with-overrides")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    result["overrides"] = overrides(copy, images, seconds)
    shutil.rmtree(copy)
    result["http"] = http_under_load(folder, [name_of(number) for number in range(100)], 2 * seconds)
    say("half of the members leave")
    half_leave(folder, giant)
    result["pages_after_half_left"] = pages(folder)
    result["writes"] = writes(folder, images, 5 * seconds)
    say("filling again, for moves")
    shutil.rmtree(folder)
    fill(folder, images // 10, giant)
    result.update(measure_moves(folder, giant))
    return {**measured_with("benchmarks.storage"), **result}


def show(result: dict[str, Any]) -> None:
    """Prints the tables."""
    for name in ("heads", "grpc", "overrides", "http", "writes"):
        table(name, ("what", "measured"), result[name].items())
    for name in ("pages", "pages_after_half_left"):
        rows = [(where, *each.values()) for where, each in result[name].items()]
        table(name.replace("_", " "), ("page", "6,000 ms", "giant ms", "ratio"), rows)
    show_moves(result)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200_000, help="ordinary images")
    parser.add_argument("--giant", type=int, default=1_100_000, help="members of the giant cluster")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each rate")
    parser.add_argument(
        "--out", type=Path, help="file of the result; default: bench/storage.json below the data folder"
    )
    arguments = parser.parse_args(argv)
    bench = load_settings().data_dir / "bench"
    out = arguments.out or bench / "storage.json"
    run = partial(measure, bench / "storage", arguments.images, arguments.giant, arguments.seconds)
    return carried_out(run, out, show)


if __name__ == "__main__":
    sys.exit(main())
