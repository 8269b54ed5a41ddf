"""Images a second and core, from stored embeddings to terms, codes and an index: `make bench-hashing`.

    batches              what the search server does with the 64 records of a batch: parse, check, hash
    bulk                 the same for the batches of an index build, from embeddings that lie in memory
    reading              all embeddings of a store, one after the other
    reading and hashing  both, image by image, as builds and conversions do
    building             a whole `neardup index build --from storage` of a stopped service

Only processor time of this process counts, of all its threads, and matrix products use one thread. So other work on the
machine changes the figures little. The parts take turns; each figure is the median of all rounds.

    python -m benchmarks.hashing                                  what `make bench-hashing` runs
    python -m benchmarks.hashing --images 4000 --rounds 1         a short one
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from statistics import median
from typing import TypeVar

import numpy as np

from benchmarks.machine import measured_with, write_results
from benchmarks.synthetic import SyntheticSettings, Universe
from core.blas import use_one_blas_thread
from core.protos.joined_pb2 import JoinedImage
from core.types import Cause, Decision, ImageId, Move, Outcome, Versions
from neardup.events_pb2 import FLOAT16
from search.index.generations import IndexGenerations
from search.serving.request_parser import RequestParser
from search.serving.search_pb2 import LogEntry
from search.serving.server import index_settings
from storage.embeddings import embedding_pages
from storage.rocks.options import RocksOptions
from storage.rocks.store import RocksStore
from stream.demo.sample import SAMPLE
from stream.index_build.build import build_index
from stream.index_build.rows import index_rows
from stream.index_build.sources import PlacedImage, StoreSource
from stream.servers import search_server_settings
from stream.settings import Settings, load_settings

__all__ = ["measure", "per_second", "placed_images"]

Parts = Mapping[str, Callable[[], int]]
"""Each does its work once, and says with how many images."""

T = TypeVar("T")

_BATCH = 64
_PAGE_BYTES = 8 * 1024 * 1024
_LOG = "order"


def per_second(parts: Parts, rounds: int, clock: Callable[[], float] = time.process_time) -> dict[str, float]:
    """Images a second of each part: the median of some rounds, in turns, after one that is not counted."""
    found: dict[str, list[float]] = {name: [] for name in parts}
    for number in range(rounds + 1):
        for name, part in parts.items():
            started = clock()
            images = part()
            if number:
                found[name].append(images / (clock() - started))
    return {name: median(rates) for name, rates in found.items()}


def placed_images(settings: Settings, count: int) -> Iterator[PlacedImage]:
    """Synthetic images, as densely as photographs lie, with float16 vectors."""
    universe = Universe(settings.path(SAMPLE), SyntheticSettings())
    numbers, originals = np.arange(count), universe.originals(count)
    for start in range(0, count, 1000):
        part = slice(start, start + 1000)
        search, score = universe.vectors(numbers[part], originals[part])
        for place, one, other in zip(numbers[part].tolist(), search, score, strict=True):
            vectors = one.astype("<f2").tobytes(), other.astype("<f2").tobytes()
            yield PlacedImage(place, ImageId(f"image-{place}"), 1, *vectors)


def fill(store: RocksStore, images: Sequence[PlacedImage], codes: Sequence[bytes]) -> None:
    """Each image is its own head."""
    for part in _parts(zip(images, codes, strict=True), 1000):
        store.apply(_LOG, [_founded(image, code) for image, code in part], part[0][0].place - 1, 0)


def measure(settings: Settings, count: int, rounds: int, folder: Path) -> dict[str, float]:
    """Images a second and core of each part."""
    name, _ = settings.signal()
    server = search_server_settings(settings, name)
    parser = RequestParser(server.terms.build(), server.code.build())
    told = index_settings(server, parser.extractor, parser.coder)
    images = list(placed_images(settings, count))
    entries = [_entry(image) for image in images]
    codes = [code.tobytes() for rows in index_rows(images, parser.extractor, parser.coder) for code in rows.codes]
    with closing(RocksStore(folder / "store", "benchmark", RocksOptions(sync=False))) as store:
        fill(store, images, codes)

    def stored(use: Callable[[StoreSource], object]) -> int:
        with (
            closing(RocksStore(folder / "store", "benchmark", RocksOptions(sync=False))) as store,
            store.snapshot() as view,
        ):
            use(StoreSource(embedding_pages(view, _PAGE_BYTES)))
        return count

    def batches() -> int:
        return sum(len(parser.records(part)) for part in _parts(entries, _BATCH))

    def bulk() -> int:
        return sum(len(rows.codes) for rows in index_rows(images, parser.extractor, parser.coder))

    def reading() -> int:
        return stored(lambda source: sum(1 for _ in source))

    def hashing() -> int:
        return stored(lambda source: sum(1 for _ in index_rows(source, parser.extractor, parser.coder)))

    def building() -> int:
        shutil.rmtree(folder / "index", ignore_errors=True)
        generations = IndexGenerations(folder / "index")
        return stored(lambda source: build_index(generations, told, parser, source, None, _Silent()))

    parts = {"batches": batches, "bulk": bulk, "reading": reading, "reading_and_hashing": hashing, "building": building}
    return per_second(parts, rounds)


def _parts(items: Iterable[T], size: int) -> Iterator[list[T]]:
    remaining = iter(items)
    while part := list(islice(remaining, size)):
        yield part


class _Silent:
    """Tells nobody how far a build is."""

    def embeddings(self, done: int, total: int) -> None:
        """See `Watcher`."""

    def order(self, done: int, total: int) -> None:
        """See `Watcher`."""


def _founded(image: PlacedImage, code: bytes) -> Decision:
    return Decision(
        offset=image.place,
        checksum=0,
        outcome=Outcome.DECIDED,
        image_id=image.image_id,
        version=image.version,
        place=image.place,
        moves=(Move(image.image_id, None, image.image_id, Cause.FOUNDED),),
        score_code=code,
        search_vector=image.search_vector,
        score_vector=image.score_vector,
        versions=Versions("model", "index"),
        created_at_ms=1,
        arrived_at_ms=1,
        decided_at_ms=1,
    )


def _entry(image: PlacedImage) -> LogEntry:
    joined = JoinedImage(
        image_id=image.image_id,
        image_version=image.version,
        search_type=FLOAT16,
        search_vector=image.search_vector,
        score_type=FLOAT16,
        score_vector=image.score_vector,
    )
    return LogEntry(offset=image.place, checksum=0, insert=joined)


def main() -> None:
    """Measures, prints a table and writes `var/bench/hashing.json`."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--images", type=int, default=30_000)
    arguments.add_argument("--rounds", type=int, default=5)
    chosen = arguments.parse_args()
    use_one_blas_thread()
    settings = load_settings()
    with tempfile.TemporaryDirectory(prefix="neardup-hashing-", dir=os.environ.get("TMPDIR")) as folder:
        found = measure(settings, chosen.images, chosen.rounds, Path(folder))
    print("| part | images a second and core |\n| --- | --- |")
    for name, rate in found.items():
        print(f"| {name.replace('_', ' ')} | {rate:,.0f} |")
    rates = {f"{name}_images_per_s": round(rate) for name, rate in found.items()}
    write_results(
        settings.data_dir / "bench" / "hashing.json",
        {**rates, "images": chosen.images, "rounds": chosen.rounds, **measured_with("benchmarks.hashing")},
    )


if __name__ == "__main__":
    main()
