"""What a bulk move costs, and the stream beside it: part of `make bench-storage`.

    python -m benchmarks.storage_moves --giant 100000            this part alone, on a smaller cluster
    python -m benchmarks.storage_moves --giant 100000 --forgets  only what forgetting the head of the cluster costs

Beside each move the stream writes 200 new images a second, in synced batches of 64, from a thread of the same process,
as the storage server does. Measured are its waits before, while the move is planned, and while the records are
rewritten (at most twenty writes a second, as the server makes them); pages of the cluster; the memory that the process
grows by. Of the split also what the start of the storage server takes before and after it, and its undo, which asks for
all images again. A head is forgotten twice, as a bulk move and in one write; the stream waits while that is applied.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil

from benchmarks.machine import measured_with
from benchmarks.search.results import table
from benchmarks.search.timing import percentiles_ms
from benchmarks.service_run import carried_out, say
from benchmarks.storage_fill import BATCH, LOG, PAGE, Filler, decision, fill, giant_member, name_of
from core.errors import StaleError
from core.overrides import (
    MAX_IMAGES,
    OVERRIDE_KIND,
    NewImages,
    OverrideKind,
    OverrideOutcome,
    OverrideRequest,
    RollbackRequest,
)
from core.types import NO_HEAD, Cause, ImageId, Move, Outcome, Tombstone
from storage.rocks.options import RocksOptions
from storage.rocks.store import RocksStore
from storage.serving.assignments import Message
from storage.serving.topic_loss import TopicView
from storage.serving.undo_outbox import UndoOutbox
from stream.settings import load_settings

__all__ = ["measure_forgets", "measure_moves", "show_moves"]

RATE = 200
"""Images a second of the stream beside a move."""

MOVES = ("rollback", "merge", "split")

CHUNK, CHUNKS_A_SECOND = 250, 20
BEFORE_S = 10.0


class Stream:
    """Writes new images at a steady rate until it is stopped, and keeps how long each write took."""

    def __init__(self, store: RocksStore, batch: int = BATCH) -> None:
        self._store = store
        self._batch = batch
        self._stopped = threading.Event()
        self.took: list[float] = []
        self.refused = 0
        """Writes that were staged for an earlier state: the job looks up again then."""
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stopped.is_set():
            state = self._store.state()
            offset = state.position.offset
            names = [name_of(10**9 + offset + n) for n in range(self._batch)]
            batch = [decision(offset + 1 + n, name, name) for n, name in enumerate(names)]
            started = time.perf_counter()
            try:
                self._store.apply(LOG, batch, offset, state.revision, (OVERRIDE_KIND,))
            except StaleError:
                self.refused += 1
            self.took.append(time.perf_counter() - started)
            due += self._batch / RATE
            self._stopped.wait(max(0.0, due - time.monotonic()))

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Runs while the block does."""
        self._thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            self._thread.join()


