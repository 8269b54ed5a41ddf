"""Insert-and-search at 200 a second into the ordinary corpus: how long an image waits for its answer.

Images arrive at random moments (exponential gaps). Whatever arrived while one call was under way goes into the next,
64 at most. Each gets the nearest 20 of the first 1,000. An image's time is from its arrival to the return of its call.

The tail is nearly full when the clock starts, so that a segment is sealed, and the next tail begun, a tenth of the way
into the measurement. For the rows with merging the corpus lies in four segments, which the index begins to merge into
one as soon as it is open; only images that arrive before that is done count. In the same measurement run a bare append
with fsync of about the same size, as often, and calls that do nothing: what these take is the machine's, which now and
then wakes a sleeping thread late.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.search.bench import FEW_LONG, Bench
from benchmarks.search.corpus import Corpus, CorpusSettings, make_corpus, terms_of
from benchmarks.search.engine import LOG_ID, fill, index_settings, inserts, opened
from benchmarks.search.results import table
from benchmarks.search.timing import percentiles_ms
from search.index.interface import TermIndex
from search.ranking import Order

__all__ = ["measure", "open_loop"]

_RATE = 200.0
_MOST = 64
_FULL_AFTER = 0.1
"""The share of the measured images with which the tail is full; those before them go in before the clock counts."""


def measure(bench: Bench) -> dict[str, Any]:
    """With and without merging, with and without sync."""
    count = round(_RATE * bench.seconds(30.0))
    ahead = index_settings(FEW_LONG).seal_entries - round(_FULL_AFTER * count)
    fresh = make_corpus(CorpusSettings(ahead + count, seed=bench.seed + 1))
    rows = {}
    for sync in (False, True):
        for merging in (False, True):
            name = ("sync" if sync else "no sync") + (", merging" if merging else ", no merge")
            rows[name] = _inserted(bench, fresh, ahead, sync=sync, merging=merging)
    rows["bare append and fsync"] = _bare(bench.folder / "bare", count)
    rows["nothing at all"] = _nothing(count)
    table(
        f"Insert-and-search at {_RATE:.0f}/s into {bench.images:,} images, {FEW_LONG.name}, top 100",
        ["", "p50 ms", "p99 ms", "longest", "images a call", "seals", "merging, share of the time"],
        [
            [name, *(row.get(key, "") for key in ("p50_ms", "p99_ms", "max_ms", "per_call", "seals", "merging"))]
            for name, row in rows.items()
        ],
    )
    return {"images": bench.images, "rate": _RATE, "rows": rows}


def _inserted(bench: Bench, fresh: Corpus, ahead: int, *, sync: bool, merging: bool) -> dict[str, Any]:
    folder = bench.folder / "growing"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(_built(bench, merging=merging), folder, copy_function=_link)
    os.sync()  # what was written until now is none of the index's business
    try:
        settings = index_settings(FEW_LONG, 20, order=Order.DISTANCE, sync=sync)
        with opened(folder, settings) as index:
            first = index.position.offset + 1
            records = inserts(terms_of(fresh.codes, FEW_LONG), fresh.codes, first)
            for start in range(0, ahead, _MOST):
                index.insert_and_search(LOG_ID, records[start : min(start + _MOST, ahead)])
            sealed = _sealed(index)
            with _Watch(index) as watch:
                waits, calls = open_loop(
                    len(records) - ahead,
                    lambda lo, hi: index.insert_and_search(LOG_ID, records[ahead + lo : ahead + hi]),
                    until=(lambda: watch.idle) if merging else None,
                )
            return {
                **percentiles_ms(waits),
                "images": len(waits),
                "per_call": round(len(waits) / calls, 2),
                "seals": round((_sealed(index) - sealed) / settings.seal_entries),
                "merging": round(watch.share, 2),
                "segments": index.stats().segments,
            }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sealed(index: TermIndex) -> int:
    """Entries in segments."""
    stats = index.stats()
    return stats.entries - stats.tail


def _built(bench: Bench, *, merging: bool) -> Path:
    if not merging:
        return bench.index(FEW_LONG)
    folder = bench.place("ours-in-four")
    fill(folder, bench.terms(FEW_LONG), bench.corpus.codes, FEW_LONG, segment_entries=-(-bench.images // 4))
    return folder


def _link(source: str, target: str) -> None:
    """Copies a file, but links segments, which never change: copying them would keep the disk busy for long."""
    if Path(source).name.startswith("segment"):
        os.link(source, target)
    else:
        shutil.copy2(source, target)


class _Watch:
    """Looks five times a second whether a merge is under way."""

    def __init__(self, index: TermIndex) -> None:
        self._index = index
        self._seen: list[bool] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._stopped.set()
        self._thread.join()

    @property
    def idle(self) -> bool:
        """No merge was seen the last two times."""
        return len(self._seen) > 2 and not any(self._seen[-2:])

    @property
    def share(self) -> float:
        """Of the looks, how many met a merge."""
        return sum(self._seen) / max(1, len(self._seen))

    def _run(self) -> None:
        while not self._stopped.wait(0.2):
            self._seen.append(self._index.stats().merging)


def open_loop(
    count: int, call: Callable[[int, int], object], rate: float = _RATE, until: Callable[[], bool] | None = None
) -> tuple[list[float], int]:
    """Calls with what has arrived, until the last image or until told; waits in seconds, and how many calls."""
    arrivals = np.cumsum(np.random.default_rng(13).exponential(1 / rate, count)).tolist()
    started = time.perf_counter()
    waits: list[float] = []
    done = calls = 0
    while done < count and not (calls and until is not None and until()):
        pause = arrivals[done] - (time.perf_counter() - started)
        if pause > 0:
            time.sleep(pause)
        now = time.perf_counter() - started
        end = done + 1
        while end < count and end - done < _MOST and arrivals[end] <= now:
            end += 1
        call(done, end)
        finished = time.perf_counter() - started
        waits += [finished - arrival for arrival in arrivals[done:end]]
        done, calls = end, calls + 1
    return waits, calls


def _nothing(count: int) -> dict[str, Any]:
    """Calls that return at once."""
    waits, calls = open_loop(min(count, 2_000), lambda *_: None)
    return {**percentiles_ms(waits), "per_call": round(len(waits) / calls, 2)}


def _bare(path: Path, count: int) -> dict[str, Any]:
    """Appends of an image's size, each forced to the disk."""
    image = os.urandom(400)
    with path.open("wb", buffering=0) as file:

        def append(first: int, end: int) -> None:
            file.write(image * (end - first))
            os.fdatasync(file.fileno())

        waits, calls = open_loop(min(count, 2_000), append)
    path.unlink()
    return {**percentiles_ms(waits), "per_call": round(len(waits) / calls, 2)}
