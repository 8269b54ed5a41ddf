"""The server as a process: it serves on three ports, outlives kill -9, stops when asked, says why it cannot start."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from core.alias_file import write_aliases
from core.aliases import Alias
from core.errors import MismatchError, UnavailableError
from core.first_loads import LoadReport, LoadState
from core.overrides import JOB_KINDS, OverrideKind, OverrideRequest
from core.types import ImageId
from storage.overrides.moves import MAX_MOVED
from storage.rocks.options import RocksOptions
from storage.rocks.store import RocksStore
from storage.serving.client import StorageClient
from storage.serving.history_sweep import KEPT
from storage.testing.decisions import A, B, C, founds, joins, put
from storage.testing.model import LOG
from tests.support.loadable import load_request, random_rows, write_manifest
from tests.support.ports import free_ports

ROOT = Path(__file__).parents[3]

SERVE = """
import logging, os, sys
from pathlib import Path
from core.access import Access, Right
from core.aliases import SignalPlace
from core.rpc import Listen
from storage.api.aliases import AliasSettings
from storage.serving import move_loop
from storage.serving.server import StorageServerSettings, serve
from tests.support.loadable import load_settings

folder, identity, store_class = sys.argv[1:4]
port, page, api = map(int, sys.argv[4:])
logging.basicConfig(level=logging.INFO)
move_loop.CHUNK = int(os.environ.get("MOVE_CHUNK", move_loop.CHUNK))
serve(
    StorageServerSettings(
        listen=Listen("127.0.0.1", port, page, 1 << 22, access=Access(anyone=frozenset(Right))),
        folder=Path(folder),
        api_host="127.0.0.1",
        api_port=api,
        max_page=100,
        kafka={"bootstrap_servers": "127.0.0.1:1"},
        assignments_topic="assignments",
        joined_topic="joined",
        replay_topic="replay",
        dead_letter_topic="dead-letter",
        max_message_bytes=1_048_576,
        identity=identity,
        store_class=store_class,
        history_days=float(os.environ.get("HISTORY_DAYS", "0")),
        aliases=AliasSettings(Path(folder).parent / "aliases.json", "photos", {"photos": SignalPlace("http://photos")}),
        load=lambda: load_settings(float(os.environ.get("LOAD_ROWS_PER_S", "0"))),
    )
)
"""


@dataclass
class ServerFolder:
    """Where a server runs, and the processes that were started there."""

    folder: Path
    ports: list[int]
    processes: list[subprocess.Popen[bytes]]

    def start(
        self, identity: str = "photos", ready: bool = True, store_class: str = "rocksdb"
    ) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", SERVE, str(self.folder), identity, store_class, *map(str, self.ports)]
        with self.log.open("w") as log:
            process = subprocess.Popen(command, cwd=ROOT, stderr=log)
        self.processes.append(process)
        while ready and not self.answers():
            assert process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        return process

    @property
    def log(self) -> Path:
        """What the process that was started last says."""
        return self.folder.parent / f"{self.ports[0]}.log"

    def answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.ports[1]}/readyz").is_success
        except httpx.HTTPError:
            return False

    def client(self) -> StorageClient:
        return StorageClient(f"127.0.0.1:{self.ports[0]}", 5.0, 1 << 22)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.ports[2]}{path}")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerFolder]:
    server = ServerFolder(tmp_path / "store", free_ports(3), [])
    yield server
    for process in server.processes:
        process.kill()
        process.wait()


def test_it_serves_outlives_a_kill_and_stops(server: ServerFolder) -> None:
    first = server.start()
    with closing(server.client()) as client:
        assert client.apply(LOG, [founds(0, A), joins(1, B, A)], -1, 0) == 1
        instance_id = client.instance_id
        first.kill()
        first.wait()
        with pytest.raises(UnavailableError):
            client.look_up([A])
        second = server.start()
        assert client.apply(LOG, [founds(2, C)], 1, 0) == 2
        assert client.instance_id != instance_id
        assert list(client.verify())[-1].images == 3
    assert server.get("/v1/images/b").json()["head"] == "a"
    assert server.get("/readyz").json() == {"status": "ready"}
    assert server.get("/openapi.json").json()["info"]["title"] == "neardup"
    pages = [server.get("/metrics").text, httpx.get(f"http://127.0.0.1:{server.ports[1]}/metrics").text]
    for page in pages:
        assert "neardup_storage_images 3.0" in page
        assert "neardup_storage_published_lag_entries 3.0" in page
    while "neardup_storage_publish_failures_total 0.0" in server.get("/metrics").text:
        time.sleep(0.1)
    second.send_signal(signal.SIGTERM)
    assert second.wait(15) == 0
    log = server.log.read_text()
    assert '"images": 2' in log
    assert log.count("publishing waits") == 1
    assert "Traceback" not in log
    assert not server.answers()


def test_aliases_are_followed_while_it_serves(server: ServerFolder) -> None:
    file = server.folder.parent / "aliases.json"
    server.start()
    assert server.get("/v1/aliases").json() == {"signal": "photos", "aliases": [], "fault": None}
    write_aliases(file, {"live": Alias("photos", 0)})
    asked = server.get("/v1/aliases/live/stats")
    assert (asked.json()["images"], asked.headers["Neardup-Signal"]) == (0, "photos")
    file.write_bytes(b"")
    assert server.get("/v1/aliases/live/stats").is_success
    assert "neardup_storage_alias_file_failures_total 1.0" in server.get("/metrics").text
    assert server.log.read_text().count("aliases.json: the file of aliases is none") == 1


def test_history_that_is_too_old_goes_but_for_the_newest(server: ServerFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it was written in 1970 and is published; five entries more than those that always stay."""
    store = RocksStore(server.folder, "photos", RocksOptions(sync=False), now_ms=lambda: 10**6)
    entries = KEPT + 5
    for start in range(0, entries, 1_000):
        put(store, *[founds(n, ImageId(f"i{n}")) for n in range(start, min(start + 1_000, entries))])
    store.set_published(entries)
    store.close()
    monkeypatch.setenv("HISTORY_DAYS", "30")
    server.start()
    while "neardup_storage_history_first 6.0" not in (page := server.get("/metrics").text):
        time.sleep(0.05)
    assert "neardup_storage_history_swept_total 5.0" in page
    assert "neardup_storage_sweep_failures_total 0.0" in page
    assert server.get("/v1/images/i4/history").json()["changes"] == []
    assert len(server.get("/v1/images/i5/history").json()["changes"]) == 1
    with closing(server.client()) as client:
        assert list(client.verify())[-1].problems == ()


