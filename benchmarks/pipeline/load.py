"""Images into Kafka and verdicts out of it, in stretches: at a rate, or as fast as verdicts come.

The service and each of its alternatives read the same two topics and publish the same changes, so one load measures
all of them. At full speed no more than `WINDOW` images are under way, so that the load generator works as long as the
consumer does, and neither measures a backlog.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from benchmarks.pipeline.usage import Reading, per_image
from benchmarks.service_run import await_verdicts, say
from manifests.image_files import ImageRow
from stream.publish import Publisher, SendSchedule
from stream.topic_reader import TopicReader
from stream.verdicts import Verdicts

__all__ = ["WINDOW", "PipelineLoad", "Stretch", "StretchResult", "at_rank"]

WINDOW = 2_000
"""The most images under way at full speed: some seconds of work."""

_POLL_EVERY = 20


@dataclass(frozen=True, slots=True)
class Stretch:
    """A number of images that come one after the other."""

    name: str
    images: int
    rate: float | None = None
    """Images a second; None: as fast as verdicts come."""


@dataclass(frozen=True, slots=True)
class StretchResult:
    """What was measured over one stretch. Processor times are milliseconds an image."""

    name: str
    images: int
    per_s: float
    """Verdicts a second, from the first image sent to the last verdict."""
    p50_ms: int
    p99_ms: int
    p999_ms: int
    max_ms: int
    part_ms: dict[str, float]
    generator_ms: float
    """Of this process, which sends images and reads verdicts."""
    hop_bytes: dict[str, float]

    @property
    def processor_ms(self) -> float:
        """Of all parts, without the generator."""
        return sum(self.part_ms.values())


def at_rank(ranked: Sequence[int], share: float) -> int:
    """The value below or at which a share of sorted values lies, by nearest rank; 0 without values."""
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)] if ranked else 0


class PipelineLoad:
    """Sends the images of one file to one consumer."""

    def __init__(
        self, rows: Iterator[ImageRow], publisher: Publisher, changes: TopicReader, read: Callable[[], Reading]
    ) -> None:
        """Takes what it needs.

        Args:
            rows: The images that are left.
            publisher: Where they go.
            changes: Of the topic `assignments`, from its beginning.
            read: The counters of the consumer.
        """
        self._rows = rows
        self._publisher = publisher
        self._changes = changes
        self._read = read
        self._verdicts = Verdicts()
        self._sent = 0

    def run(self, stretch: Stretch) -> StretchResult:
        """Sends a stretch and waits for all of its verdicts.

        Raises:
            UnavailableError: Verdicts do not come, or a part was started again.
        """
        say(f"{stretch.name}: {stretch.images:,} images" + (f" at {stretch.rate:g} a second" if stretch.rate else ""))
        known = len(self._verdicts.waits_ms)
        before, processor_s = self._read(), time.process_time()
        started = time.monotonic()
        self._send(stretch)
        await_verdicts(self._verdicts, self._changes, self._sent)
        elapsed = time.monotonic() - started
        generator_s = time.process_time() - processor_s
        after = self._read()
        waits = sorted(islice(self._verdicts.waits_ms.values(), known, None))
        found = StretchResult(
            name=stretch.name,
            images=stretch.images,
            per_s=round(stretch.images / elapsed, 1),
            p50_ms=at_rank(waits, 0.5),
            p99_ms=at_rank(waits, 0.99),
            p999_ms=at_rank(waits, 0.999),
            max_ms=at_rank(waits, 1.0),
            part_ms=per_image(before.processor_s, after.processor_s, stretch.images, 1000.0),
            generator_ms=round(1000 * generator_s / stretch.images, 4),
            hop_bytes=per_image(before.hop_bytes, after.hop_bytes, stretch.images),
        )
        rate = f"{found.per_s:,.0f}/s, p50 {found.p50_ms:,}, p99 {found.p99_ms:,} ms"
        say(f"  {rate}, {found.processor_ms:.2f} ms of processor time an image")
        return found

    def _send(self, stretch: Stretch) -> None:
        schedule = None if stretch.rate is None else SendSchedule(stretch.rate)
        for row in islice(self._rows, stretch.images):
            if schedule is not None:
                schedule.wait()
            self._publisher.send(row)
            self._sent += 1
            if self._sent % _POLL_EVERY == 0:
                self._verdicts.take(self._changes.poll(0.0))
                if schedule is None:
                    await_verdicts(self._verdicts, self._changes, self._sent - WINDOW)
        self._publisher.flush()
