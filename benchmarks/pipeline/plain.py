"""What somebody writes instead of a service: one consumer of both topics, with everything in its own process.

It decides images one by one, or all that a poll completes together, and sends changes to `assignments` in the service's
form. It has no order, no replays and no explanations, and a crash loses what was under way.

    python -m benchmarks.pipeline.plain --images FILE --fill 100000 --kind hnsw --recall 0.9 --folder FOLDER
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import signal as signals
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event
from typing import Any, get_args

import numpy as np
from kafka import KafkaConsumer, KafkaProducer
from numpy.typing import NDArray

from benchmarks.pipeline.corpus import Mates, image_name, open_images, originals_of, parts_of
from benchmarks.pipeline.deciding import CompleteImage, DictJoin, HeadStore, PlainDecider, PlainHead, PlainParts
from benchmarks.pipeline.neighbours import Kind, NearestCodes, choose_effort
from core.blas import use_one_blas_thread
from core.vectors import vector_values
from manifests.image_files import ImageFile
from scoring.model import model_class
from scoring.model_folder import ModelFolder
from stream.hashing import code_settings, term_settings
from stream.kafka_access import KafkaAccess
from stream.settings import Settings, load_settings

__all__ = ["READY", "has_quix"]

READY = "ready"
"""A file in the folder of a consumer that reads: what was chosen for its index, as JSON."""

_MAX_POLL = 500
_POLL_MS = 20
_FILL_BATCH = 256

Take = Callable[[list[CompleteImage]], None]


def has_quix() -> bool:
    """Whether Quix Streams is installed."""
    return importlib.util.find_spec("quixstreams") is not None


class ChangeSender:
    """Sends what was decided to `assignments`, as the storage server does."""

    def __init__(self, access: KafkaAccess, topic: str) -> None:
        """Connects."""
        self._producer = KafkaProducer(**access.python_options(), linger_ms=5)
        self._topic = topic
        self._number = 0

    def send(self, decided: Sequence[PlainHead]) -> None:
        """Sends one record an image."""
        for each in decided:
            self._number += 1
            image = each.image
            change = {
                "history_number": self._number,
                "image_id": image.image_id,
                "version": image.version,
                "head": each.head,
                "cause": "founded" if each.head == image.image_id else "matched",
                "arrived_at_ms": image.arrived_at_ms,
            }
            self._producer.send(self._topic, key=image.image_id.encode(), value=json.dumps(change).encode())

    def close(self) -> None:
        """Sends what is left."""
        self._producer.close()


def consume(settings: Settings, take: Take, stopped: Event) -> None:
    """Reads both topics with kafka-python and hands on the images that each poll completes, until it is stopped."""
    _, signal = settings.signal()
    search, join = signal.topic("search"), DictJoin()
    consumer = KafkaConsumer(
        search,
        signal.topic("score"),
        **settings.kafka_access("plain-consumer").python_options(),
        group_id="plain-consumer",
        auto_offset_reset="earliest",
        max_poll_records=_MAX_POLL,
    )
    while not stopped.is_set():
        polled = consumer.poll(timeout_ms=_POLL_MS)
        records = [record for records in polled.values() for record in records]
        complete = [join.take(record.topic == search, record.value, record.timestamp) for record in records]
        take([image for image in complete if image is not None])
    consumer.close()


def consume_with_quix(settings: Settings, take: Take) -> None:
    """The same as an application of Quix Streams, which hands on one record after the other and ends at SIGTERM."""
    from quixstreams import Application

    _, signal = settings.signal()
    join = DictJoin()
    app = Application(
        broker_address=settings.kafka_access("quix").bootstrap,
        consumer_group="quix-consumer",
        auto_offset_reset="earliest",
        loglevel="ERROR",
    )

    def taking(of_search: bool) -> Callable[[Any, Any, int, Any], None]:
        def taken(value: bytes, key: Any, timestamp_ms: int, headers: Any) -> None:
            image = join.take(of_search, value, timestamp_ms)
            if image is not None:
                take([image])

        return taken

    for topic, of_search in ((signal.topic("search"), True), (signal.topic("score"), False)):
        source = app.topic(topic, key_deserializer="bytes", value_deserializer="bytes")
        app.dataframe(source).update(taking(of_search), metadata=True)
    app.run()


def filled(
    parts: PlainParts, images: ImageFile, heads: Sequence[str], kept: Path
) -> tuple[PlainDecider, NDArray[np.uint8]]:
    """A decider that knows the first images of a file with these heads, and their bits, (n, bytes)."""
    decider = PlainDecider(parts, images.rows)
    bits = np.empty((len(heads), parts.extractor.settings.bits // 8), np.uint8)
    at = 0
    for rows in parts_of(iter(images), len(heads), _FILL_BATCH):
        search = [vector_values(row.search.element_type, row.search.data) for row in rows]
        score = [vector_values(row.score.element_type, row.score.data) for row in rows]
        bits[at : at + len(rows)] = np.packbits(parts.extractor.bits(search), axis=1)
        decider.fill([row.image_id for row in rows], heads[at : at + len(rows)], parts.coder.codes(score, search))
        at += len(rows)
    parts.index.fill(bits, kept)
    return decider, bits


def opened(settings: Settings, kind: Kind, folder: Path) -> PlainParts:
    """The parts of a consumer: our model and hashing, an empty index, a new store."""
    _, signal = settings.signal()
    use_one_blas_thread()
    model_kind = model_class(signal.model_class)
    model_kind.configure(1)
    models = ModelFolder(settings.path(signal.model))
    model = models.load(models.served(), model_kind)
    model.warm_up()
    terms = term_settings(settings, signal)
    return PlainParts(
        extractor=terms.build(),
        coder=code_settings(settings, signal).build(),
        model=model,
        index=NearestCodes(kind, terms.bits),
        store=HeadStore(folder / f"heads-{time.time_ns()}"),
        candidates=signal.terms.candidates,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Fills, says that it is ready, and consumes until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="the file of the images")
    parser.add_argument("--fill", type=int, required=True, help="images that are known from the beginning")
    parser.add_argument("--kind", choices=get_args(Kind), required=True, help="of the FAISS index")
    parser.add_argument("--recall", type=float, required=True, help="the share of copies that a graph must find")
    parser.add_argument("--batches", action="store_true", help="decide all images of a poll together")
    parser.add_argument("--quix", action="store_true", help="as an application of Quix Streams")
    parser.add_argument("--folder", type=Path, required=True, help="of store and index")
    arguments = parser.parse_args(argv)
    stopped = Event()
    if not arguments.quix:
        signals.signal(signals.SIGTERM, lambda *_: stopped.set())
    settings = load_settings()
    parts = opened(settings, arguments.kind, arguments.folder)
    images = open_images(settings, arguments.images)
    originals = originals_of(arguments.images)[: arguments.fill]
    heads = [image_name(original) for original in originals.tolist()]
    decider, bits = filled(parts, images, heads, arguments.folder / f"{arguments.kind}.index")
    effort, share = choose_effort(parts.index, bits, Mates(originals), parts.candidates, arguments.recall)
    sender = ChangeSender(settings.kafka_access("plain-producer"), settings.signal()[1].topic("assignments"))

    def take(complete: list[CompleteImage]) -> None:
        for part in [complete] if arguments.batches else [[each] for each in complete]:
            if part:
                sender.send(decider.decide(part))

    ready = json.dumps({"effort": effort, "recall_of_copies": share})
    (arguments.folder / READY).write_text(ready, encoding="utf-8")
    if arguments.quix:
        consume_with_quix(settings, take)
    else:
        consume(settings, take, stopped)
    sender.close()
    parts.store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
