"""Sending images to a signal: both halves of each, keyed by image id, to its two embedding topics."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType

import numpy as np
from kafka.errors import KafkaError

from core.errors import BadInputError, UnavailableError
from core.notifications import EmbeddingSpec
from manifests.image_files import ImageRow, Vector
from neardup import events
from neardup.events_pb2 import FLOAT16
from stream.broker import Broker, producer
from stream.names import client_id
from stream.settings import Settings

__all__ = ["Publisher", "SendSchedule", "notification", "publish"]

_IN_FLIGHT = 4_000
"""The most records that wait for acknowledgement. The producer has no limit of its own and could fill the memory."""

_PATIENCE_S = 130.0
"""How long one acknowledgement may take: a little longer than the producer retries."""


def notification(row: ImageRow, embedding: EmbeddingSpec, vector: Vector, *, trace: bool = False) -> bytes:
    """One half of an image as it lies on Kafka; equal rows give equal bytes. `trace` asks for a trace.

    Raises:
        BadInputError: The row's id cannot be sent.
    """
    try:
        return events.notification(
            row.image_id,
            np.frombuffer(vector.data, "<f2" if vector.element_type == FLOAT16 else "<f4"),
            embedding=embedding.name,
            model_version=embedding.model_version,
            image_version=row.version,
            created_at_ms=row.created_at_ms,
            trace=trace,
        )
    except ValueError as error:
        raise BadInputError(f"image {row.image_id[:80]!r} cannot be sent: {error}") from error


LOWEST_RATE = 1e-4
"""Images per second: one in about three hours."""


class SendSchedule:
    """Spaces items evenly at a rate. After a delay it catches up, so the average holds."""

    def __init__(
        self,
        per_second: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Starts now.

        Raises:
            BadInputError: The rate is below `LOWEST_RATE`.
        """
        if not per_second >= LOWEST_RATE:
            raise BadInputError(f"a rate must be at least {LOWEST_RATE:g} images per second, not {per_second:g}")
        self._interval_s = 1 / per_second
        self._clock = clock
        self._sleep = sleep
        self._start = clock()
        self._passed = 0

    def wait(self) -> None:
        """Returns when the next item may pass."""
        ahead_s = self._start + self._passed * self._interval_s - self._clock()
        if ahead_s > 0:
            self._sleep(ahead_s)
        self._passed += 1


_HALVES = 2
"""Of an image."""


class _Acknowledged:
    """Counts the images from the first on of which both halves are acknowledged. The producer's thread calls it."""

    def __init__(self) -> None:
        self.images = 0
        self._lock = threading.Lock()
        self._halves: dict[int, int] = {}
        """Acknowledged halves of images from number `images` on: of no more than are in flight."""

    def half(self, image: int) -> None:
        """One more half of the image with this number."""
        with self._lock:
            self._halves[image] = self._halves.get(image, 0) + 1
            while self._halves.get(self.images) == _HALVES:
                del self._halves[self.images]
                self.images += 1


