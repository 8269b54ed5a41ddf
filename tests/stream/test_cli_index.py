"""`neardup index` and `neardup search` against a search server that runs, and `joined` and storage that are faked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import UnavailableError
from storage.opening import open_store
from storage.serving.storage_pb2 import UnscoredResponse
from stream.cli.exits import Exit
from stream.cli.main import main
from stream.errors import NoStoreError
from stream.index_restore import storage_position
from stream.kafka_access import KafkaAccess
from stream.servers import search_server_settings, store_identity
from stream.settings import load_settings
from tests.search.serving.running_server import RunningSearch, run_search_server
from tests.search.serving.search_setup import SCORE_DIMENSION, SEARCH_DIMENSION, vector
from tests.stream.index_build.order import TOPIC_ID, FakeJoined, as_the_job_does, pages, parser_of, record, some_order
from tests.support.ports import free_ports

TOML = """
default_signal = "small"
api_token = "secret-word"
[signals.small]
model = "model"
search_embedding = {{ name = "a", model_version = "1", dimension = {search} }}
score_embedding = {{ name = "b", model_version = "1", dimension = {score} }}
terms = {{ bits = 64, groups = 16, bits_per_group = 6, candidates = 5, order = "distance" }}
code = {{ bits = 32 }}
search = {{ port = {port}, metrics_port = {page}, max_message_bytes = 1048576 }}
storage = {{ port = {store}, metrics_port = {store_page} }}
"""


@pytest.fixture
def settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    port, page, store, store_page = free_ports(4)
    file = tmp_path / "neardup.toml"
    file.write_text(
        TOML.format(
            search=SEARCH_DIMENSION, score=SCORE_DIMENSION, port=port, page=page, store=store, store_page=store_page
        )
    )
    monkeypatch.setenv("NEARDUP_SETTINGS", str(file))
    monkeypatch.setattr("stream.cli.index_command.os.nice", lambda niceness: niceness)
    return file


ORDER = [*some_order(60, 8), record("twin-1", 77), record("twin-2", 77)]


@pytest.fixture
def server(settings_file: Path) -> Iterator[RunningSearch]:
    with run_search_server(search_server_settings(load_settings(settings_file))) as server:
        as_the_job_does(server.index, ORDER, parser_of(server.settings))
        yield server


def said(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_stats_tell_size_and_position(server: RunningSearch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", "stats", "--json"]) == Exit.OK
    found = said(capsys)
    assert found["offset"] == len(ORDER) - 1
    assert found["images"] == server.index.images
    assert found["density"] is None
    assert sum(found["bytes"].values()) == found["bytes_total"]
    assert found["bytes_total"] == server.index.disk_bytes
    assert main(["index", "stats"]) == Exit.OK
    assert "gen-000001" in capsys.readouterr().out


def test_a_snapshot_needs_the_token_and_lies_beside_the_index(
    server: RunningSearch, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["index", "snapshot", "one", "--json"]) == Exit.OK
    made = said(capsys)
    assert Path(made["folder"]) == server.settings.snapshots / "one"
    assert made["offset"] == len(ORDER) - 1
    assert main(["index", "snapshot", "../one"]) == Exit.FAILED
    monkeypatch.setenv("NEARDUP_API_TOKEN", "another")
    assert main(["index", "snapshot", "two"]) == Exit.USAGE
    assert "api_token" in capsys.readouterr().err


def test_search_shows_candidates_and_whether_their_codes_were_compared(
    server: RunningSearch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["search", "--image-id", "twin-1", "--k", "1", "--json"]) == Exit.OK
    assert said(capsys)["candidates"] == [{"image_id": "twin-2", "overlap": 16, "distance": 0, "place": len(ORDER) - 1}]
    file = tmp_path / "one.npy"
    np.save(file, vector(SEARCH_DIMENSION, 77).astype(np.float16))
    assert main(["search", "--embedding", str(file), "--k", "2"]) == Exit.OK
    shown, said_beside = capsys.readouterr()
    assert "twin-1" in shown
    assert "twin-2" in shown
    assert "no codes were compared" in said_beside
    assert main(["search", "--embedding", str(file), "--k", "1", "--json"]) == Exit.OK
    assert [one["distance"] for one in said(capsys)["candidates"]] == [None]
    score = tmp_path / "score.npy"
    np.save(score, vector(SCORE_DIMENSION, 77).astype(np.float16))
    both = ["search", "--embedding", str(file), "--score-embedding", str(score), "--k", "2"]
    assert main([*both, "--json"]) == Exit.OK
    assert [(one["image_id"], one["distance"]) for one in said(capsys)["candidates"]] == [("twin-1", 0), ("twin-2", 0)]
    assert main(both) == Exit.OK
    assert "no codes" not in capsys.readouterr().err
    assert main(["search", "--image-id", "twin-1", "--score-embedding", str(score)]) == Exit.USAGE
    assert main(["search", "--image-id", "nobody"]) == Exit.NOT_FOUND
    assert main(["search"]) == Exit.USAGE
    assert main(["search", "--image-id", "x", "--embedding", str(file)]) == Exit.USAGE
    np.save(file, np.zeros((2, 3)))
    assert main(["search", "--embedding", str(file)]) == Exit.USAGE
    assert "float64 of shape (2, 3)" in capsys.readouterr().err


class Described:
    """In the place of `StorageClient`: a storage server at some offset."""

    offset = 10**6
    log_id = TOPIC_ID
    checksum = 1
    base = 0

    def __init__(self, *_: object) -> None: ...

    def describe(self) -> Described:
        return self

    def close(self) -> None: ...


def test_a_snapshot_is_listed_restored_and_removed(
    settings_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.index_restore.StorageClient", Described)
    told = search_server_settings(load_settings(settings_file))
    with run_search_server(told) as server:
        as_the_job_does(server.index, ORDER[:40], parser_of(server.settings))
        server.index.release(20)
        assert main(["index", "snapshot", "one", "--json"]) == Exit.OK
        as_the_job_does(server.index, ORDER[40:], parser_of(server.settings))
        assert main(["index", "restore", "one"]) != Exit.OK
        assert "stop it first" in capsys.readouterr().err
    monkeypatch.setattr(Described, "offset", 19)
    assert main(["index", "restore", "one"]) != Exit.OK
    assert "up to position 20, but storage stands at 19" in capsys.readouterr().err
    monkeypatch.setattr(Described, "offset", 20)
    assert main(["index", "restore", "one", "--json"]) == Exit.OK
    assert said(capsys)["offset"] == 39
    with run_search_server(told) as server:
        assert server.index.position.offset == 39
    assert main(["index", "snapshots", "--json"]) == Exit.OK
    (listed,) = said(capsys)["snapshots"]
    assert (listed["name"], listed["offset"]) == ("one", 39)
    assert main(["index", "snapshots", "--remove-older-than", "1"]) == Exit.OK
    assert told.snapshots.joinpath("one").is_dir()
    assert main(["index", "snapshots", "--remove-older-than", "0"]) == Exit.OK
    assert list(told.snapshots.iterdir()) == []


def test_storage_that_does_not_run_is_read_from_its_folder(settings_file: Path) -> None:
    settings = load_settings(settings_file)
    with pytest.raises(UnavailableError, match="no store in"):
        storage_position(settings, "small")
    open_store("rocksdb", settings.signal_dir("small", "store"), store_identity(settings, "small")).close()
    assert storage_position(settings, "small").offset == -1


def test_storage_that_has_its_store_open_and_does_not_answer_is_asked_again(settings_file: Path) -> None:
    """It must never be taken for one that is not there: positions would be counted from another base."""
    settings = load_settings(settings_file)
    store = open_store("rocksdb", settings.signal_dir("small", "store"), store_identity(settings, "small"))
    waited: list[float] = []
    with pytest.raises(UnavailableError, match="a process has the store open") as told:
        storage_position(settings, "small", patience_s=3.0, sleep=waited.append)
    assert not isinstance(told.value, NoStoreError)
    assert len(waited) == 3
    assert storage_position(settings, "small", sleep=lambda seconds: store.close()).offset == -1


class Joined(FakeJoined):
    """In the place of `KafkaJoined`."""

    def __init__(self, access: KafkaAccess, topic: str) -> None:
        super().__init__(list(ORDER), TOPIC_ID)

    def __enter__(self) -> Joined:
        return self

    def __exit__(self, *_: object) -> None: ...


class Storage:
    """In the place of `StorageClient`: a store that has the first fifty records, and could not score the last twin."""

    log_id = TOPIC_ID

    def __init__(self, *_: object) -> None: ...

    def embeddings(self) -> Any:
        return pages(ORDER[:50])

    def describe(self) -> Storage:
        return self

    def unscored(self, after: int) -> UnscoredResponse:
        return UnscoredResponse(places=[len(ORDER) - 1], through=len(ORDER), complete=True)

    def close(self) -> None: ...


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.index_build.joined.KafkaJoined", Joined)
    monkeypatch.setattr("storage.serving.client.StorageClient", Storage)
    monkeypatch.setattr("stream.cli.index_command.SWITCH_S", 0.3)


@pytest.mark.usefixtures("faked")
def test_build_from_storage_makes_the_generation_that_serves_next(
    settings_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["index", "build", "--from", "storage", "--json"]) == Exit.OK
    built = said(capsys)
    assert built["offset"] == len(ORDER) - 1
    assert built["serves"] is False  # no server runs
    assert Path(built["folder"]).name == "gen-000001"
    settings = search_server_settings(load_settings(settings_file))
    with run_search_server(settings) as server:
        assert server.index.images == built["images"]
        assert server.client.describe().offset == built["offset"]


@pytest.mark.usefixtures("faked")
def test_build_from_joined_asks_storage_what_the_order_does_not_say(
    settings_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["index", "build", "--from", "storage", "--json"]) == Exit.OK
    scored = said(capsys)["images"]
    assert main(["index", "build", "--from", "joined", "--json"]) == Exit.OK
    assert said(capsys)["images"] == scored
    monkeypatch.setattr(Storage, "log_id", "of another order")
    assert main(["index", "build", "--from", "joined", "--json"]) == Exit.OK
    assert said(capsys)["images"] == scored + 1

    def down(storage: Storage) -> Storage:
        raise UnavailableError("nobody answers")

    monkeypatch.setattr(Storage, "describe", down)
    assert main(["index", "build", "--from", "joined"]) == Exit.OK
    told = capsys.readouterr()
    assert f"{scored + 1} images up to offset {len(ORDER) - 1}" in told.out
    assert "does not say what was deleted or could not be scored: nobody answers" in told.err


@pytest.mark.usefixtures("faked")
def test_build_says_when_the_running_server_does_not_serve_it(
    server: RunningSearch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["index", "build", "--from", "storage"]) == Exit.OK
    told = capsys.readouterr()
    assert "gen-000002" in told.out
    assert "when it starts" in told.err


@pytest.mark.usefixtures("faked")
def test_sources_that_make_no_sense_are_refused(settings_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", "build", "--from", "storage", "--from", "a.parquet"]) == Exit.USAGE
    assert "not from several" in capsys.readouterr().err
    assert main(["index", "build", "--from", "joined", "--from", "storage"]) == Exit.USAGE
    assert main(["index", "build", "--from", "joined", "--no-catch-up"]) == Exit.USAGE
    assert "must catch up" in capsys.readouterr().err
    assert main(["index", "build", "--from", str(settings_file)]) == Exit.USAGE
    assert "not a Parquet file" in capsys.readouterr().err
    assert main(["index", "build"]) == Exit.USAGE
