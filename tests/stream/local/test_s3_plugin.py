"""Flink's plugin for S3: there only where manifests lie in S3, and asked for by name if it is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream.local.certificates import ensure_certificate
from stream.local.errors import MissingPieceError
from stream.local.flink_home import flink_config, prepare_flink
from stream.local.s3_plugin import s3_options, s3_plugin
from stream.settings import Settings


@pytest.fixture
def in_s3(settings: Settings) -> Settings:
    """Settings whose manifests lie in S3."""
    name, signal = settings.signal()
    changed = signal.model_copy(update={"manifests": "s3://bucket/old"})
    return settings.model_copy(update={"signals": {name: changed}})


@pytest.fixture
def jars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of fetched jars."""
    monkeypatch.setattr("stream.local.java._JARS", tmp_path / "lib")
    return tmp_path / "lib"


def test_it_is_asked_for_only_where_it_is_needed(settings: Settings, in_s3: Settings, jars: Path) -> None:
    assert s3_plugin(settings) == []
    with pytest.raises(MissingPieceError, match=r"signals\.photos\.manifests is in S3.*run `make setup S3=1`"):
        s3_plugin(in_s3)
    (jars / "plugins" / "s3").mkdir(parents=True)
    with pytest.raises(MissingPieceError, match="was not fetched"):
        s3_plugin(in_s3)
    jar = jars / "plugins" / "s3" / "flink-s3.jar"
    jar.touch()
    assert s3_plugin(in_s3) == [jar]
    assert s3_plugin(settings) == []


def test_the_home_has_it_beside_the_reporter(
    settings: Settings, in_s3: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jar = tmp_path / "s3" / "flink-s3.jar"
    jar.parent.mkdir()
    jar.touch()
    monkeypatch.setattr("stream.local.flink_home.s3_plugin", lambda told: [jar] if told is in_s3 else [])
    ensure_certificate(settings)
    plugins = settings.data_dir / "flink" / "plugins"
    for told, folders in ((in_s3, ["metrics-prometheus", "s3"]), (settings, ["metrics-prometheus"])):
        prepare_flink(told)
        assert sorted(path.name for path in plugins.iterdir()) == folders
    prepare_flink(in_s3)
    assert (plugins / "s3" / "flink-s3.jar").resolve() == jar


def test_a_start_without_it_is_refused(in_s3: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(settings: Settings) -> list[Path]:
        raise MissingPieceError("run `make setup S3=1`")

    monkeypatch.setattr("stream.local.flink_home.s3_plugin", missing)
    with pytest.raises(MissingPieceError, match="S3=1"):
        prepare_flink(in_s3)


@pytest.mark.parametrize(
    ("environment", "options"),
    [
        ({}, {}),
        ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "x"}, {"s3.region": "eu-west-1"}),
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, {"s3.region": "eu-west-1"}),
        (
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:9000"},
            {"s3.endpoint": "http://127.0.0.1:9000", "s3.path-style-access": True, "s3.region": "us-east-1"},
        ),
        (
            {"AWS_ENDPOINT_URL": "http://other", "AWS_ENDPOINT_URL_S3": "store:9000", "AWS_REGION": "r"},
            {"s3.endpoint": "https://store:9000", "s3.path-style-access": True, "s3.region": "r"},
        ),
    ],
)
def test_options_follow_the_variables(
    settings: Settings, in_s3: Settings, environment: dict[str, str], options: dict[str, object]
) -> None:
    assert s3_options(in_s3, environment) == options
    assert s3_options(settings, environment) == {}


def test_the_configuration_has_them_and_no_key(
    settings: Settings, in_s3: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": "http://store:9000",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "hidden-secret",
    }.items():
        monkeypatch.setenv(name, value)
    config = flink_config(in_s3, "")
    assert config["s3.endpoint"] == "http://store:9000"
    assert not any("hidden-secret" in str(value) for value in config.values())
    assert not any(key.startswith("s3.") for key in flink_config(settings, ""))
