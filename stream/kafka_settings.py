"""The settings of the brokers: how clients reach them, and how the topics are made."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator
from pydantic_settings import NoDecode

from core.notifications import LARGEST_RECORD_BYTES
from stream.kafka_access import KafkaSecurity
from stream.setting_types import MIN_PARTITION_BYTES, Milliseconds, Port, Section

__all__ = ["KafkaSettings"]


def _split_servers(value: Any) -> Any:
    return [each.strip() for each in value.split(",") if each.strip()] if isinstance(value, str) else value


Server = Annotated[str, Field(pattern=r"^[^\s,]+:\d+$")]
Servers = Annotated[tuple[Server, ...], NoDecode, BeforeValidator(_split_servers)]
"""HOST:PORT each; a text with commas in the environment."""


class KafkaSettings(Section):
    """The brokers, how clients reach them, and how the topics are made."""

    bootstrap: Servers = ()
    """Brokers that someone else runs, such as a managed Kafka. Empty: `neardup up` runs a broker of its own."""
    client: KafkaSecurity = KafkaSecurity()
    """TLS and SASL of every client; our own broker has neither."""
    host: str = "127.0.0.1"
    """The host that clients of our own broker use."""
    bind_host: str = "127.0.0.1"
    """The address that it listens on. The default is loopback alone."""
    port: Port = 19092
    controller_port: Port = 19093
    partitions: Annotated[int, Field(ge=1, le=1024)] = 2
    """Partitions of the embedding topics; `joined` always has one."""
    replication: Annotated[int, Field(ge=1, le=9)] = 1
    """Copies of each record. Above 1 a record needs two of them before it is acknowledged."""
    flush: bool = True
    """Whether the brokers take `flush.*` of topics. Managed ones may not: then replication must be at least 3."""
    flush_ms: Milliseconds = 1000
    """The notifications of so long may be lost with a power cut, where replication is below 3."""
    embeddings_retention_days: Annotated[float, Field(gt=0, le=3650)] = 7.0
    """How long the embedding topics keep notifications. A job that is down for longer loses some."""
    embeddings_max_bytes: Annotated[int, Field(ge=0)] = 0
    """The size of both embedding topics together, each copy counted by itself; 0: no limit."""
    max_message_bytes: Annotated[int, Field(ge=LARGEST_RECORD_BYTES)] = 4_194_304
    """The largest record of a topic."""
    aliases_topic: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")] = "neardup.aliases"
    """The topic that tells which signal each alias names: one for all signals."""

    @model_validator(mode="after")
    def _own_broker_is_plain(self) -> KafkaSettings:
        if self.own_broker and self.client != KafkaSecurity():
            raise ValueError("our own broker has no TLS and no SASL: `client` needs brokers in `bootstrap`")
        return self

    @model_validator(mode="after")
    def _records_survive_a_power_cut(self) -> KafkaSettings:
        if not self.flush and self.replication < 3:
            raise ValueError(
                f"flush = false needs replication of at least 3, is {self.replication}: records that are not flushed "
                "are lost with the power of the brokers that hold them"
            )
        if self.own_broker and self.replication != 1:
            raise ValueError(f"replication is {self.replication}: our own broker is one, more copies need `bootstrap`")
        if self.embeddings_max_bytes and self.embeddings_max_bytes < 2 * self.partitions * MIN_PARTITION_BYTES:
            raise ValueError(
                f"embeddings_max_bytes is {self.embeddings_max_bytes}: {2 * self.partitions} partitions need "
                f"{2 * self.partitions * MIN_PARTITION_BYTES} at least"
            )
        return self

    @property
    def own_broker(self) -> bool:
        """Whether the broker is a part of this deployment."""
        return not self.bootstrap

    @property
    def servers(self) -> str:
        """Host and port of each broker that clients ask first, with commas between them."""
        return ",".join(self.bootstrap) or f"{self.host}:{self.port}"
