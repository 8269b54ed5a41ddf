"""Whether a signal's topics are as they must be: asked at the start of a job, by `status`, and while a job runs."""

from __future__ import annotations

from collections.abc import Iterable

from core.errors import MismatchError
from stream.broker import Broker
from stream.topic_plans import TopicPlan, problems

__all__ = ["require_topics", "topic_problems"]

_SCHEDULER = "log.flush.scheduler.interval.ms"
"""How often brokers look whether a log's `flush.ms` has passed. By default they never do."""


def topic_problems(broker: Broker, plans: Iterable[TopicPlan]) -> list[str]:
    """What of the topics endangers records; empty if all is well.

    Raises:
        UnavailableError: Kafka does not answer, or a topic does not exist.
        MismatchError: The client may not read a topic's settings.
    """
    found = []
    for plan in plans:
        found += problems(plan, broker.topic_state(plan.name))
        found += _flush_problem(broker, plan)
    return found


def require_topics(broker: Broker, plans: Iterable[TopicPlan]) -> None:
    """Refuses topics that are not as they must be.

    Raises:
        UnavailableError: Kafka does not answer, or a topic does not exist.
        MismatchError: A topic endangers records. The message says how, and what mends it.
    """
    found = topic_problems(broker, plans)
    if found:
        raise MismatchError("; ".join(found))


def _flush_problem(broker: Broker, plan: TopicPlan) -> list[str]:
    flush_ms = int(plan.configs.get("flush.ms", 0))
    slow = [
        f"broker {node} has {_SCHEDULER}={interval}"
        for node in (sorted(broker.leaders(plan.name)) if flush_ms else ())
        if (interval := broker.broker_configs(node).get(_SCHEDULER)) is not None and int(interval) > flush_ms
    ]
    if not slow:
        return []
    return [
        f"{', '.join(slow)}, so flush.ms={flush_ms} of {plan.name} has no effect: set it to at most {flush_ms}, or "
        "kafka.replication to 3"
    ]
