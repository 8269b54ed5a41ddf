"""The load of `make bench-pipeline`: stretches, the images under way, and what is measured."""

from __future__ import annotations

import json
from typing import Any, cast

from benchmarks.pipeline import load
from benchmarks.pipeline.load import PipelineLoad, Stretch, StretchResult, at_rank
from benchmarks.pipeline.usage import Reading
from manifests.image_files import ImageRow, Vector
from stream.topic_reader import TopicRecord


class _Consumer:
    """Publisher and reader of a consumer that answers one image at each poll, 30 ms after it arrived."""

    def __init__(self) -> None:
        self.waiting: list[str] = []
        self.answered = 0
        self.most = 0

    def send(self, row: ImageRow) -> None:
        self.waiting.append(row.image_id)
        self.most = max(self.most, len(self.waiting))

    def flush(self) -> None: ...

    def poll(self, timeout_s: float) -> list[TopicRecord]:
        if not self.waiting:
            return []
        image_id = self.waiting.pop(0)
        self.answered += 1
        change = {"history_number": self.answered, "image_id": image_id, "head": image_id, "cause": "founded"}
        change |= {"version": 1, "arrived_at_ms": 1_000}
        return [TopicRecord(self.answered, 1_000 + 30 * self.answered, b"", json.dumps(change).encode())]


def _load(consumer: _Consumer, images: int) -> PipelineLoad:
    rows = (ImageRow(f"image-{number}", 1, 0, Vector(1, b""), Vector(1, b"")) for number in range(images))
    readings = iter(range(100))
    read = lambda: Reading({"part": 0.5 * next(readings)}, {"hop": 100 * consumer.answered})  # noqa: E731
    return PipelineLoad(rows, cast(Any, consumer), cast(Any, consumer), read)


def _run(stretch: Stretch, consumer: _Consumer) -> StretchResult:
    return _load(consumer, stretch.images).run(stretch)


def test_a_stretch_ends_with_its_last_verdict() -> None:
    consumer = _Consumer()
    found = _run(Stretch("saturated", 50), consumer)
    assert (consumer.answered, consumer.waiting) == (50, [])
    assert (found.images, found.p50_ms, found.max_ms) == (50, 750, 1_500)
    assert found.part_ms == {"part": 10.0}
    assert found.processor_ms == 10.0
    assert found.hop_bytes == {"hop": 100.0}
    assert found.per_s > 0


def test_at_full_speed_no_more_than_the_window_is_under_way(monkeypatch: Any) -> None:
    monkeypatch.setattr(load, "WINDOW", 40)
    consumer = _Consumer()
    _run(Stretch("saturated", 500), consumer)
    assert consumer.answered == 500
    assert 40 <= consumer.most <= 60


def test_each_stretch_counts_its_own_images() -> None:
    consumer = _Consumer()
    run = _load(consumer, 30)
    assert run.run(Stretch("fill", 10)).max_ms == 300
    assert run.run(Stretch("saturated", 20)).p50_ms == 600


def test_ranks() -> None:
    ranked = list(range(1, 1001))
    assert [at_rank(ranked, share) for share in (0.5, 0.99, 0.999, 1.0)] == [500, 990, 999, 1000]
    assert at_rank([7], 0.5) == 7
    assert at_rank([], 0.99) == 0
