"""Kafka administration: topics, their ids and offsets, single records, committed offsets of groups."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

from crc32c import crc32c
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import (
    InvalidConfigurationError,
    InvalidRequestError,
    KafkaError,
    NoError,
    PolicyViolationError,
    TopicAlreadyExistsError,
)
from kafka.structs import OffsetAndMetadata

from core.errors import MismatchError, UnavailableError
from stream.kafka_access import KafkaAccess
from stream.kafka_codecs import read_all_codecs
from stream.topic_plans import TopicPlan, TopicState

__all__ = ["METADATA_MS", "Broker", "LogEnds", "producer"]

T = TypeVar("T")

METADATA_MS = 5_000
"""So soon a connection that stays open sees new partitions. The client's default is five minutes."""


@dataclass(frozen=True, slots=True)
class LogEnds:
    """The first offset of a partition, and the offset that the next record will get."""

    first: int
    end: int


_REFUSED = (InvalidConfigurationError, InvalidRequestError, PolicyViolationError)
"""How brokers say that they do not take a topic's settings."""


def _refused(topic: str, configs: Mapping[str, str], error: str) -> MismatchError:
    flushed = [key for key in configs if key.startswith("flush.")]
    hint = (
        f". If they do not take {', '.join(flushed)}, set kafka.flush = false, with kafka.replication of at least 3"
        if flushed
        else ""
    )
    return MismatchError(f"the brokers refuse the settings of {topic}: {error}{hint}")


@contextmanager
def _as_unavailable(bootstrap: str) -> Iterator[None]:
    try:
        yield
    except KafkaError as error:
        raise UnavailableError(f"Kafka at {bootstrap}: {error or type(error).__name__}") from error


