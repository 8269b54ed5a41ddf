"""What the topics must be, and which departures endanger records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from core.dead_letters import BadRecord, Provenance, Reason, dead_letter, parse_dead_letter
from core.errors import SettingsError
from core.notifications import LARGEST_RECORD_BYTES, MAX_JOINED_BYTES
from stream.kafka_settings import KafkaSettings
from stream.settings import TraceSettings
from stream.topic_plans import TopicPlan, TopicState, alias_topic_plan, changes, problems, topic_plans
from tests.support.stack import stack_settings

BROKERS = ("a:1", "b:1", "c:1")
DAY_MS = 86_400_000


@pytest.fixture
def plans(tmp_path: Path) -> Callable[[KafkaSettings], dict[str, TopicPlan]]:
    """The plans by the last part of the topic's name."""
    signal = stack_settings(tmp_path).signal()[1]

    def made(kafka: KafkaSettings) -> dict[str, TopicPlan]:
        return {plan.name.removeprefix(signal.topic_prefix): plan for plan in topic_plans(signal, kafka)}

    return made


Plans = Callable[[KafkaSettings], dict[str, TopicPlan]]

ORDERS = ("joined", "replay", "assignments", "dead-letter")
EMBEDDINGS = ("embeddings.search", "embeddings.score")


def as_planned(plan: TopicPlan) -> TopicState:
    return TopicState(plan.partitions, plan.replication, plan.configs)


def test_one_copy_is_flushed(plans: Plans) -> None:
    made = plans(KafkaSettings(flush_ms=400))
    assert [made[name].configs["flush.messages"] for name in ORDERS] == ["1"] * 4
    assert [made[name].configs["flush.ms"] for name in EMBEDDINGS] == ["400"] * 2
    assert not any("min.insync.replicas" in plan.configs for plan in made.values())


def test_two_copies_are_both_needed_and_flushed(plans: Plans) -> None:
    made = plans(KafkaSettings(bootstrap=BROKERS, replication=2))
    assert {plan.configs["min.insync.replicas"] for plan in made.values()} == {"2"}
    assert {plan.configs["unclean.leader.election.enable"] for plan in made.values()} == {"false"}
    assert all("flush.ms" in made[name].configs for name in EMBEDDINGS)


def test_three_copies_stand_in_for_the_flush(plans: Plans) -> None:
    made = plans(KafkaSettings(bootstrap=BROKERS, replication=3))
    assert not any("flush.ms" in plan.configs for plan in made.values())
    assert all("flush.messages" in made[name].configs for name in ORDERS)
    unflushed = plans(KafkaSettings(bootstrap=BROKERS, replication=3, flush=False))
    assert not any(key.startswith("flush") for plan in unflushed.values() for key in plan.configs)
    assert {plan.configs["min.insync.replicas"] for plan in unflushed.values()} == {"2"}


@pytest.mark.parametrize("replication", [1, 2])
def test_brokers_that_take_no_flush_need_three_copies(replication: int) -> None:
    with pytest.raises(ValueError, match=f"flush = false needs replication of at least 3, is {replication}"):
        KafkaSettings(bootstrap=BROKERS, replication=replication, flush=False)


def test_our_own_broker_has_one_copy() -> None:
    with pytest.raises(ValueError, match="our own broker is one"):
        KafkaSettings(replication=2)


def test_traces_have_a_budget_and_need_no_order(plans: Plans) -> None:
    debug = plans(KafkaSettings())["debug"]
    assert (debug.partitions, debug.ordered) == (1, False)
    assert int(debug.configs["retention.bytes"]) == 1 << 30
    assert int(debug.configs["retention.ms"]) == 7 * DAY_MS
    assert "flush.messages" not in debug.configs
    with pytest.raises(SettingsError, match="topic_max_bytes must be 0 or at least 33554432, is 1000"):
        TraceSettings(topic_max_bytes=1000)


def test_only_the_embedding_topics_have_a_budget_and_an_end(plans: Plans) -> None:
    made = plans(KafkaSettings(partitions=4, embeddings_max_bytes=80 << 30, embeddings_retention_days=2.5))
    for name in EMBEDDINGS:
        configs = made[name].configs
        assert int(configs["retention.bytes"]) * 4 * 2 == 80 << 30
        assert int(configs["segment.bytes"]) * 4 <= int(configs["retention.bytes"])
        assert int(configs["retention.ms"]) == 2.5 * DAY_MS
    assert {made[name].configs["retention.bytes"] for name in ORDERS} == {"-1"}
    assert made["dead-letter"].configs["retention.ms"] == "-1"