class Publisher:
    """Sends images to one signal. Use it as a context manager; what was sent is safe after `flush`."""

    def __init__(self, settings: Settings, signal_name: str | None = None) -> None:
        """Connects.

        Raises:
            SettingsError: The signal is unknown.
            UnavailableError: Kafka does not answer, or the signal's topics do not exist.
        """
        self.signal_name, self._signal = settings.signal(signal_name)
        self.topics = (self._signal.topic("search"), self._signal.topic("score"))
        access = settings.kafka_access(client_id(self.signal_name, "publish"))
        with Broker(access) as broker:
            missing = sorted(set(self.topics) - broker.topics())
        if missing:
            raise UnavailableError(
                f"Kafka at {access.bootstrap} has no topic {', '.join(missing)}: run `neardup topics create`"
            )
        self._producer = producer(access, settings.kafka.max_message_bytes)
        self._in_flight = threading.BoundedSemaphore(_IN_FLIGHT)
        self._failure: BaseException | None = None
        self._sent = 0
        self._acknowledged = _Acknowledged()

    @property
    def acknowledged(self) -> int:
        """How many of the images that were sent, from the first on, Kafka has acknowledged."""
        return self._acknowledged.images

    def __enter__(self) -> Publisher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After an error the caller learns of that one, without a wait for records in flight.
        try:
            self._producer.close(timeout=_PATIENCE_S if kind is None else 0)
        except KafkaError as failure:
            if kind is None:
                raise UnavailableError(f"Kafka did not acknowledge all records: {failure}") from failure

    def send(self, row: ImageRow, *, trace: bool = False) -> None:
        """Sends both halves of an image; returns before they are acknowledged. `trace` asks for a trace.

        Raises:
            UnavailableError: An earlier record was not delivered, or Kafka acknowledges nothing.
            BadInputError: A record is larger than the broker takes.
        """
        key = events.record_key(row.image_id)
        halves = ((self._signal.search_embedding, row.search), (self._signal.score_embedding, row.score))
        values = [notification(row, embedding, vector, trace=trace) for embedding, vector in halves]
        number, self._sent = self._sent, self._sent + 1
        for topic, value in zip(self.topics, values, strict=True):
            self._send(topic, key, value, None, lambda: self._acknowledged.half(number))

    def send_raw(self, topic: str, key: bytes, value: bytes, headers: list[tuple[str, bytes]] | None = None) -> None:
        """Sends one record unchecked, which counts as no image; raises as `send`."""
        self._send(topic, key, value, headers, lambda: None)

    def _send(
        self,
        topic: str,
        key: bytes,
        value: bytes,
        headers: list[tuple[str, bytes]] | None,
        on_acknowledged: Callable[[], None],
    ) -> None:
        self._raise_failure()
        if not self._in_flight.acquire(timeout=_PATIENCE_S):
            raise UnavailableError(f"Kafka acknowledged nothing for {_PATIENCE_S:.0f} s")
        try:
            future = self._producer.send(topic, value=value, key=key, headers=headers)
        except KafkaError as error:
            self._in_flight.release()
            if error.retriable:
                raise UnavailableError(f"Kafka does not take records: {error}") from error
            raise BadInputError(f"a record of {len(value)} bytes cannot be sent to {topic}: {error}") from error
        future.add_callback(lambda _: self._delivered(on_acknowledged))
        future.add_errback(self._lost)

    def flush(self) -> None:
        """Returns when the broker has acknowledged every record.

        Raises:
            UnavailableError: A record was not delivered.
        """
        try:
            self._producer.flush(timeout=_PATIENCE_S)
        except KafkaError as error:
            raise UnavailableError(f"Kafka did not acknowledge all records: {error}") from error
        self._raise_failure()

    def _delivered(self, on_acknowledged: Callable[[], None]) -> None:
        on_acknowledged()
        self._in_flight.release()

    def _lost(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self._in_flight.release()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise UnavailableError(f"Kafka did not take a record: {self._failure!r}; send all again, twice is no harm")


def publish(
    rows: Iterable[ImageRow],
    publisher: Publisher,
    *,
    rate: float | None = None,
    trace: bool = False,
    on_sent: Callable[[int], None] | None = None,
) -> int:
    """Sends images, at most `rate` per second, and waits until all are acknowledged.

    Args:
        rows: What to send; read as it is sent.
        publisher: Where to.
        rate: Images per second; None: as fast as the broker accepts them.
        trace: Whether each image asks for a trace.
        on_sent: Called after each image with the number sent so far. `publisher.acknowledged` says what is safe.

    Returns:
        How many images were sent.

    Raises:
        BadInputError: A row cannot be read or sent; the rows before it are acknowledged.
        UnavailableError: Kafka did not accept all of them.
    """
    schedule = SendSchedule(rate) if rate is not None else None
    sent = 0
    try:
        for row in rows:
            if schedule is not None:
                schedule.wait()
            publisher.send(row, trace=trace)
            sent += 1
            if on_sent is not None:
                on_sent(sent)
    except BadInputError:
        publisher.flush()
        raise
    publisher.flush()
    return sent
