"""How a client reaches Kafka: the brokers, TLS, and how it logs in.

Two client libraries use these settings: kafka-python, and the Java client in Flink's connector. The connector relocates
Kafka's classes into a package of its own, so login modules have their relocated names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["KafkaAccess", "KafkaSecurity"]

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

_SHADED = "org.apache.flink.kafka.shaded.org.apache.kafka.common.security"
"""The relocated package in Flink's Kafka connector."""

_LOGIN_MODULES = {
    "PLAIN": f"{_SHADED}.plain.PlainLoginModule",
    "SCRAM-SHA-256": f"{_SHADED}.scram.ScramLoginModule",
    "SCRAM-SHA-512": f"{_SHADED}.scram.ScramLoginModule",
}


@dataclass(frozen=True, slots=True)
class KafkaSecurity:
    """TLS and SASL of every Kafka client. Host names are always checked under TLS.

    Raises:
        ValueError: Fields do not fit each other.
    """

    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: SaslMechanism = "SCRAM-SHA-512"
    """How `username` and `password` are proved; used by the SASL protocols alone."""
    username: str = ""
    password: str = field(default="", repr=False)
    ca_file: str = ""
    """A PEM file with the certificates of the authorities that are trusted; empty: those of the system."""
    client_pem: str = ""
    """A PEM file with the client's certificate chain and its private key (PKCS #8); empty: no client certificate."""
    client_pem_password: str = field(default="", repr=False)
    """Of the private key; empty: the key is not encrypted."""

    def __post_init__(self) -> None:
        if self.uses_sasl != bool(self.username) or self.uses_sasl != bool(self.password):
            raise ValueError(
                f"username and password belong to the SASL protocols, both or none; security_protocol is"
                f" {self.security_protocol}"
            )
        if not all(text.isprintable() for text in (self.username, self.password)):
            raise ValueError("username and password must be printable")
        if (self.ca_file or self.client_pem) and not self.uses_tls:
            raise ValueError(
                f"ca_file and client_pem belong to SSL and SASL_SSL; security_protocol is {self.security_protocol}"
            )
        if self.client_pem_password and not self.client_pem:
            raise ValueError("client_pem_password needs client_pem")

    @property
    def uses_sasl(self) -> bool:
        """Whether a client logs in with a name and a password."""
        return self.security_protocol.startswith("SASL_")

    @property
    def uses_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.security_protocol.endswith("SSL")


@dataclass(frozen=True, slots=True)
class KafkaAccess:
    """What a client of either library needs to connect. Paths are absolute."""

    bootstrap: str
    """HOST:PORT of one broker or more, with commas between them."""
    client_id: str
    """Names the client in the broker's logs, metrics and quotas."""
    security: KafkaSecurity = KafkaSecurity()

    def python_options(self) -> dict[str, Any]:
        """Arguments of kafka-python's producer, consumer and admin client."""
        security = self.security
        options: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap,
            "client_id": self.client_id,
            "security_protocol": security.security_protocol,
        }
        if security.uses_sasl:
            options["sasl_mechanism"] = security.sasl_mechanism
            options["sasl_plain_username"] = security.username
            options["sasl_plain_password"] = security.password
        if security.ca_file:
            options["ssl_cafile"] = security.ca_file
        if security.client_pem:
            # The file holds the key too.
            options["ssl_certfile"] = security.client_pem
            options["ssl_password"] = security.client_pem_password or None
        return options

    def java_properties(self) -> dict[str, str]:
        """Properties of the Java client in Flink's connector, without the brokers and the client id.

        Flink takes those two by settings of its own: a source adds the number of its reader to the client id.
        """
        security = self.security
        properties: dict[str, str] = {"security.protocol": security.security_protocol}
        if security.uses_sasl:
            properties["sasl.mechanism"] = security.sasl_mechanism
            properties["sasl.jaas.config"] = (
                f"{_LOGIN_MODULES[security.sasl_mechanism]} required"
                f" username={_quoted(security.username)} password={_quoted(security.password)};"
            )
        if security.ca_file:
            properties["ssl.truststore.type"] = "PEM"
            properties["ssl.truststore.location"] = security.ca_file
        if security.client_pem:
            properties["ssl.keystore.type"] = "PEM"
            properties["ssl.keystore.location"] = security.client_pem
            if security.client_pem_password:
                properties["ssl.key.password"] = security.client_pem_password
        return properties


def _quoted(text: str) -> str:
    """A value as a JAAS configuration has it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
