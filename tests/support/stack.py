"""A whole deployment for tests: every real part, on free ports, in a temporary folder, stopped afterwards."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import httpx
from kafka import KafkaAdminClient

from core.dead_letters import DeadLetter, parse_dead_letter
from core.errors import ServiceError
from core.settlements import parse_settlement
from manifests.image_files import ImageFile, ImageRow
from neardup.client import ApiClient
from neardup.errors import NeardupClientError, NotFoundError
from storage.serving.client import StorageClient
from stream.access import api_client
from stream.broker import Broker
from stream.local.processes import end_processes, marked_processes
from stream.local.supervisor import Deployment
from stream.publish import Publisher
from stream.settings import Settings
from stream.topic_plans import topic_plans
from stream.topic_reader import TopicReader
from tests.support.ports import free_ports

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""

SAMPLE = ROOT / "examples" / "photos" / "photos.parquet"
"""The sample's images."""

PHOTOS: dict[str, Any] = {
    "search_embedding": {"name": "mobilenet_v2_1.0_224", "model_version": "1", "dimension": 1280},
    "score_embedding": {"name": "mobilenet_v1_0.75_192", "model_version": "1", "dimension": 768},
    "centres": str(ROOT / "examples" / "photos" / "centres.npz"),
    "model": str(ROOT / "examples" / "photos" / "model"),
    "code": {"projection": str(ROOT / "examples" / "photos" / "projection.npz"), "bits": 512, "signs": True},
}
"""Settings of the sample's signal, without addresses."""


def stack_settings(data: Path, signals: Mapping[str, Mapping[str, Any]] | None = None, **sections: Any) -> Settings:
    """Settings with free ports and small Flink processes.

    Args:
        data: The data folder.
        signals: Settings of each signal, without addresses; by default the sample's photos.
        sections: Further settings by section.
    """
    ports = iter(free_ports(64))

    def server() -> dict[str, int]:
        return {"port": next(ports), "metrics_port": next(ports)}

    placed = {
        name: {
            **signal,
            "search": server(),
            "scorer": server(),
            "storage": {**signal.get("storage", {}), **server()},
            "api": {"port": next(ports)},
            "job_metrics_port": next(ports),
        }
        for name, signal in (signals or {"photos": PHOTOS}).items()
    }
    flink = {
        "rest_port": next(ports),
        "rpc_port": next(ports),
        "jobmanager_metrics_port": next(ports),
        "taskmanager_metrics_port": next(ports),
        "slots": len(placed),
        "checkpoint_interval_s": 2.0,
        **sections.pop("flink", {}),
    }
    kafka = {"port": next(ports), "controller_port": next(ports), **sections.pop("kafka", {})}
    sections.setdefault("java_compiler", "quick")
    return Settings(
        data=data, base=ROOT, signals=placed, default_signal=next(iter(placed)), flink=flink, kafka=kafka, **sections
    )