def test_a_first_load_outlives_stops_and_becomes_the_store(
    server: ServerFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first server is stopped within the load, and the second one ends by itself, since it is live."""
    manifest = write_manifest(tmp_path / "old", random_rows(3, 200, again=0.0))
    request = load_request(tmp_path / "old", manifest)

    def status() -> LoadReport | None:
        with closing(server.client()) as client:
            return client.load_status()

    monkeypatch.setenv("LOAD_ROWS_PER_S", "100")
    first = server.start()
    assert status() is None
    with closing(server.client()) as client:
        begun = client.load(request)
        assert begun.request == request
        with pytest.raises(UnavailableError, match="a first load is under way"):
            client.apply(LOG, [founds(0, A)], -1, 0)
    while (report := status()) is None or not report.rows_done:
        time.sleep(0.02)
    first.send_signal(signal.SIGTERM)
    assert first.wait(15) == 0
    monkeypatch.delenv("LOAD_ROWS_PER_S")
    second = server.start()
    while (report := status()) is None or report.state is not LoadState.READY:
        time.sleep(0.02)
    assert 'neardup_storage_load_state{state="ready"} 1.0' in server.get("/metrics").text
    with closing(server.client()) as client:
        assert client.describe().load == ""
        assert client.finish_load(manifest.id).state is LoadState.LIVE
    assert second.wait(15) == 0
    assert "Traceback" not in server.log.read_text()
    server.start()
    with closing(server.client()) as client:
        described = client.describe()
        assert (described.load, described.offset, described.base) == (manifest.id, 199, 200)
        assert described.log_id == request.log_id
        assert client.finish_load(manifest.id).state is LoadState.LIVE
        with pytest.raises(MismatchError, match="is live"):
            client.abort_load(manifest.id)
        assert list(client.verify())[-1].problems == ()
        assert client.apply(request.log_id, [founds(200, A)], 199, described.revision) == 200
    assert server.get("/v1/images/a").json()["head"] == "a"


def test_a_bulk_move_goes_on_after_a_kill_and_a_stop(server: ServerFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first server is killed within the move, the second one is stopped within it. Both write little at once."""
    images = MAX_MOVED + 1
    store = RocksStore(server.folder, "photos", RocksOptions(sync=False))
    put(store, founds(0, A), kinds=JOB_KINDS)
    for start in range(1, images, 1_000):
        put(store, *[joins(n, ImageId(f"i{n}"), A) for n in range(start, min(start + 1_000, images))], kinds=JOB_KINDS)
    put(store, founds(images, B), kinds=JOB_KINDS)
    store.override(OverrideRequest(OverrideKind.MERGE, (A,), B), 7)
    store.close()

    def moved() -> tuple[str, int]:
        assert server.get(f"/v1/images/i{images - 1}").json()["head"] == "b"
        assert server.get("/v1/clusters/b").json()["count"] == images + 1
        found = server.get("/v1/operations/1").json()
        return found["state"], found["moved"]

    def wait_beyond(count: int) -> None:
        while moved()[1] <= count:
            time.sleep(0.02)

    def pause(*, rests: bool) -> None:
        with closing(server.client()) as client:
            client.pause_operation(1, rests=rests)

    monkeypatch.setenv("MOVE_CHUNK", "50")
    first = server.start()
    wait_beyond(50)
    pause(rests=True)
    paused = moved()
    assert f"neardup_storage_bulk_move_images {images}.0" in server.get("/metrics").text
    first.kill()
    first.wait()
    second = server.start()
    assert moved() == paused == ("paused", paused[1])
    pause(rests=False)
    wait_beyond(paused[1])
    second.send_signal(signal.SIGTERM)
    assert second.wait(15) == 0
    assert "Traceback" not in server.log.read_text()
    monkeypatch.delenv("MOVE_CHUNK")
    server.start()
    assert "the bulk move 1 goes on" in server.log.read_text()
    while moved() != ("done", images):
        time.sleep(0.02)
    with closing(server.client()) as client:
        assert list(client.verify())[-1].problems == ()
    while "neardup_storage_bulk_move_images 0.0" not in (page := server.get("/metrics").text):
        time.sleep(0.02)
    assert "neardup_storage_bulk_move_failures_total 0.0" in page
    assert server.get("/v1/clusters/a").status_code == 404


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_a_taken_port_is_named(server: ServerFolder, taken: int) -> None:
    with socket.create_server(("127.0.0.1", server.ports[taken])):
        process = server.start(ready=False)
        assert process.wait(20) != 0
    assert str(server.ports[taken]) in server.log.read_text()


def test_one_folder_has_one_server(server: ServerFolder) -> None:
    server.start()
    other = ServerFolder(server.folder, free_ports(3), server.processes)
    process = other.start(ready=False)
    assert process.wait(20) != 0
    assert "LockedError" in other.log.read_text()


def test_a_store_of_another_signal_is_refused(server: ServerFolder) -> None:
    server.start().terminate()
    server.processes[0].wait(15)
    process = server.start(identity="texts", ready=False)
    assert process.wait(20) != 0
    assert "'photos'" in server.log.read_text()


def test_a_store_of_the_users_is_served(server: ServerFolder) -> None:
    server.start(store_class="examples.extending.another_store:LoggedStore")
    with closing(server.client()) as client:
        client.apply(LOG, [founds(0, A), joins(1, B, A)], -1, 0)
        assert list(client.verify())[-1].problems == ()
    assert server.get("/v1/images/b").json()["head"] == "a"
    assert "2 b -> a (matched)" in (server.folder / "writes.log").read_text()


@pytest.mark.parametrize("name", ["cassandra", "storage.limits:MAX_ID_BYTES"])
def test_what_is_no_store_is_refused(server: ServerFolder, name: str) -> None:
    process = server.start(ready=False, store_class=name)
    assert process.wait(20) != 0
    assert name in server.log.read_text()
    assert "SettingsError" in server.log.read_text()
