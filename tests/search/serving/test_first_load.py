"""The first load over gRPC: beside the live index, through kill -9 and SIGTERM, until its index serves the stream."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.access import Right
from core.errors import MismatchError, RefusedError
from core.first_loads import LoadReport, LoadRequest, LoadState
from manifests.folder import MANIFESTS
from manifests.manifest import Kind, Manifest, ManifestFile
from manifests.metadata import FileMetadata
from search.serving import search_pb2 as pb
from search.serving.client import SearchClient
from search.serving.service import RIGHTS
from tests.search.index.test_housekeeping import until
from tests.search.serving.running_server import RunningSearch, candidates
from tests.search.serving.search_setup import (
    MAX_MESSAGE_BYTES,
    SCORE_DIMENSION,
    SEARCH_DIMENSION,
    SIGNAL,
    entry,
    vector,
)
from tests.support.ports import free_ports

ROOT = Path(__file__).parents[3]
ROWS = 60
NAME = "first.json"
JOINED = "topic-of-joined"


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Image r has the vectors of seed r."""
    (tmp_path / "root" / MANIFESTS).mkdir(parents=True)
    columns = {"image_id": pa.array([f"old-{row}" for row in range(ROWS)])}
    columns["head"] = columns["image_id"]
    for name, size in (("search", SEARCH_DIMENSION), ("score", SCORE_DIMENSION)):
        rows = np.array([vector(size, row) for row in range(ROWS)]).astype(np.float16)
        columns[name] = pa.array(list(rows), pa.list_(pa.float16()))
    table = pa.table(columns).replace_schema_metadata(FileMetadata(SIGNAL).encoded())
    file = tmp_path / "root" / "old.parquet"
    pq.write_table(table, file)
    data = file.read_bytes()
    made = Manifest(Kind.SNAPSHOT, [ManifestFile("old.parquet", ROWS, len(data), hashlib.sha256(data).hexdigest())])
    (tmp_path / "root" / MANIFESTS / NAME).write_bytes(made.encoded())
    return made


class Servers:
    """One server process after the other, on the same folder and ports."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = free_ports(2)
        self._process: subprocess.Popen[bytes] | None = None
        self._client: SearchClient | None = None

    @property
    def client(self) -> SearchClient:
        assert self._client is not None
        return self._client

    def start(self, rows_per_s: float = 0.0) -> LoadReport | None:
        command = [sys.executable, "-m", "tests.search.serving.search_setup", str(self._folder)]
        arguments = [*map(str, self._ports), "", str(rows_per_s)]
        self._process = subprocess.Popen([*command, *arguments], cwd=ROOT)
        until(self._is_ready)
        self._client = SearchClient(f"127.0.0.1:{self._ports[0]}", 30.0, MAX_MESSAGE_BYTES)
        return self._client.load_status()

    def ended(self, number: int | None = None) -> int:
        """Waits for the end; how it ended."""
        assert self._process is not None
        self.client.close()
        if number is not None:
            self._process.send_signal(number)
        return self._process.wait(60)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "the server ended"
        with suppress(httpx.TransportError):
            return httpx.get(f"http://127.0.0.1:{self._ports[1]}/readyz").status_code == 200
        return False


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    servers = Servers(tmp_path / "index")
    yield servers
    servers.close()


def loaded(client: SearchClient) -> LoadReport:
    report = client.load_status()
    assert report is not None
    return report


def found_near(client: SearchClient, offset: int, seed: int) -> tuple[pb.Answer, str]:
    """Inserts a near duplicate of a seed, and the best candidate."""
    answer = client.insert_and_search(JOINED, [entry(offset, f"new-{offset}", seed, near=0.01)]).answers[0]
    return answer, candidates(answer.candidates)[0].image_id


def test_a_first_load_survives_the_server_and_takes_the_stream(
    tmp_path: Path, manifest: Manifest, servers: Servers
) -> None:
    root = str(tmp_path / "root")
    slow = ROWS / 3600
    assert servers.start(slow) is None
    request = LoadRequest(root, NAME, manifest.id, JOINED)
    begun = servers.client.load(request)
    assert (begun.request, begun.state) == (request, LoadState.LOADING)
    until(lambda: loaded(servers.client).rows_total == ROWS)
    assert servers.ended(signal.SIGKILL) == -signal.SIGKILL
    status = servers.start(slow)
    assert status is not None
    assert (status.request, status.state, status.started_ms) == (request, LoadState.LOADING, begun.started_ms)
    until(lambda: loaded(servers.client).rows_total == ROWS)
    assert servers.ended(signal.SIGTERM) == 0
    servers.start()
    servers.client.insert_and_search(JOINED, [entry(0, "early", 1), entry(1, "bird", 2)])
    until(lambda: loaded(servers.client).state is LoadState.READY)
    ready = loaded(servers.client)
    assert (ready.rows_done, ready.rows_total, ready.images, ready.detail) == (ROWS, ROWS, ROWS, "")
    assert ready.ended_ms >= ready.started_ms > 0
    described = servers.client.describe()
    assert (described.offset, described.images, described.load) == (1, 2, "")
    told = servers.client.adopt_load(manifest.id, JOINED, ROWS)
    assert (told.state, told.detail) == (LoadState.READY, "adopted: the server starts again")
    assert servers.ended() == 0
    status = servers.start()
    assert status is not None
    assert status.state is LoadState.LIVE
    described = servers.client.describe()
    assert (described.log_id, described.offset, described.base) == (JOINED, ROWS - 1, ROWS)
    assert (described.checksum, described.images, described.load) == (0, ROWS, manifest.id)
    assert described.released == ROWS - 1
    first = found_near(servers.client, ROWS, 17)
    assert (first[0].place, first[1]) == (ROWS, "old-17")
    assert found_near(servers.client, ROWS, 17) == first
    assert servers.client.adopt_load(manifest.id, JOINED, ROWS).state is LoadState.LIVE


def test_the_calls_of_a_load(server: RunningSearch, tmp_path: Path, manifest: Manifest) -> None:
    client = server.client
    request = LoadRequest(str(tmp_path / "root"), NAME, manifest.id, JOINED)
    assert client.load_status() is None
    assert "neardup_search_load_rows" not in server.metrics()
    with pytest.raises(RefusedError, match="folder has 1 to 4096 bytes, not ''"):
        client.load(replace(request, folder=""))
    with pytest.raises(RefusedError, match="no load of the manifest"):
        client.abort_load(manifest.id)
    with pytest.raises(RefusedError, match="no load of the manifest"):
        client.adopt_load(manifest.id, JOINED, ROWS)
    client.load(replace(request, manifest="missing.json"))
    until(lambda: loaded(client).state is LoadState.FAILED)
    assert "cannot read" in loaded(client).detail
    client.load(request)
    until(lambda: loaded(client).state is LoadState.READY)
    metrics = server.metrics()
    assert metrics["neardup_search_load_rows"] == metrics["neardup_search_load_rows_total"] == ROWS
    assert metrics['neardup_search_load_state{state="ready"}'] == 1
    assert metrics['neardup_search_load_state{state="live"}'] == 0
    with pytest.raises(MismatchError, match=r"has 60 rows, but the log .* begins at 61"):
        client.adopt_load(manifest.id, JOINED, ROWS + 1)
    assert client.abort_load(manifest.id).state is LoadState.ABORTED
    assert list(server.settings.folder.glob("*.load")) == []
    assert {RIGHTS[name] for name in ("Load", "AbortLoad", "AdoptLoad")} == {Right.REQUIRE}
    assert RIGHTS["LoadStatus"] is Right.READ
