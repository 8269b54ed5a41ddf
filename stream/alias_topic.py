"""The topic of aliases: the last record of each alias says what it is."""

from __future__ import annotations

from kafka.errors import KafkaError

from core.errors import UnavailableError
from stream.broker import Broker, producer
from stream.settings import Settings

__all__ = ["send_record"]

HEADERS = [("content-type", b"application/json"), ("schema-version", b"1")]

_PATIENCE_S = 30.0
"""How long the acknowledgement may take."""


def send_record(settings: Settings, name: str, value: bytes | None) -> None:
    """Appends the record of an alias, and waits until the brokers have it.

    Args:
        settings: Of the deployment.
        name: Of the alias.
        value: What it is; None: it is dropped.

    Raises:
        UnavailableError: Kafka does not answer, or the topic is missing.
    """
    access, topic = settings.kafka_access("neardup-aliases"), settings.kafka.aliases_topic
    with Broker(access) as broker:
        broker.ends(topic)  # a producer would wait a minute for a topic that is missing
    sender = producer(access, settings.kafka.max_message_bytes)
    try:
        sender.send(topic, key=name.encode(), value=value, headers=HEADERS, partition=0).get(timeout=_PATIENCE_S)
    except KafkaError as error:
        raise UnavailableError(f"Kafka did not take the record for {topic}: {error!r}") from error
    finally:
        sender.close(timeout=0)
