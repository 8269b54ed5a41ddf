"""How the Kafka client is used: one batch per partition and chunk, acknowledged by all, given up after a failure."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from kafka.errors import KafkaConnectionError, KafkaTimeoutError, MessageSizeTooLargeError, UnknownTopicOrPartitionError

from core.errors import UnavailableError
from storage.serving import publisher
from storage.serving.assignments import Message
from storage.serving.outbox import OutboxSettings
from storage.serving.publisher import KafkaSender, quiet_client_log

BROKER = {"bootstrap_servers": "broker:9092", "client_id": "test"}
MESSAGES = [Message(n, f"k{n}".encode(), f"v{n}".encode()) for n in range(1, 4)]


class Acknowledgement:
    def __init__(self, error: Exception | None, offset: int) -> None:
        self._error = error
        self.offset = offset

    def get(self, timeout: float | None) -> Acknowledgement:
        assert timeout == 0
        if self._error is not None:
            raise self._error
        return self


class Producer:
    """Behaves as `KafkaProducer` does; class variables say how."""

    made: list[Producer]
    refuse: Exception | None
    send_error: Exception | None
    batch_error: Exception | None
    slow_flushes: int
    first: int
    """The offset of the first record of each producer."""

    def __init__(self, **config: Any) -> None:
        if Producer.refuse is not None:
            raise Producer.refuse
        self.config = config
        self.records: list[tuple[str, bytes, bytes]] = []
        self.headers: list[list[tuple[str, bytes]]] = []
        self.flushes = 0
        self.events: list[str] = []
        self._sender = self
        Producer.made.append(self)

    def send(
        self, topic: str, key: bytes, value: bytes, headers: list[tuple[str, bytes]], partition: int
    ) -> Acknowledgement:
        assert partition == 0
        if Producer.send_error is not None:
            raise Producer.send_error
        self.records.append((topic, key, value))
        self.headers.append(headers)
        return Acknowledgement(Producer.batch_error, Producer.first + len(self.records) - 1)

    def flush(self, timeout: float) -> None:
        self.flushes += 1
        if self.flushes <= Producer.slow_flushes:
            raise KafkaTimeoutError("not yet")

    def force_close(self) -> None:
        self.events.append("forced")

    def close(self, timeout: float) -> None:
        self.events.append("closed")
        raise KafkaTimeoutError("records are left")


@pytest.fixture(autouse=True)
def _producer(monkeypatch: pytest.MonkeyPatch) -> None:
    Producer.made = []
    Producer.refuse = Producer.send_error = Producer.batch_error = None
    Producer.slow_flushes = 0
    Producer.first = 7
    monkeypatch.setattr(publisher, "KafkaProducer", Producer)


def never() -> bool:
    return False


def test_messages_go_out_in_order() -> None:
    assert KafkaSender(BROKER, "assignments").send(MESSAGES, never) == [7, 8, 9]
    (made,) = Producer.made
    assert made.records == [("assignments", one.key, one.value) for one in MESSAGES]
    assert made.headers == [[("content-type", b"application/json"), ("schema-version", b"1")]] * len(MESSAGES)
    assert made.flushes == 1


def test_no_record_can_overtake_another() -> None:
    """The settings that the order rests on."""
    KafkaSender(BROKER, "assignments")
    config = Producer.made[0].config
    assert BROKER.items() <= config.items()
    assert config["acks"] == "all"
    assert config["enable_idempotence"] is True
    assert config["max_in_flight_requests_per_connection"] == 1
    assert config["allow_auto_create_topics"] is False
    assert config["linger_ms"] >= 1_000
    assert config["batch_size"] >= 2 * OutboxSettings().chunk_bytes
    assert config["delivery_timeout_ms"] >= config["linger_ms"] + config["request_timeout_ms"]


@pytest.mark.parametrize(
    "error", [KafkaConnectionError("refused"), KafkaTimeoutError("bootstrap"), OSError("no route")]
)
def test_no_broker(error: Exception) -> None:
    Producer.refuse = error
    with pytest.raises(UnavailableError, match="broker:9092"):
        KafkaSender(BROKER, "assignments")


def test_no_topic() -> None:
    Producer.send_error = KafkaTimeoutError("Failed to update metadata after 3.0 secs.")
    with pytest.raises(UnavailableError, match=r"assignments.*metadata"):
        KafkaSender(BROKER, "assignments").send(MESSAGES, never)


@pytest.mark.parametrize("error", [UnknownTopicOrPartitionError(), MessageSizeTooLargeError("big")])
def test_a_batch_that_fails(error: Exception) -> None:
    Producer.batch_error = error
    with pytest.raises(UnavailableError, match=type(error).__name__):
        KafkaSender(BROKER, "assignments").send(MESSAGES, never)


def test_a_slow_broker_is_waited_for() -> None:
    Producer.slow_flushes = 5
    KafkaSender(BROKER, "assignments").send(MESSAGES, never)
    assert Producer.made[0].flushes == 6


def stop_after(calls: int) -> Callable[[], bool]:
    """False so often, then true."""
    left = iter([False] * calls)
    return lambda: next(left, True)


def test_a_server_that_stops_waits_no_longer() -> None:
    Producer.slow_flushes = 1_000
    with pytest.raises(UnavailableError):
        KafkaSender(BROKER, "assignments").send(MESSAGES, stop_after(2))
    assert Producer.made[0].flushes == 3


def test_an_offset_that_is_given_again_shows_a_loss() -> None:
    sender = KafkaSender(BROKER, "assignments")
    sender.send(MESSAGES, never)
    Producer.first = 2
    with pytest.raises(UnavailableError, match="offset 5 was given again, 9 was acknowledged before"):
        sender.send(MESSAGES, never)


def test_closing_gives_up_what_is_left() -> None:
    KafkaSender(BROKER, "assignments").close()
    assert Producer.made[0].events == ["forced", "closed"]


def test_the_client_is_quiet() -> None:
    quiet_client_log()
    assert not logging.getLogger("kafka.producer").isEnabledFor(logging.ERROR)