class Broker:
    """A connection for administration; use it as a context manager."""

    def __init__(self, access: KafkaAccess, timeout_ms: int = 10_000) -> None:
        """Connects.

        Raises:
            UnavailableError: No broker answers there, or it refuses the client.
        """
        self._bootstrap = access.bootstrap
        self._timeout_ms = timeout_ms
        read_all_codecs()
        with _as_unavailable(access.bootstrap):
            self._admin = KafkaAdminClient(**access.python_options(), request_timeout_ms=timeout_ms)
            self._consumer = KafkaConsumer(
                **access.python_options(),
                enable_auto_commit=False,
                metadata_max_age_ms=METADATA_MS,
                isolation_level="read_committed",
                request_timeout_ms=max(timeout_ms, 11_000),
            )

    def __enter__(self) -> Broker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        try:
            self._consumer.close(autocommit=False)
        finally:
            self._admin.close()

    def create(self, plans: Iterable[TopicPlan]) -> list[str]:
        """Creates the topics that are missing; returns their names.

        Raises:
            MismatchError: The brokers refuse a topic's settings.
        """
        created = []
        with _as_unavailable(self._bootstrap):
            for plan in plans:
                wanted = {
                    "num_partitions": plan.partitions,
                    "replication_factor": plan.replication,
                    "configs": dict(plan.configs),
                }
                try:
                    self._admin.create_topics({plan.name: wanted}, wait_for_metadata=True)
                except TopicAlreadyExistsError:
                    continue
                except _REFUSED as error:
                    raise _refused(plan.name, plan.configs, str(error)) from error
                created.append(plan.name)
        return created

    def alter(self, topic: str, configs: Mapping[str, str]) -> None:
        """Sets some of a topic's settings; the others stay.

        Raises:
            MismatchError: The brokers refuse them.
        """
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs=dict(configs))
        with _as_unavailable(self._bootstrap):
            told = self._admin.alter_configs([resource], raise_on_unknown=False)["topic"][topic]
        if told != "OK":
            raise _refused(topic, configs, told)

    def topic_state(self, topic: str) -> TopicState:
        """A topic's partitions, copies and settings in effect.

        Raises:
            UnavailableError: The topic does not exist.
            MismatchError: The client may not read the topic's settings.
        """
        partitions = self._described(topic)["partitions"]
        configs = self._configs(ConfigResourceType.TOPIC, topic)
        if not configs:
            raise MismatchError(
                f"the brokers do not show the settings of {topic}, so it cannot be checked: "
                "allow the client DescribeConfigs on it"
            )
        return TopicState(len(partitions), min(len(each["replica_nodes"]) for each in partitions), configs)

    def leaders(self, topic: str) -> set[int]:
        """The brokers that lead its partitions."""
        return {int(each["leader_id"]) for each in self._described(topic)["partitions"]}

    def broker_configs(self, node: int) -> dict[str, str]:
        """The settings in effect of one broker; empty if the client may not read them."""
        return self._configs(ConfigResourceType.BROKER, str(node))

    def _configs(self, kind: ConfigResourceType, name: str) -> dict[str, str]:
        with _as_unavailable(self._bootstrap):
            told = self._admin.describe_configs([ConfigResource(kind, name)], config_filter="all")
        found: Mapping[str, Mapping[str, Any]] = told[kind.name.lower()][name]
        return {key: str(entry["value"]) for key, entry in found.items() if entry["value"] is not None}

    def topics(self) -> set[str]:
        """The names of all topics."""
        with _as_unavailable(self._bootstrap):
            return set(self._admin.list_topics())

    def topic_id(self, name: str) -> str:
        """Kafka's id of a topic. A topic that was deleted and created again has another id.

        Raises:
            UnavailableError: The topic does not exist.
        """
        return str(self._described(name)["topic_id"])

    def _described(self, name: str) -> dict[str, Any]:
        with _as_unavailable(self._bootstrap):
            described: list[dict[str, Any]] = self._admin.describe_topics([name])
        if not described or described[0].get("error_code"):
            raise UnavailableError(f"Kafka at {self._bootstrap} has no topic {name}: run `neardup topics create`")
        return described[0]

    def ends(self, topic: str) -> dict[int, LogEnds]:
        """First and next offset of each partition."""
        with _as_unavailable(self._bootstrap):
            partitions = self._partitions(topic)
            first = self._consumer.beginning_offsets(partitions, timeout_ms=self._timeout_ms)
            end = self._consumer.end_offsets(partitions, timeout_ms=self._timeout_ms)
        return {each.partition: LogEnds(first[each], end[each]) for each in partitions}

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """The offsets that a consumer group has committed, by partition; empty before its first commit."""
        offsets = self._group_offsets(group)
        return {
            each.partition: meta.offset for each, meta in offsets.items() if each.topic == topic and meta.offset >= 0
        }

    def _group_offsets(self, group: str) -> Mapping[TopicPartition, Any]:
        found: Mapping[str, Mapping[TopicPartition, Any]] = self._of_group(
            lambda: self._admin.list_group_offsets([group])
        )
        return found.get(group, {})

    def _of_group(self, ask: Callable[[], T]) -> T:
        """Asks about a group; a new cluster creates its offsets topic at the first question and cannot answer it."""
        until = time.monotonic() + self._timeout_ms / 1000
        with _as_unavailable(self._bootstrap):
            while True:
                try:
                    return ask()
                except KafkaError as error:
                    if not error.retriable or time.monotonic() > until:
                        raise
                    time.sleep(0.1)

    def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """Sets the committed offsets of a group that has no members."""
        wanted = {TopicPartition(topic, part): OffsetAndMetadata(at, "", None) for part, at in offsets.items()}

        def alter() -> None:
            for error in self._admin.alter_group_offsets(group, wanted).values():
                if error is not NoError:
                    raise error(f"setting the offsets of group {group}")

        self._of_group(alter)

    def leader_epochs(self, topic: str) -> tuple[str, dict[int, int]]:
        """Kafka's id of a topic, and the leader epoch of each partition, which rises with each new leader."""
        described = self._described(topic)
        epochs = {int(each["partition_index"]): int(each["leader_epoch"]) for each in described["partitions"]}
        return str(described["topic_id"]), epochs

    def record(self, topic: str, offset: int, partition: int = 0) -> bytes | None:
        """The value of one record; None if it was deleted or not written yet."""
        found = self._read(topic, partition, offset)
        return None if found is None else bytes(found.value or b"")

    def checksum(self, topic: str, offset: int) -> int | None:
        """CRC-32C of one record of a one-partition topic."""
        value = self.record(topic, offset)
        return None if value is None else crc32c(value)

    def unread(self, topic: str, partition: int, offset: int) -> int:
        """How many offsets lie between `offset` and the end; 0 if none of them is a record.

        The markers of transactions, and what was sent in aborted ones, take offsets but are never read.
        """
        where = TopicPartition(topic, partition)
        with _as_unavailable(self._bootstrap):
            end = int(self._consumer.end_offsets([where], timeout_ms=self._timeout_ms)[where])
            self._consumer.assign([where])
            self._consumer.seek(where, offset)
            until = time.monotonic() + self._timeout_ms / 1000
            while self._consumer.position(where) < end and time.monotonic() < until:
                if self._consumer.poll(timeout_ms=200, max_records=1).get(where):
                    return end - offset
        return 0 if self._consumer.position(where) >= end else end - offset

    def offsets_at(self, topic: str, times_ms: Mapping[int, int]) -> dict[int, int]:
        """The first offset at or after a time, by partition; the end offset where no record is that new."""
        ends = self.ends(topic)
        with _as_unavailable(self._bootstrap):
            found = self._consumer.offsets_for_times(
                {TopicPartition(topic, partition): time for partition, time in times_ms.items()},
                timeout_ms=self._timeout_ms,
            )
        return {each.partition: ends[each.partition].end if hit is None else hit.offset for each, hit in found.items()}

    def timestamp(self, topic: str, partition: int, offset: int) -> int | None:
        """Kafka's timestamp of one record in ms; None if it was deleted or not written yet."""
        found = self._read(topic, partition, offset)
        return None if found is None else int(found.timestamp)

    def _read(self, topic: str, partition: int, offset: int) -> Any | None:
        ends = self.ends(topic)[partition]
        if not ends.first <= offset < ends.end:
            return None
        where = TopicPartition(topic, partition)
        with _as_unavailable(self._bootstrap):
            self._consumer.assign([where])
            self._consumer.seek(where, offset)
            records = self._consumer.poll(timeout_ms=self._timeout_ms, max_records=1).get(where, [])
        return records[0] if records and records[0].offset == offset else None

    def _partitions(self, topic: str) -> list[TopicPartition]:
        partitions = self._consumer.partitions_for_topic(topic)
        if not partitions:
            raise UnavailableError(f"Kafka at {self._bootstrap} has no topic {topic}: run `neardup topics create`")
        return [TopicPartition(topic, partition) for partition in sorted(partitions)]


def producer(access: KafkaAccess, max_message_bytes: int) -> KafkaProducer:
    """A producer that loses no record: all replicas acknowledge, and it retries until the delivery timeout.

    Raises:
        UnavailableError: No broker answers there, or it refuses the client.
    """
    with _as_unavailable(access.bootstrap):
        return KafkaProducer(
            **access.python_options(),
            acks="all",
            enable_idempotence=True,
            linger_ms=10,
            max_request_size=max_message_bytes,
        )
