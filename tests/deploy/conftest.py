"""The files of the deployment, parsed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from stream.settings import Settings, load_settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the project."""
    return ROOT


@pytest.fixture(scope="session")
def services() -> dict[str, dict[str, Any]]:
    """The services of docker-compose.yml."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    found: dict[str, dict[str, Any]] = content["services"]
    return found


@pytest.fixture
def container_settings(services: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings as the containers read them: the project's file, and the environment of a service."""
    for name, value in services["job"]["environment"].items():
        monkeypatch.setenv(name, "" if "${" in value else value)
    return load_settings(ROOT / "neardup.toml")