class Stack:
    """A running deployment, with what tests ask of it."""

    def __init__(self, settings: Settings, deployment: Deployment | None = None) -> None:
        self.settings = settings
        self.deployment = deployment or Deployment(settings)
        self.signal_name, self.signal = settings.signal()

    def of(self, signal: str) -> Stack:
        """The same deployment, for those who ask about another signal."""
        return Stack(self.settings.model_copy(update={"default_signal": signal}), self.deployment)

    def publish(self, rows: Iterable[ImageRow], signal: str | None = None, rate: float | None = None) -> list[ImageRow]:
        """Sends both embeddings of each image, `rate` images a second; returns the images."""
        sent = []
        with Publisher(self.settings, signal) as publisher:
            for row in rows:
                publisher.send(row)
                sent.append(row)
                if rate is not None:
                    time.sleep(1 / rate)
            publisher.flush()
        return sent

    def send_raw(self, topic: str, values: Sequence[tuple[bytes, bytes]]) -> None:
        """Sends (key, value) records unchanged."""
        with Publisher(self.settings) as publisher:
            for key, value in values:
                publisher.send_raw(topic, key, value)
            publisher.flush()

    @contextmanager
    def api(self, signal: str | None = None) -> Iterator[ApiClient]:
        """A client of the HTTP API."""
        with api_client(self.settings, self.settings.signal(signal)[0]) as client:
            yield client

    @contextmanager
    def storage(self, signal: str | None = None) -> Iterator[StorageClient]:
        """A client of the storage server."""
        part = self.settings.signal(signal)[1].storage
        client = StorageClient(part.address, 30.0, part.max_message_bytes)
        try:
            yield client
        finally:
            client.close()

    def heads(self, ids: Iterable[str], signal: str | None = None) -> dict[str, str]:
        """The head of each image, by image id; images without a head are left out."""
        found = {}
        with self.api(signal) as api:
            for image_id in ids:
                try:
                    found[image_id] = api.image(image_id).head
                except NotFoundError:
                    continue
        return found

    def await_heads(self, ids: Sequence[str], signal: str | None = None, timeout_s: float = 120.0) -> dict[str, str]:
        """Waits until every image has a head; returns the heads by image id."""
        known: dict[str, str] = {}

        def ask() -> dict[str, str] | None:
            # Ask for the last one first: while it has no head, the others need not be asked for.
            missing = [image_id for image_id in reversed(ids) if image_id not in known]
            known.update(self.heads(missing[:1], signal))
            if missing and missing[0] in known:
                known.update(self.heads(missing[1:], signal))
            return known if len(known) == len(set(ids)) else None

        eventually(ask, timeout_s, lambda: f"{len(known)} of {len(set(ids))} images have a head")
        # Heads may have moved meanwhile.
        return self.heads(ids, signal)

    def await_count(self, count: int, timeout_s: float = 120.0) -> None:
        """Waits until storage holds `count` images."""

        def held() -> int:
            with self.storage() as storage:
                return int(storage.describe().images)

        eventually(lambda: held() >= count or None, timeout_s, lambda: f"storage holds {held()} of {count} images")

    def remake(self, *topics: str) -> None:
        """Deletes topics and creates them again."""
        admin = KafkaAdminClient(bootstrap_servers=self.settings.kafka.servers)
        admin.delete_topics(list(topics))
        admin.close()
        plans = [plan for plan in topic_plans(self.signal, self.settings.kafka) if plan.name in topics]
        with Broker(self.settings.kafka_access("test")) as broker:
            eventually(lambda: not broker.topics() & set(topics) or None, 60, lambda: f"{topics} are still there")
            assert broker.create(plans) == [plan.name for plan in plans]

    def records(self, topic: str) -> list[bytes]:
        """The values of all records of a one-partition topic."""
        with TopicReader(self.settings.kafka_access("test"), topic) as reader:
            return [record.value for record in reader.last(10**9)]

    def dead_letters(self, signal: str | None = None) -> list[DeadLetter]:
        """All dead letters of a signal."""
        topic = self.settings.signal(signal)[1].topic("dead_letter")
        return [parse_dead_letter(value) for value in self.records(topic) if parse_settlement(value) is None]

    def assignments(self, signal: str | None = None) -> list[dict[str, Any]]:
        """All published changes of a signal."""
        topic = self.settings.signal(signal)[1].topic("assignments")
        return [json.loads(value) for value in self.records(topic)]

    def problems(self, signal: str | None = None) -> list[str]:
        """What a check of the whole store found: heads and members that disagree."""
        with self.storage(signal) as storage:
            last = list(storage.verify())[-1]
        assert last.done
        return list(last.problems)


@contextmanager
def running(settings: Settings) -> Iterator[Stack]:
    """Starts a deployment and stops it; no process is left, whatever happens."""
    stack = Stack(settings)
    try:
        stack.deployment.up()
        yield stack
        stack.deployment.down()
        assert marked_processes(settings.data_dir) == []
        assert {status.state for status in stack.deployment.status()} == {"stopped"}
    finally:
        end_processes(marked_processes(settings.data_dir), grace_s=5.0)


def sample_rows(count: int | None = None, skip: int = 0) -> list[ImageRow]:
    """`count` images of the sample after the first `skip`, which has that many; None: all of them."""
    rows = list(islice(ImageFile(SAMPLE, 1280, 768), skip, None if count is None else skip + count))
    assert count in (None, len(rows))
    return rows


def eventually(ask: Callable[[], T | None], timeout_s: float, tell: Callable[[], str]) -> T:
    """Calls `ask` until it returns a value, and returns it.

    Raises:
        AssertionError: `ask` still returned None after `timeout_s`; `tell` says what is missing.
    """
    until = time.monotonic() + timeout_s
    while True:
        try:
            found = ask()
        except (OSError, ServiceError, NeardupClientError, httpx.HTTPError):
            found = None
        if found is not None:
            return found
        assert time.monotonic() < until, tell()
        time.sleep(0.25)
