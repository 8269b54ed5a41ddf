"""The publisher on a real broker: it waits for broker and topic, outlives a kill -9 of the broker, keeps the order."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from kafka import KafkaConsumer, TopicPartition

from core.types import ImageId
from storage.memory import MemoryStore
from storage.serving.outbox import Outbox
from storage.serving.publisher import KafkaSender
from storage.testing.decisions import founds, put
from stream.broker import Broker
from stream.local.broker import broker_command, prepare_broker
from stream.local.readiness import BrokerReady
from stream.settings import Settings, load_settings
from stream.topic_plans import topic_plans
from tests.support.ports import free_ports

pytestmark = pytest.mark.cluster


class Heard:
    number = 0
    failures = 0

    def published(self, number: int) -> None:
        self.number = number

    def publish_failed(self) -> None:
        self.failures += 1


@pytest.fixture
def deployment(tmp_path: Path) -> Settings:
    port, controller = free_ports(2)
    file = tmp_path / "neardup.toml"
    file.write_text(f'data = "data"\n[kafka]\nport = {port}\ncontroller_port = {controller}\n')
    settings = load_settings(file)
    prepare_broker(settings)
    return settings


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Brokers put in here are killed at last."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def published(settings: Settings) -> list[int]:
    """The history numbers in the topic, in order; every record has its headers."""
    consumer = KafkaConsumer(bootstrap_servers=settings.kafka.servers, enable_auto_commit=False)
    part = TopicPartition("neardup.photos.assignments", 0)
    consumer.assign([part])
    consumer.seek_to_beginning(part)
    end, numbers = consumer.end_offsets([part])[part], list[int]()
    while len(numbers) < end:
        for record in consumer.poll(1000).get(part, []):
            assert record.headers == [("content-type", b"application/json"), ("schema-version", b"1")]
            numbers.append(json.loads(record.value)["history_number"])
    consumer.close(autocommit=False)
    return numbers


def test_waiting_killing_and_order(
    deployment: Settings, brokers: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    def start_broker() -> None:
        with (tmp_path / "broker.log").open("a") as log:
            brokers.append(subprocess.Popen(broker_command(deployment), cwd=tmp_path, stdout=log, stderr=log))

    store, heard, written = MemoryStore(), Heard(), 0

    def write(count: int) -> None:
        nonlocal written
        put(store, *[founds(written + n, ImageId(f"i{written + n}")) for n in range(count)])
        written += count

    kafka = deployment.kafka_access("test")
    outbox = Outbox(store, partial(KafkaSender, kafka.python_options(), "neardup.photos.assignments"), heard)
    outbox.start()
    try:
        write(3)
        until(lambda: heard.failures >= 1)
        start_broker()
        until(lambda: BrokerReady(deployment.kafka.host, deployment.kafka.port)() is None)
        write(3)
        with Broker(deployment.kafka_access("test")) as broker:
            broker.create(topic_plans(deployment.signal()[1], deployment.kafka))
        until(lambda: heard.number == 6)
        for _ in range(50):
            write(4)
        brokers[-1].kill()
        brokers[-1].wait()
        for _ in range(50):
            write(4)
        start_broker()
        until(lambda: heard.number == written)
        numbers = published(deployment)
        assert list(dict.fromkeys(numbers)) == list(range(1, written + 1))
        # A power cut where the broker does not flush: it comes back without its last messages.
        brokers[-1].kill()
        brokers[-1].wait()
        [file] = (deployment.data_dir / "kafka" / "log").glob("neardup.photos.assignments-0/*.log")
        os.truncate(file, file.stat().st_size // 2)
        start_broker()
        until(lambda: BrokerReady(deployment.kafka.host, deployment.kafka.port)() is None)
        write(4)
        until(lambda: heard.number == written)
        until(lambda: followed(published(deployment)) == written)
    finally:
        outbox.stop()
    assert store.published() == written


def followed(numbers: list[int]) -> int:
    """How far a reader gets that takes each number only after the one before it."""
    seen = 0
    for number in numbers:
        seen += number == seen + 1
    return seen
