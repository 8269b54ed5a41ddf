"""The real broker, job manager and task manager on free ports: up, killed, back, down, nothing left."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator

import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic

from stream.local.parts import flink_parts
from stream.local.processes import end_processes, marked_processes
from stream.local.supervisor import Deployment
from stream.settings import Settings

pytestmark = pytest.mark.cluster


@pytest.fixture
def cluster(settings: Settings) -> Iterator[Deployment]:
    """A deployment of the parts that are not ours, with less memory than a real one."""
    flink = settings.flink.model_copy(update={"slots": 2, "taskmanager_memory_mb": 1200})
    settings = settings.model_copy(update={"flink": flink})
    yield Deployment(settings, flink_parts(settings))
    end_processes(marked_processes(settings.data_dir), grace_s=5.0)


def _pids(cluster: Deployment) -> dict[str, int | None]:
    return {status.name: status.pid for status in cluster.status()}


def _wait_for_new_process(cluster: Deployment, name: str, old: int) -> None:
    deadline = time.monotonic() + 60
    while _pids(cluster)[name] in (None, old):
        assert time.monotonic() < deadline, f"{name} does not come back"
        time.sleep(0.2)


def _metrics(port: int) -> str:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        link.request("GET", "/metrics")
        return link.getresponse().read().decode()
    finally:
        link.close()


def test_the_cluster_comes_up_survives_and_goes(cluster: Deployment) -> None:
    settings = cluster.settings
    bootstrap = settings.kafka.bootstrap
    cluster.up()
    assert all(status.ok for status in cluster.status())
    assert "flink_jobmanager" in _metrics(settings.flink.jobmanager_metrics_port)
    assert "flink_taskmanager" in _metrics(settings.flink.taskmanager_metrics_port)

    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.create_topics([NewTopic("kept", num_partitions=1, replication_factor=1)])
    admin.close()
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all")
    producer.send("kept", b"before").get(timeout=30)
    producer.close()

    # The broker and the job manager die as in a crash, and come back by themselves with what they had.
    for name in ("broker", "jobmanager"):
        _wait_for_new_process(cluster, name, cluster.kill(name))
    cluster.wait_ready(timeout_s=120)

    consumer = KafkaConsumer(
        "kept", bootstrap_servers=bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=30_000
    )
    assert next(consumer).value == b"before"
    consumer.close()

    cluster.down()
    assert marked_processes(cluster.data) == []
    assert [status.state for status in cluster.status()] == ["stopped"] * 3
