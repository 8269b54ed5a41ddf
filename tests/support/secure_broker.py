"""A broker with TLS and SASL for tests, with certificates made on the spot."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.admin import UserScramCredentialUpsertion

from stream.kafka_access import KafkaSecurity
from stream.local.broker import broker_command, prepare_broker, server_properties
from stream.local.files import tail
from stream.local.readiness import BrokerReady
from stream.settings import Settings
from tests.support.ports import free_ports
from tests.support.stack import eventually

USER, PASSWORD = "ann", "pass\"word\\'s;"
"""Characters that JAAS, Java and SQL each escape in another way."""


@dataclass(frozen=True, slots=True)
class SecureBroker:
    """Where it listens, and the clients' files."""

    sasl: str
    """SASL_SSL with PLAIN and SCRAM."""
    mutual: str
    """SSL that asks for the client's certificate."""
    ca_file: Path
    client_pem: Path

    def plain(self, password: str = PASSWORD) -> KafkaSecurity:
        return KafkaSecurity("SASL_SSL", "PLAIN", USER, password, str(self.ca_file))

    def scram_256(self) -> KafkaSecurity:
        return KafkaSecurity("SASL_SSL", "SCRAM-SHA-256", USER, PASSWORD, str(self.ca_file))

    def scram_512(self) -> KafkaSecurity:
        return KafkaSecurity("SASL_SSL", "SCRAM-SHA-512", USER, PASSWORD, str(self.ca_file))

    def certificate(self) -> KafkaSecurity:
        return KafkaSecurity("SSL", ca_file=str(self.ca_file), client_pem=str(self.client_pem))


@contextmanager
def secure_broker(settings: Settings, folder: Path) -> Iterator[SecureBroker]:
    """Runs the broker of these settings with two further listeners, and kills it at last.

    Its own plain listener is there too, for administration.
    """
    sasl, mutual = free_ports(2)
    ca_file, client_pem, server_pem = make_certificates(folder)
    prepare_broker(settings)
    home = settings.data_dir / "kafka"
    values = dict(line.split("=", 1) for line in server_properties(settings, home / "log").splitlines() if "=" in line)
    login = "org.apache.kafka.common.security"
    quoted = PASSWORD.replace("\\", "\\\\").replace('"', '\\"')
    values["listeners"] += f",SASL://127.0.0.1:{sasl},MUTUAL://127.0.0.1:{mutual}"
    values["advertised.listeners"] += f",SASL://127.0.0.1:{sasl},MUTUAL://127.0.0.1:{mutual}"
    values["listener.security.protocol.map"] += ",SASL:SASL_SSL,MUTUAL:SSL"
    values |= {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(server_pem),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(ca_file),
        "listener.name.mutual.ssl.client.auth": "required",
        "listener.name.sasl.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "listener.name.sasl.plain.sasl.jaas.config": f'{login}.plain.PlainLoginModule required user_{USER}="{quoted}";',
        "listener.name.sasl.scram-sha-256.sasl.jaas.config": f"{login}.scram.ScramLoginModule required;",
        "listener.name.sasl.scram-sha-512.sasl.jaas.config": f"{login}.scram.ScramLoginModule required;",
    }
    file = home / "server.properties"
    # In a properties file a backslash escapes.
    file.write_text("".join(f"{key}={value}\n".replace("\\", "\\\\") for key, value in values.items()))
    with (folder / "broker.log").open("w") as log:
        process = subprocess.Popen(broker_command(settings), cwd=folder, stdout=log, stderr=log)
        try:
            own = settings.kafka
            ready = BrokerReady(own.host, own.port)
            eventually(lambda: ready() is None or None, 90, lambda: tail(folder / "broker.log"))
            _add_scram_users(settings)
            yield SecureBroker(f"localhost:{sasl}", f"localhost:{mutual}", ca_file, client_pem)
        finally:
            process.kill()
            process.wait()


def _add_scram_users(settings: Settings) -> None:
    admin = KafkaAdminClient(bootstrap_servers=settings.kafka.servers)
    for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
        told = admin.alter_user_scram_credentials([UserScramCredentialUpsertion(USER, mechanism, PASSWORD)])
        assert told == {USER: None}
    admin.close()


def make_certificates(folder: Path) -> tuple[Path, Path, Path]:
    """An authority, and a client and a server (`localhost`) that it vouches for; each with its key in one PEM file."""

    def openssl(*words: str) -> None:
        subprocess.run(("openssl", *words), cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "rsa:2048", "-noenc")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test authority")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name in ("client", "server"):
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.crt")
        pem = (folder / f"{name}.crt").read_text() + (folder / f"{name}.key").read_text()
        (folder / f"{name}.pem").write_text(pem)
    return folder / "ca.pem", folder / "client.pem", folder / "server.pem"