class Memory:
    """The most memory that the process takes, by samples."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._before = self._mib()
        self.most = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(0.05):
            self.most = max(self.most, self._mib() - self._before)

    def _mib(self) -> float:
        return float(self._process.memory_info().rss) / 2**20


def _settled(store: RocksStore) -> None:
    while True:
        started = time.monotonic()
        if not store.settle(CHUNK):
            return
        time.sleep(max(0.0, 1 / CHUNKS_A_SECOND - (time.monotonic() - started)))


def _page_ms(store: RocksStore, head: ImageId) -> float:
    started = time.perf_counter()
    store.members(head, PAGE)
    return 1000 * (time.perf_counter() - started)


def _moved(store: RocksStore, request: OverrideRequest, head: ImageId) -> dict[str, Any]:
    """One move with the stream beside it."""
    calm, planned, rewritten = Stream(store), Stream(store), Stream(store)
    with calm.beside():
        time.sleep(BEFORE_S)
    with Memory() as memory:
        with planned.beside():
            started = time.monotonic()
            outcome: OverrideOutcome = store.override(request, 1)
            planned_s = time.monotonic() - started
        page_ms = _page_ms(store, head)
        with rewritten.beside():
            started = time.monotonic()
            _settled(store)
            rewritten_s = time.monotonic() - started
    return {
        "images": len(outcome.moves) + outcome.unlisted,
        "planned_s": round(planned_s, 1),
        "rewritten_s": round(rewritten_s, 1),
        "memory_mib": round(memory.most),
        "first_page_at_once_ms": round(page_ms, 1),
        "first_page_afterwards_ms": round(_page_ms(store, head), 1),
        "stream_p99_ms_before": percentiles_ms(calm.took)["p99_ms"],
        "stream_p99_ms_while_planned": percentiles_ms(planned.took)["p99_ms"],
        "stream_p99_ms_while_rewritten": percentiles_ms(rewritten.took)["p99_ms"],
        "stream_longest_ms": round(1000 * max(planned.took + rewritten.took), 1),
        "looked_up_again": planned.refused + rewritten.refused,
    }


def measure_moves(folder: Path, giant: int) -> dict[str, Any]:
    """A rollback of as many changes as the giant cluster has members, a merge of it into another cluster, and a split
    of half of its members out of that one. It changes the store.
    """
    with closing(RocksStore(folder)) as store:
        store.apply(LOG, (), store.position().offset, store.state().revision, (OVERRIDE_KIND,))
        say("every member of the giant cluster leaves it")
        change = store.state().history_number
    with closing(RocksStore(folder, options=RocksOptions(sync=False))) as store:
        filler = Filler(store, (OVERRIDE_KIND,))
        for number in range(1, giant):
            filler.add(giant_member(number), giant_member(number), version=2, old=giant_member(0))
        filler.flush()
    with closing(RocksStore(folder)) as store:
        say("rolling it back")
        asked = RollbackRequest(to_change=change, new=NewImages.KEEP)
        rollback = _moved(store, OverrideRequest(OverrideKind.ROLLBACK, rollback=asked), giant_member(0))
        say("merging the giant cluster into another one")
        target = name_of(0)
        merge = _moved(store, OverrideRequest(OverrideKind.MERGE, (giant_member(0),), target), target)
    return {"rollback": rollback, "merge": merge, **measure_split(folder, giant, target)}


def measure_split(folder: Path, giant: int, head: ImageId) -> dict[str, Any]:
    """A split of half of the giant cluster's members (at most 100,000) out of the cluster of a head, and its undo."""
    before = _started(folder)
    with closing(RocksStore(folder)) as store:
        store.apply(LOG, (), store.position().offset, store.state().revision, (OVERRIDE_KIND,))
        say("splitting half of its members off")
        images = tuple(map(giant_member, range(1, 1 + min(MAX_IMAGES, giant // 2))))
        split = _moved(store, OverrideRequest(OverrideKind.SPLIT, images, head), images[0])
    after = _started(folder)
    with closing(RocksStore(folder)) as store:
        say("undoing it")
        undo = _undone(store, store.state().overrides)
    return {"split": split, "starts": {"before_the_split": before, "after_the_split": after}, "undo": undo}


def _started(folder: Path) -> dict[str, float]:
    """What a process takes to open the store."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(_opened, folder).result()


def _opened(folder: Path) -> dict[str, float]:
    process = psutil.Process()
    before, started = process.memory_info().rss, time.perf_counter()
    with closing(RocksStore(folder)):
        took = time.perf_counter() - started
        return {"s": round(took, 2), "mib": round((process.memory_info().rss - before) / 2**20, 1)}


class _Counting:
    """A topic that counts."""

    def __init__(self) -> None:
        self.sent = 0

    def look(self) -> AbstractContextManager[TopicView]:
        raise NotImplementedError

    def send(self, messages: Sequence[Message], stopping: Callable[[], bool]) -> Sequence[int]:
        self.sent += len(messages)
        return range(len(messages))

    def close(self) -> None:
        """Nothing is open."""


def _undone(store: RocksStore, number: int) -> dict[str, Any]:
    topic = _Counting()
    outbox = UndoOutbox(store, lambda lane: topic, lambda kinds: None, lambda: None)
    with Memory() as memory:
        started = time.monotonic()
        store.override(OverrideRequest(OverrideKind.UNDO, undoes=number), 1)
        said_s = time.monotonic() - started
        outbox.publish_available()
        queued_s = time.monotonic() - started - said_s
    return {
        "images": topic.sent,
        "said_s": round(said_s, 2),
        "queued_s": round(queued_s, 1),
        "memory_mib": round(memory.most),
    }


def measure_forgets(folder: Path) -> dict[str, Any]:
    """Forgets the head of the giant cluster as a bulk move, and its heir in one write. It changes the store."""
    say("forgetting the head of the giant cluster")
    with closing(RocksStore(folder, moves_at_once=0)) as store:
        bulk = _forgotten(store, giant_member(0))
    with closing(RocksStore(folder, moves_at_once=10**9)) as store:
        at_once = _forgotten(store, giant_member(1))
    return {"forget": bulk, "forget_at_once": at_once}


def _forgotten(store: RocksStore, head: ImageId) -> dict[str, Any]:
    state = store.state()
    offset = state.position.offset + 1
    forget = replace(
        decision(offset, head, head),
        outcome=Outcome.DELETED,
        moves=(Move(head, head, NO_HEAD, Cause.DELETED),),
        tombstone=Tombstone(head, 1, offset, offset),
        forget=True,
    )
    with Memory() as memory:
        started = time.monotonic()
        store.apply(LOG, [forget], offset - 1, state.revision, (OVERRIDE_KIND,))
        applied_s = time.monotonic() - started
    images = store.state().history_number - state.history_number - 1  # one is of the head
    rewritten = Stream(store)
    with rewritten.beside():
        started = time.monotonic()
        _settled(store)
        rewritten_s = time.monotonic() - started
    return {
        "images": images,
        "applied_s": round(applied_s, 1),
        "memory_mib": round(memory.most),
        "rewritten_s": round(rewritten_s, 1),
        "stream_p99_ms_while_rewritten": percentiles_ms(rewritten.took)["p99_ms"],
    }


def _measure(folder: Path, images: int, giant: int, *, forgets: bool) -> dict[str, Any]:
    shutil.rmtree(folder, ignore_errors=True)
    say(f"filling: {images:,} images and a cluster of {giant:,}")
    fill(folder, images, giant)
    found = measure_forgets(folder) if forgets else measure_moves(folder, giant)
    return {**measured_with("benchmarks.storage_moves"), **found}


def show_moves(result: dict[str, Any]) -> None:
    """Prints a table of the moves."""
    if "forget" in result:
        told = [(what, result["forget"][what], result["forget_at_once"][what]) for what in result["forget"]]
        table("a forgotten head", ("what", "bulk move", "one write"), told)
        return
    rows = [(what, *(result[move][what] for move in MOVES)) for what in result["merge"]]
    table("moves beside the stream", ("what", *MOVES), rows)
    starts = result["starts"]
    table("starts", ("start", "s", "MiB"), [(what, each["s"], each["mib"]) for what, each in starts.items()])
    table("undo of the split", ("what", "measured"), list(result["undo"].items()))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs this part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000, help="ordinary images")
    parser.add_argument("--giant", type=int, default=1_100_000, help="members of the cluster that moves")
    parser.add_argument("--forgets", action="store_true", help="only forgotten heads")
    parser.add_argument("--out", type=Path, help="file of the result; default: bench/storage-moves.json")
    arguments = parser.parse_args(argv)
    bench = load_settings().data_dir / "bench"
    out = arguments.out or bench / "storage-moves.json"
    folder = bench / "storage-moves"
    return carried_out(
        lambda: _measure(folder, arguments.images, arguments.giant, forgets=arguments.forgets), out, show_moves
    )


if __name__ == "__main__":
    sys.exit(main())
