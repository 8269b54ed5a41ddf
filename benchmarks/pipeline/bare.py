"""The bare loop: the steps of the sequence called one after the other in one process, on one core.

No Flink, no Kafka, no gRPC; batches of 64 and synced writes, as in the service. It fills the index first, and then
measures. What the service costs beyond it is the cost of its frame. Last it measures which share of the true copies the
term index proposes, which the alternatives have to reach.

    python -m benchmarks.pipeline.bare --images FILE --fill 100000 --measured 20000 --data FOLDER --out FILE
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyflink.common import Row

from benchmarks.pipeline.corpus import Mates, image_name, image_number, open_images, originals_of, parts_of
from benchmarks.pipeline.direct import DirectServers
from benchmarks.service_run import say
from core.protos.joined_pb2 import JoinedImage, JoinedRecord
from manifests.image_files import ImageRow
from operators.assign import AssignStep
from operators.batcher import BatchPolicy
from operators.rows import records
from operators.score import ScoreStep
from operators.search import LogEpoch, SearchFunction, SearchStep
from operators.step import ServerAddress
from search.serving.search_pb2 import SearchQuery
from stream.data_folders import with_data
from stream.settings import load_settings

__all__ = ["BareLoop", "Spent"]

BATCH = 64
_LOG = LogEpoch("bare")
_SAMPLE = 1_000
_QUERIES_A_CALL = 50


@dataclass(slots=True)
class Spent:
    """Seconds that a loop has spent, by step: of the clock, and of the processor."""

    wall_s: Counter[str] = field(default_factory=Counter)
    processor_s: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def on(self, step: str) -> Iterator[None]:
        """Adds what the block takes."""
        wall, processor = time.perf_counter(), time.process_time()
        yield
        self.wall_s[step] += time.perf_counter() - wall
        self.processor_s[step] += time.process_time() - processor

    def summary(self, images: int) -> dict[str, Any]:
        """Images a second, and milliseconds of processor time an image, in all and by step."""
        steps = {step: round(1000 * spent / images, 4) for step, spent in self.processor_s.items()}
        return {
            "images_per_s": round(images / sum(self.wall_s.values()), 1),
            "cpu_ms_per_image": round(sum(steps.values()), 4),
            "step_ms": steps,
        }


class BareLoop:
    """The three steps over servers in this process."""

    def __init__(self, servers: DirectServers) -> None:
        """Takes the servers; the first image gets position 0."""
        self._search = SearchStep(servers.search, _LOG.log_id, lambda reason: None)
        self._score = ScoreStep(servers.scorer, servers.search, lambda reason: None)
        self._assign = AssignStep(servers.search, servers.scorer, servers.storage, _LOG, lambda reason: None)
        # It makes the items of a record, and opens nothing.
        self._source = SearchFunction(BatchPolicy(), ServerAddress("", 1.0, 1), _LOG)
        self._offset = 0

    def run(self, rows: Sequence[ImageRow], spent: Spent) -> None:
        """Takes one batch from the records of `joined` to the synced write."""
        payloads = [_joined(row) for row in rows]
        with spent.on("search"):
            items = [
                item
                for offset, payload in enumerate(payloads, self._offset)
                for item in self._source.items(Row(payload, offset, None))
            ]
            found = self._search.call(items).outputs
        for row in found:
            with spent.on("score"):
                scored = self._score.call(records(row[1])).outputs
            for each in scored:
                with spent.on("assign"):
                    pending = records(each[1])
                    while pending:
                        pending = pending[self._assign.call(pending).count :]
        self._offset += len(rows)


def _joined(row: ImageRow) -> bytes:
    image = JoinedImage(
        image_id=row.image_id,
        image_version=row.version,
        search_type=row.search.element_type,
        search_vector=row.search.data,
        score_type=row.score.element_type,
        score_vector=row.score.data,
        arrived_at_ms=time.time_ns() // 10**6,
    )
    return JoinedRecord(image=image).SerializeToString(deterministic=True)


def _recall(servers: DirectServers, mates: Mates, candidates: int) -> float:
    images = mates.sample(_SAMPLE, candidates)
    found = []
    for first in range(0, len(images), _QUERIES_A_CALL):
        asked = [SearchQuery(image_id=image_name(each)) for each in images[first : first + _QUERIES_A_CALL]]
        answers = servers.search.search(asked).answers
        found += [[image_number(name) for name in answer.candidates.image_ids] for answer in answers]
    return mates.recall(images, found)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the loop and writes what it found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="the file of the images")
    parser.add_argument("--fill", type=int, required=True, help="images before the measurement")
    parser.add_argument("--measured", type=int, required=True, help="images of the measurement")
    parser.add_argument("--data", type=Path, required=True, help="the folder of index and store; it must be new")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(argv)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    settings = with_data(load_settings(), arguments.data)
    _, signal = settings.signal()
    images = open_images(settings, arguments.images)
    servers = DirectServers(settings)
    loop, rows = BareLoop(servers), iter(images)
    say(f"bare loop: {arguments.fill:,} images to fill, {arguments.measured:,} measured")
    filling, spent = Spent(), Spent()
    for part in parts_of(rows, arguments.fill, BATCH):
        loop.run(part, filling)
    for part in parts_of(rows, arguments.measured, BATCH):
        loop.run(part, spent)
    placed = arguments.fill + arguments.measured
    originals = originals_of(arguments.images)
    candidates = signal.terms.candidates
    result = {
        **spent.summary(arguments.measured),
        "candidates": candidates,
        "recall_of_copies": round(_recall(servers, Mates(originals[:placed]), candidates), 4),
        "clusters": servers.store.state().clusters,
    }
    servers.close()
    arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