def test_the_last_record_of_each_alias_is_kept() -> None:
    for kafka in (KafkaSettings(), KafkaSettings(bootstrap=BROKERS, replication=3, flush=False, aliases_topic="a.b")):
        plan = alias_topic_plan(kafka)
        assert (plan.name, plan.partitions, plan.ordered) == (kafka.aliases_topic, 1, True)
        assert plan.configs["cleanup.policy"] == "compact"
        assert ("flush.messages" in plan.configs) == kafka.flush
        assert problems(plan, as_planned(plan)) == []
        for key, value in (("cleanup.policy", "delete"), ("message.timestamp.type", "CreateTime")):
            [said] = problems(plan, replace(as_planned(plan), configs={**plan.configs, key: value}))
            assert f"{key}={value}" in said
        assert "its records are one order" in problems(plan, replace(as_planned(plan), partitions=2))[0]


def test_a_budget_that_no_partition_can_keep_is_refused() -> None:
    with pytest.raises(ValueError, match=r"2000000000: 128 partitions need 4294967296 at least"):
        KafkaSettings(partitions=64, embeddings_max_bytes=2_000_000_000)


def test_every_topic_takes_the_largest_dead_letter() -> None:
    bad = BadRecord(Reason.FAULTED, "\u00e4" * 10_000)
    largest = dead_letter(bad, Provenance("t" * 249, 1023, 2**63, 2**63), bytes(MAX_JOINED_BYTES), None)
    assert len(largest) + 1024 < LARGEST_RECORD_BYTES
    cut = dead_letter(bad, Provenance("t", 0, 0, 0), bytes(5_000_000), None)
    assert len(cut) < LARGEST_RECORD_BYTES
    assert parse_dead_letter(cut).truncated
    assert not parse_dead_letter(largest).truncated
    with pytest.raises(ValueError, match="greater than or equal to 1048576"):
        KafkaSettings(max_message_bytes=LARGEST_RECORD_BYTES - 1)


def test_a_topic_as_planned_is_well(plans: Plans) -> None:
    for plan in plans(KafkaSettings()).values():
        assert problems(plan, as_planned(plan)) == []
        assert changes(plan, as_planned(plan)) == {}


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("embeddings.search", "message.timestamp.type", "CreateTime"),
        ("embeddings.score", "cleanup.policy", "compact"),
        ("embeddings.score", "max.message.bytes", "1048576"),
        ("embeddings.search", "retention.ms", str(DAY_MS)),
        ("embeddings.search", "retention.bytes", "1000000"),
        ("embeddings.search", "flush.ms", "9223372036854775807"),
        ("joined", "flush.messages", "9223372036854775807"),
        ("joined", "retention.bytes", "1000000000"),
        ("assignments", "flush.messages", "2"),
        ("dead-letter", "retention.ms", str(365 * DAY_MS)),
    ],
)
def test_a_weaker_setting_is_named_with_both_values_and_mended(plans: Plans, name: str, key: str, value: str) -> None:
    plan = plans(KafkaSettings())[name]
    wrong = replace(as_planned(plan), configs={**plan.configs, key: value})
    [said] = problems(plan, wrong)
    assert f"{plan.name} has {key}={value} (needs {plan.configs[key]})" in said
    assert "neardup topics create --update" in said
    assert changes(plan, wrong) == {key: plan.configs[key]}


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("embeddings.search", "retention.ms", "-1"),
        ("embeddings.search", "retention.ms", str(30 * DAY_MS)),
        ("embeddings.search", "flush.ms", "1"),
        ("joined", "max.message.bytes", "16777216"),
        ("joined", "retention.ms", "-1"),
    ],
)
def test_a_safer_setting_is_no_problem(plans: Plans, name: str, key: str, value: str) -> None:
    plan = plans(KafkaSettings())[name]
    assert problems(plan, replace(as_planned(plan), configs={**plan.configs, key: value})) == []


def test_a_missing_setting_is_a_problem(plans: Plans) -> None:
    plan = plans(KafkaSettings())["joined"]
    configs = {key: value for key, value in plan.configs.items() if key != "flush.messages"}
    [said] = problems(plan, replace(as_planned(plan), configs=configs))
    assert "flush.messages=None (needs 1)" in said


def test_more_partitions_are_well_only_where_nothing_is_one_order(plans: Plans) -> None:
    made = plans(KafkaSettings())
    for name in EMBEDDINGS:
        assert problems(made[name], replace(as_planned(made[name]), partitions=12)) == []
    for name in ORDERS:
        [said] = problems(made[name], replace(as_planned(made[name]), partitions=3))
        assert "has 3 partitions" in said
        assert "delete it while it is empty" in said


def test_fewer_copies_are_a_problem(plans: Plans) -> None:
    plan = plans(KafkaSettings(bootstrap=BROKERS, replication=3))["joined"]
    [said] = problems(plan, replace(as_planned(plan), replication=1))
    assert "has 1 copies of each record, kafka.replication is 3" in said
    assert problems(plan, replace(as_planned(plan), replication=5)) == []
