"""A sender of images that keeps sending while Kafka comes and goes.

It behaves as a sender should. What was not acknowledged is sent again. After a power cut of the broker it sends again
what it sent shortly before, because a broker without a replica acknowledges before it writes to disk.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from core.errors import ServiceError
from manifests.image_files import ImageRow
from stream.publish import Publisher
from tests.support.stack import Stack

_CONFIRM_EVERY = 20
"""Images between two waits for acknowledgement."""


class Flow:
    """Sends images at a rate on its own thread, between `start` and `stop`."""

    def __init__(
        self,
        stack: Stack,
        rows: Iterator[ImageRow],
        rate: float,
        traced: Callable[[ImageRow], bool] = lambda row: False,
    ) -> None:
        """Sends nothing yet.

        Args:
            stack: Where to.
            rows: What to send.
            rate: Images per second.
            traced: Whether an image asks for a trace.
        """
        self._stack = stack
        self._rows = rows
        self._traced = traced
        self._pause_s = 1 / rate
        self._lock = threading.Lock()
        self._again: list[ImageRow] = []
        self._sent: list[tuple[float, ImageRow]] = []
        self._cuts = 0
        self._stopped = threading.Event()
        self._sending = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="flow", daemon=True)

    def start(self) -> None:
        """Begins to send."""
        self._thread.start()

    def stop(self) -> None:
        """Returns once everything that was begun is acknowledged."""
        self._stopped.set()
        self._thread.join(300)
        assert not self._thread.is_alive(), "Kafka does not acknowledge"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Sends nothing inside, once everything that was begun is acknowledged."""
        while True:
            self._sending.acquire()
            with self._lock:
                if not self._again:
                    break
            self._sending.release()
            time.sleep(0.1)
        try:
            yield
        finally:
            self._sending.release()

    @property
    def ids(self) -> set[str]:
        """All images that were acknowledged."""
        with self._lock:
            return {row.image_id for _, row in self._sent}

    @property
    def sent(self) -> list[tuple[float, ImageRow]]:
        """What was acknowledged, each with its moment of `time.monotonic`."""
        with self._lock:
            return list(self._sent)

    def add(self, rows: Sequence[ImageRow]) -> None:
        """Sends these next."""
        with self._lock:
            self._again += rows

    def send_again(self, since: float) -> int:
        """Sends again what was acknowledged at or after a moment of `time.monotonic`; returns how many images.

        So is what is being sent now: some of it may have been acknowledged before the power was cut.
        """
        with self._lock:
            self._cuts += 1
            rows = [row for moment, row in self._sent if moment >= since]
            self._again += rows
        return len(rows)

    def _run(self) -> None:
        while not self._done():
            with self._sending:
                self._send_batch()
            time.sleep(0.01)  # for whoever waits to hold the flow

    def _done(self) -> bool:
        with self._lock:
            return self._stopped.is_set() and not self._again

    def _send_batch(self) -> None:
        batch = self._next_batch()
        try:
            self._send(batch)
        except ServiceError:
            with self._lock:
                self._again = batch + self._again
            time.sleep(0.5)

    def _next_batch(self) -> list[ImageRow]:
        with self._lock:
            if self._again:
                batch, self._again = self._again[:_CONFIRM_EVERY], self._again[_CONFIRM_EVERY:]
                return batch
        return [next(self._rows) for _ in range(_CONFIRM_EVERY)]

    def _send(self, batch: Sequence[ImageRow]) -> None:
        with self._lock:
            cuts = self._cuts
        with Publisher(self._stack.settings) as publisher:
            for row in batch:
                publisher.send(row, trace=self._traced(row))
                time.sleep(self._pause_s)
            publisher.flush()
        moment = time.monotonic()
        with self._lock:
            self._sent += [(moment, row) for row in batch]
            if self._cuts != cuts:
                self._again += batch


def ordinary_and_abuse(rows: Sequence[ImageRow], seed: int) -> Iterator[ImageRow]:
    """An endless mixture: images of the sample under ever new ids, a wave of one picture, new versions of one id.

    Args:
        rows: Of the sample.
        seed: Of the order.
    """
    chance = random.Random(seed)
    number = versions = 0
    while True:
        number += 1
        kind = chance.random()
        if kind < 0.1:
            versions += 1
            row = chance.choice(rows)
            yield ImageRow("hot", versions, 0, row.search, row.score)
        elif kind < 0.3:
            yield ImageRow(f"wave-{number}", 1, 0, rows[0].search, rows[0].score)
        else:
            row = chance.choice(rows)
            yield ImageRow(f"{row.image_id}~{number}", 1, 0, row.search, row.score)
