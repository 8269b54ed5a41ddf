"""What a server is told is what the settings of its signal say."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from core.errors import SettingsError
from storage.serving import server
from stream import servers
from stream.access import api_url
from stream.alias_places import alias_file
from stream.bootstrap.signal import load_signal
from stream.cli.exits import Exit
from stream.hashing import code_settings
from stream.servers import search_server_settings, serve_storage, store_identity
from stream.settings import load_settings
from tests.support.stack import PHOTOS, ROOT, stack_settings


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
    assert [one.history_days for one in told] == [0.0]
    assert told[0].folder == settings.data_dir / "signals" / "photos" / "store"


def test_history_is_kept_as_long_as_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[server.StorageServerSettings] = []
    monkeypatch.setattr(server, "serve", told.append)
    monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__STORAGE__HISTORY_DAYS", "90.5")
    serve_storage(load_settings())
    assert [one.history_days for one in told] == [90.5]


def test_a_first_load_makes_the_codes_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[server.StorageServerSettings] = []
    monkeypatch.setattr(server, "serve", told.append)
    monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__STORAGE__LOAD_ROWS_PER_S", "2000")
    settings = load_settings()
    serve_storage(settings)
    assert told[0].load is not None
    load = told[0].load()
    coder = code_settings(settings, settings.signals["photos"]).build()
    dice = np.random.default_rng(1)
    search = dice.standard_normal((3, load.signal.search_dimension)).astype(np.float32)
    score = dice.standard_normal((3, load.signal.score_dimension)).astype(np.float32)
    assert load.make_codes(search, score).tolist() == coder.codes(score, search).tolist()
    assert load.signal.name in store_identity(settings, "photos").replace("signal ", "", 1)
    assert load.signal.code == coder.fingerprint
    assert load.rows_per_s == 2000.0


def test_the_api_learns_where_aliases_lead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[server.StorageServerSettings] = []
    monkeypatch.setattr(server, "serve", told.append)
    settings = stack_settings(tmp_path, {"old": PHOTOS, "new": PHOTOS})
    for name in ("old", "new"):
        serve_storage(settings, name)
    assert [one.aliases.signal for one in told] == ["old", "new"]
    assert {one.aliases.file for one in told} == {alias_file(settings)}
    for one in told:
        assert {name: place.api for name, place in one.aliases.places.items()} == {
            name: api_url(settings, name) for name in ("old", "new")
        }


@pytest.mark.parametrize("days", ["-1", "inf", "nan", "40000"])
def test_history_is_not_kept_for_a_time_that_is_none(days: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__STORAGE__HISTORY_DAYS", days)
    with pytest.raises(SettingsError, match=r"signals\.photos\.storage\.history_days"):
        load_settings()


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


@pytest.mark.parametrize(
    ("role", "module", "connections"),
    [
        ("search", "search.serving.server", 512 + 64),
        ("scorer", "scoring.serving.server", 512 + 64),
        ("storage", "storage.serving.server", 512 + 64 + 512),
    ],
)
def test_room_for_all_connections_is_made_sure_of_before_a_server_opens_anything(
    role: str, module: str, connections: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: list[object]
) -> None:
    monkeypatch.setattr(importlib.import_module(module), "serve", lambda _: done.append("served"))
    monkeypatch.setattr(servers, "reserve_descriptors", done.append)
    getattr(servers, f"serve_{role}")(stack_settings(tmp_path))
    assert done == [0o077, connections, "served"]


SERVE = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
from stream.cli.main import main
raise SystemExit(main(["serve", "storage"]))
"""


def test_a_server_that_may_open_too_few_files_says_so_and_opens_no_store(tmp_path: Path) -> None:
    environment = os.environ | {"NEARDUP_DATA": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = (sys.executable, "-c", SERVE)
    told = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == Exit.USAGE, told.stderr
    assert "may have 1,024 files and sockets open and needs 1,600" in told.stderr
    assert not (tmp_path / "signals").exists()


def test_both_servers_load_files_made_for_the_same_signal() -> None:
    settings = load_settings(ROOT / "neardup.toml")
    found = load_signal(settings)
    told = search_server_settings(settings)
    assert told.signal == found.name
    assert (told.terms.fingerprint, told.code.build().fingerprint) == (found.terms, found.code)
    assert (told.search_dimension, told.score_dimension) == (found.search_dimension, found.score_dimension)
    assert told.load_rows_per_s == 0.0
