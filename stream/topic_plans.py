"""The topics of a signal, and that of aliases, as they must be, and how far a topic is from it. Pure.

What a power cut may take is decided here. The topics whose partitions are orders are flushed record by record.
Embeddings and traces are flushed every `flush_ms` unless three brokers hold a copy of each record. Brokers that take no
`flush.*` must hold three copies of everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from core.replay_requests import LANES
from stream.kafka_settings import KafkaSettings
from stream.settings import Signal

__all__ = ["MEND", "TopicPlan", "TopicState", "alias_topic_plan", "changes", "problems", "topic_plans"]

MEND = "neardup topics create --update"
"""The command that gives topics the planned settings."""

_DAY_MS = 24 * 3600 * 1000
_FOREVER = -1
"""No limit, as `retention.ms` and `retention.bytes` have it."""
_SAFE_COPIES = 3
"""With so many copies, all of them would have to lose power at once."""
_MAX_SEGMENT_BYTES = 1 << 30
_MIN_SEGMENT_BYTES = 16 << 20
_SEGMENTS_IN_BUDGET = 8
"""A log is deleted by whole segments, so a budget holds several."""


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """A topic as it must be.

    Attributes:
        name: Its full name.
        partitions: How many it is made with.
        replication: How many brokers hold each record.
        configs: Its settings, by Kafka's names.
        ordered: It has exactly so many partitions, because the records of each are an order that must not be split.
    """

    name: str
    partitions: int
    replication: int
    configs: Mapping[str, str]
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as the brokers have it. `configs` holds the values in effect, those of the brokers' defaults too."""

    partitions: int
    replication: int
    configs: Mapping[str, str]


def topic_plans(signal: Signal, kafka: KafkaSettings) -> list[TopicPlan]:
    """The seven topics of a signal.

    The broker stamps arrivals itself (LogAppendTime), so timers and latencies use one clock, and no sender's clock
    can expire halves. Dead letters wait for a replay and never expire. Only embeddings and traces have a size limit.
    """
    embeddings = {
        **_common(kafka),
        **_timed_flush(kafka),
        **_size_limit(kafka.embeddings_max_bytes, 2 * kafka.partitions),  # both topics have as many
        "retention.ms": str(round(kafka.embeddings_retention_days * _DAY_MS)),
    }
    order = {**_common(kafka), "retention.bytes": str(_FOREVER)}
    if kafka.flush:
        order["flush.messages"] = "1"
    month = {"retention.ms": str(30 * _DAY_MS)}
    traces = {**_common(kafka), **_timed_flush(kafka), **_size_limit(signal.traces.topic_max_bytes, 1)}
    week = {"retention.ms": str(7 * _DAY_MS)}
    forever = {"retention.ms": str(_FOREVER)}

    def ordered(name: str, configs: Mapping[str, str], partitions: int = 1) -> TopicPlan:
        return TopicPlan(name, partitions, kafka.replication, configs, ordered=True)

    return [
        TopicPlan(signal.topic("search"), kafka.partitions, kafka.replication, embeddings),
        TopicPlan(signal.topic("score"), kafka.partitions, kafka.replication, embeddings),
        ordered(signal.topic("joined"), {**order, **month}),
        ordered(signal.topic("replay"), {**order, **week}, len(LANES)),
        ordered(signal.topic("assignments"), {**order, **month}),
        ordered(signal.topic("dead_letter"), {**order, **forever}),
        TopicPlan(signal.topic("debug"), 1, kafka.replication, {**traces, **week}),
    ]


def alias_topic_plan(kafka: KafkaSettings) -> TopicPlan:
    """The topic of aliases, which all signals share: the last record of each alias is kept for ever."""
    configs = {**_common(kafka), "cleanup.policy": "compact"}
    if kafka.flush:
        configs["flush.messages"] = "1"
    return TopicPlan(kafka.aliases_topic, 1, kafka.replication, configs, ordered=True)


def _common(kafka: KafkaSettings) -> dict[str, str]:
    configs = {
        "cleanup.policy": "delete",
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": str(kafka.max_message_bytes),
    }
    if kafka.replication > 1:
        # A record is acknowledged once two brokers hold it, and a broker that lacks it cannot become the leader.
        configs |= {"min.insync.replicas": "2", "unclean.leader.election.enable": "false"}
    return configs


def _timed_flush(kafka: KafkaSettings) -> dict[str, str]:
    flushed = kafka.flush and kafka.replication < _SAFE_COPIES
    return {"flush.ms": str(kafka.flush_ms)} if flushed else {}


def _size_limit(max_bytes: int, partitions: int) -> dict[str, str]:
    """Kafka's limit is that of one partition."""
    if not max_bytes:
        return {"retention.bytes": str(_FOREVER)}
    each = max_bytes // partitions
    segment = min(_MAX_SEGMENT_BYTES, max(_MIN_SEGMENT_BYTES, each // _SEGMENTS_IN_BUDGET))
    return {"retention.bytes": str(each), "segment.bytes": str(segment)}


def changes(plan: TopicPlan, state: TopicState) -> dict[str, str]:
    """The settings that differ from the plan, with the planned values."""
    return {key: value for key, value in plan.configs.items() if state.configs.get(key) != value}


def problems(plan: TopicPlan, state: TopicState) -> list[str]:
    """What of a topic endangers records: the value found, the value needed, and what mends it; empty if all is well.

    A topic that keeps more, longer or safer than planned is no problem.
    """
    found = []
    if plan.ordered and state.partitions != plan.partitions:
        order = "its records are one order and need one" if plan.partitions == 1 else f"it needs {plan.partitions}"
        found.append(
            f"{plan.name} has {state.partitions} partitions, but {order}: delete it while it is empty, then run "
            "`neardup topics create`"
        )
    if state.replication < plan.replication:
        found.append(
            f"{plan.name} has {state.replication} copies of each record, kafka.replication is {plan.replication}: "
            "add copies with kafka-reassign-partitions, or lower the setting"
        )
    weak = [
        f"{key}={state.configs.get(key)} (needs {wanted})"
        for key, wanted in plan.configs.items()
        if key in _ENOUGH and not (key in state.configs and _ENOUGH[key](state.configs[key], wanted))
    ]
    if weak:
        found.append(f"{plan.name} has {', '.join(weak)}: run `{MEND}`, or change [kafka] in the settings")
    return found


def _same(found: str, wanted: str) -> bool:
    return found == wanted


def _at_least(found: str, wanted: str) -> bool:
    return int(found) >= int(wanted)


def _at_most(found: str, wanted: str) -> bool:
    return int(found) <= int(wanted)


def _kept(found: str, wanted: str) -> bool:
    """Whether records are kept as long as is wanted, where -1 is without a limit."""
    return int(found) < 0 or 0 <= int(wanted) <= int(found)


_ENOUGH: Mapping[str, Callable[[str, str], bool]] = {
    "cleanup.policy": _same,
    "message.timestamp.type": _same,
    "max.message.bytes": _at_least,
    "min.insync.replicas": _at_least,
    "unclean.leader.election.enable": _same,
    "flush.messages": _at_most,
    "flush.ms": _at_most,
    "retention.ms": _kept,
    "retention.bytes": _kept,
}
"""Whether a value found is as safe as the planned one. A setting without an entry is a matter of taste."""
