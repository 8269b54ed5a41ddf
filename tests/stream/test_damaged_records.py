"""Bytes of a topic that changed on the disk of a real broker."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from kafka import KafkaAdminClient

from stream.broker import Broker, producer
from stream.damaged_records import find_damage, send_again
from stream.local.broker import broker_command, prepare_broker
from stream.local.readiness import BrokerReady
from stream.log_reads import KafkaLogs
from stream.settings import Settings
from stream.topic_plans import topic_plans
from tests.support.stack import eventually, stack_settings

pytestmark = pytest.mark.cluster


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Settings]:
    settings = stack_settings(tmp_path, kafka={"partitions": 1})
    prepare_broker(settings)
    with (tmp_path / "broker.log").open("w") as log:
        process = subprocess.Popen(broker_command(settings), stdout=log, stderr=log)
    try:
        ready = BrokerReady(settings.kafka.host, settings.kafka.port)
        eventually(lambda: ready() is None or None, 60, lambda: "the broker does not start")
        yield settings
    finally:
        process.kill()
        process.wait()


def test_a_damaged_batch_is_found_and_what_lies_before_it_is_sent_again(broker: Settings) -> None:
    access, topic = broker.kafka_access("test"), broker.signal()[1].topic("search")
    with Broker(access) as admin:
        admin.create(topic_plans(broker.signal()[1], broker.kafka))
    sender = producer(access, 1 << 20)
    for start in range(0, 200, 20):  # ten batches
        for number in range(start, start + 20):
            sender.send(topic, key=b"k", value=b"%d " % number * 50, headers=[("h", b"v")])
        sender.flush()
    sender.close()
    assert find_damage(access, topic, 0, 0, 200) is None
    [file] = (broker.data_dir / "kafka" / "log" / f"{topic}-0").glob("*.log")
    raw = bytearray(file.read_bytes())
    at = raw.index(b"107 107 ")
    raw[at : at + 4] = b"XXXX"
    file.write_bytes(raw)
    damage = find_damage(access, topic, 0, 90, 200)
    assert damage is not None
    assert (damage.first, damage.end) == (100, 120)
    assert find_damage(access, topic, 0, 120, 200) is None
    assert send_again(access, damage, 95, 1 << 20) == 5
    with Broker(access) as admin:
        assert admin.ends(topic)[0].end == 205
        assert admin.record(topic, 200) == b"95 " * 50


def test_an_open_connection_reads_a_topic_again_and_sees_new_partitions(broker: Settings) -> None:
    access, topic = broker.kafka_access("test"), broker.signal()[1].topic("search")
    with Broker(access) as admin:
        admin.create(topic_plans(broker.signal()[1], broker.kafka))
    sender = producer(access, 1 << 20)
    for number in range(10):
        sender.send(topic, partition=0, value=b"%d" % number)
    sender.flush()
    with closing(KafkaLogs(access, "group")) as logs:
        for end in (3, 7):
            record = logs.now(topic, {0: end}).partitions[0].record
            assert record is not None
            assert record.offset == end - 1
        grown = KafkaAdminClient(bootstrap_servers=broker.kafka.servers)
        grown.create_partitions({topic: 3})
        grown.close()
        eventually(lambda: len(logs.now(topic, {0: 5}).partitions) == 3 or None, 20, lambda: "still one partition")
    sender.close()
