"""What a server is told is what the settings of its signal say."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

from storage.serving import server
from stream import servers
from stream.servers import serve_storage
from stream.settings import load_settings
from tests.support.stack import stack_settings


@pytest.fixture(autouse=True)
def done(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Collects each `umask`, which would change the whole test run."""
    done: list[object] = []
    monkeypatch.setattr(os, "umask", done.append)
    return done


@pytest.mark.parametrize("store_class", ["rocksdb", "my_package.my_store:MyStore"])
def test_the_store_is_the_one_that_the_settings_name(store_class: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[server.StorageServerSettings] = []
    monkeypatch.setattr(server, "serve", told.append)
    settings = load_settings()
    photos = settings.signals["photos"].model_copy(update={"store_class": store_class})
    serve_storage(settings.model_copy(update={"signals": {"photos": photos}}))
    assert [one.store_class for one in told] == [store_class]
    assert told[0].folder == settings.data_dir / "signals" / "photos" / "store"


@pytest.mark.parametrize(
    ("role", "module"),
    [("search", "search.serving.server"), ("scorer", "scoring.serving.server"), ("storage", "storage.serving.server")],
)
def test_what_a_server_writes_is_for_its_owner_alone(
    role: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: list[object]
) -> None:
    monkeypatch.setattr(importlib.import_module(module), "serve", lambda _: done.append("served"))
    getattr(servers, f"serve_{role}")(stack_settings(tmp_path))
    assert done == [0o077, "served"]
