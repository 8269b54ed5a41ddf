"""How clients reach Kafka: the same settings in the words of both client libraries, and what is refused."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

from core.errors import SettingsError
from stream.kafka_access import _LOGIN_MODULES, KafkaAccess, KafkaSecurity
from stream.kafka_settings import KafkaSettings
from stream.local.java import jar_folder
from stream.settings import load_settings

SCRAM = "org.apache.flink.kafka.shaded.org.apache.kafka.common.security.scram.ScramLoginModule"
PLAIN = "org.apache.flink.kafka.shaded.org.apache.kafka.common.security.plain.PlainLoginModule"

CASES: list[tuple[dict[str, Any], dict[str, Any], dict[str, str]]] = [
    ({}, {"security_protocol": "PLAINTEXT"}, {"security.protocol": "PLAINTEXT"}),
    ({"security_protocol": "SSL"}, {"security_protocol": "SSL"}, {"security.protocol": "SSL"}),
    (
        {"security_protocol": "SSL", "ca_file": "/ca.pem", "client_pem": "/client.pem"},
        {
            "security_protocol": "SSL",
            "ssl_cafile": "/ca.pem",
            "ssl_certfile": "/client.pem",
            "ssl_password": None,
        },
        {
            "security.protocol": "SSL",
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": "/ca.pem",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": "/client.pem",
        },
    ),
    (
        {"security_protocol": "SSL", "client_pem": "/client.pem", "client_pem_password": "pass"},
        {"security_protocol": "SSL", "ssl_certfile": "/client.pem", "ssl_password": "pass"},
        {
            "security.protocol": "SSL",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": "/client.pem",
            "ssl.key.password": "pass",
        },
    ),
    (
        {"security_protocol": "SASL_SSL", "username": "ann", "password": "pass", "ca_file": "/ca.pem"},
        {
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": "ann",
            "sasl_plain_password": "pass",
            "ssl_cafile": "/ca.pem",
        },
        {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.jaas.config": f'{SCRAM} required username="ann" password="pass";',
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": "/ca.pem",
        },
    ),
    (
        {
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "SCRAM-SHA-256",
            "username": "ann",
            "password": 'a"b\\c;',
        },
        {
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "SCRAM-SHA-256",
            "sasl_plain_username": "ann",
            "sasl_plain_password": 'a"b\\c;',
        },
        {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "SCRAM-SHA-256",
            "sasl.jaas.config": f'{SCRAM} required username="ann" password="a\\"b\\\\c;";',
        },
    ),
    (
        {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "username": "ann", "password": "pass"},
        {
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "PLAIN",
            "sasl_plain_username": "ann",
            "sasl_plain_password": "pass",
        },
        {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "PLAIN",
            "sasl.jaas.config": f'{PLAIN} required username="ann" password="pass";',
        },
    ),
]


@pytest.mark.parametrize(("settings", "python", "java"), CASES)
def test_both_clients_are_told_the_same(settings: dict[str, Any], python: dict[str, Any], java: dict[str, str]) -> None:
    access = KafkaAccess("a:1,b:2", "neardup-photos-test", KafkaSecurity(**settings))
    assert access.python_options() == {"bootstrap_servers": "a:1,b:2", "client_id": "neardup-photos-test", **python}
    assert access.java_properties() == java


@pytest.mark.parametrize("client", [KafkaProducer, KafkaConsumer, KafkaAdminClient])
def test_the_client_library_knows_every_option(client: Any) -> None:
    for settings, _, _ in CASES:
        assert (
            KafkaAccess("a:1", "x", KafkaSecurity(**settings)).python_options().keys() <= client.DEFAULT_CONFIG.keys()
        )


def test_the_connector_has_the_login_modules() -> None:
    (jar,) = jar_folder("flink").glob("flink-sql-connector-kafka-*.jar")
    classes = set(zipfile.ZipFile(jar).namelist())
    assert {f"{name.replace('.', '/')}.class" for name in _LOGIN_MODULES.values()} <= classes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"security_protocol": "SASL_SSL"}, "username and password"),
        ({"security_protocol": "SASL_SSL", "username": "ann"}, "username and password"),
        ({"username": "ann", "password": "pass"}, "username and password"),
        ({"security_protocol": "SASL_SSL", "username": "ann", "password": "a\nb"}, "printable"),
        ({"ca_file": "/ca.pem"}, "ca_file"),
        ({"security_protocol": "SASL_PLAINTEXT", "username": "a", "password": "b", "client_pem": "/c"}, "client_pem"),
        ({"security_protocol": "SSL", "client_pem_password": "pass"}, "client_pem_password"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KafkaSecurity(**settings)


def test_secrets_are_not_shown() -> None:
    security = KafkaSecurity(
        "SASL_SSL", username="ann", password="hidden", client_pem="/c", client_pem_password="hidden"
    )
    access = KafkaAccess("a:1", "x", security)
    assert "hidden" not in f"{access} {access!r} {KafkaSettings(bootstrap=('a:1',), client=security)}"


def test_settings_from_file_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "neardup.toml"
    file.write_text(
        '[kafka]\nbootstrap = ["a.example:9093", "b.example:9093"]\n'
        '[kafka.client]\nsecurity_protocol = "SASL_SSL"\nusername = "ann"\nca_file = "certificates/ca.pem"\n'
    )
    monkeypatch.setenv("NEARDUP_KAFKA__CLIENT__PASSWORD", "12345")
    with pytest.raises(SettingsError, match=r"kafka\.client\.ca_file: the file .*ca\.pem cannot be read"):
        load_settings(file).kafka_access("x")
    (tmp_path / "certificates").mkdir()
    (tmp_path / "certificates" / "ca.pem").touch()
    access = load_settings(file).kafka_access("x")
    assert access.bootstrap == "a.example:9093,b.example:9093"
    assert access.security.password == "12345"
    assert access.security.ca_file == str(tmp_path / "certificates" / "ca.pem")
    monkeypatch.setenv("NEARDUP_KAFKA__BOOTSTRAP", "c.example:1, d.example:2")
    assert load_settings(file).kafka.servers == "c.example:1,d.example:2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[kafka.client]\nsecurity_protocol = "SSL"\n', "our own broker has no TLS"),
        ('[kafka]\nbootstrap = ["a.example"]\n', "kafka.bootstrap.0"),
        ('[kafka]\nbootstrap = ["a:1"]\n[kafka.client]\nuser = "ann"\n', "kafka.client.user"),
        ('[kafka]\nbootstrap = ["a:1"]\n[kafka.client]\nsasl_mechanism = "GSSAPI"\n', "kafka.client.sasl_mechanism"),
        ('[kafka]\nbootstrap = ["a:1"]\n[kafka.client]\npassword = "hidden"\n', "kafka.client: "),
    ],
)
def test_settings_that_are_refused_name_their_key(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "neardup.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=message) as caught:
        load_settings(file)
    assert "hidden" not in f"{caught.value} {caught.value.__cause__}"
