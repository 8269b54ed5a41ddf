"""The broker's configuration says what the settings say."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from stream.local import broker
from stream.local.broker import server_properties
from stream.local.errors import DeploymentError
from stream.settings import Settings


def _parse(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


def test_listens_on_loopback_at_the_settings_ports(settings: Settings) -> None:
    values = _parse(server_properties(settings, settings.data_dir / "kafka" / "log"))
    port, controller = settings.kafka.port, settings.kafka.controller_port
    assert values["listeners"] == f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}"
    assert values["controller.quorum.bootstrap.servers"] == f"127.0.0.1:{controller}"
    assert values["auto.create.topics.enable"] == "false"
    assert values["message.max.bytes"] == str(settings.kafka.max_message_bytes)
    # How often logs are flushed is set for each topic. This makes the broker look.
    assert {key: value for key, value in values.items() if key.startswith("log.flush")} == {
        "log.flush.scheduler.interval.ms": str(settings.kafka.flush_ms)
    }


def test_clients_are_told_the_host_not_the_address_that_is_bound(settings: Settings) -> None:
    kafka = settings.kafka.model_copy(update={"host": "broker", "bind_host": "0.0.0.0"})
    values = _parse(server_properties(settings.model_copy(update={"kafka": kafka}), Path("log")))
    assert values["listeners"].startswith(f"PLAINTEXT://0.0.0.0:{kafka.port},")
    assert values["advertised.listeners"].startswith(f"PLAINTEXT://broker:{kafka.port},")


def test_a_log_is_formatted_once_and_keeps_its_identity(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    log = settings.data_dir / "kafka" / "log"
    formatted: list[str] = []

    def format_log(java: object, properties: Path, cluster_id: str) -> None:
        formatted.append(cluster_id)
        assert properties.is_file()

    monkeypatch.setattr(broker, "_format", format_log)
    monkeypatch.setattr(broker, "_java", lambda folder, compiler: ("java",))

    broker.prepare_broker(settings)
    broker.prepare_broker(settings)  # the first one was cut off: there is no meta.properties
    assert formatted[0] == formatted[1] == (settings.data_dir / "kafka" / "cluster-id").read_text().strip()

    log.mkdir(parents=True)
    (log / "meta.properties").touch()
    broker.prepare_broker(settings)
    assert len(formatted) == 2


@pytest.mark.parametrize("left", [b"", bytes(23), b"AAAA", b"\xff" * 23])
def test_an_identity_that_a_power_cut_has_emptied_is_made_anew(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, left: bytes
) -> None:
    formatted: list[str] = []
    monkeypatch.setattr(broker, "_format", lambda java, properties, cluster_id: formatted.append(cluster_id))
    monkeypatch.setattr(broker, "_java", lambda folder, compiler: ("java",))
    file = settings.data_dir / "kafka" / "cluster-id"
    file.parent.mkdir(parents=True)
    file.write_bytes(left)
    for _ in range(2):
        broker.prepare_broker(settings)
    assert formatted == [file.read_text().strip()] * 2
    assert len(formatted[0]) == 22


def test_log_lines_have_the_form_that_the_environment_asks_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "_format", lambda *_: None)
    monkeypatch.setattr(broker, "_java", lambda folder, compiler: ("java",))
    for form, opening in (("text", "pattern = %d{"), ("json", 'pattern = {"timestamp"')):
        monkeypatch.setenv("NEARDUP_LOG_FORMAT", form)
        broker.prepare_broker(settings)
        assert opening in (settings.data_dir / "kafka" / "log4j2.properties").read_text()


def test_an_identity_never_looks_like_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([uuid.UUID(bytes=b"\xf8" + bytes(15)), uuid.UUID(bytes=b"\x00" + bytes(15))])
    monkeypatch.setattr(broker.uuid, "uuid4", lambda: next(drawn))
    assert broker._new_id() == "A" * 22


def test_a_format_that_fails_says_why(tmp_path: Path) -> None:
    complain = ("/bin/sh", "-c", "echo the disk is read-only >&2; exit 3", "--")
    with pytest.raises(DeploymentError, match="the disk is read-only"):
        broker._format(complain, tmp_path / "server.properties", "id")
