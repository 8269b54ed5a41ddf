"""The watcher of a folder on fake Flink: what survives a restart, what is counted, and what the log says."""

from __future__ import annotations

import logging
import pickle

import pytest
from pyflink.common import Row

from core.errors import UnavailableError
from core.first_loads import LoadReport, LoadRequest, LoadState
from manifests.manifest import Kind, Manifest, ManifestFile
from operators.manifest_watch import DELTAS_AT_ONCE
from operators.sealed_state import StateDamagedError, seal
from operators.step import ServerAddress
from operators.watch import AWAY_MS, LOOK_MS, WatchFunction
from tests.support.fake_flink import Harness
from tests.support.loading_server import LoadingServer

ONE = Manifest(Kind.SNAPSHOT, [ManifestFile("data/one.parquet", 3, 100, "0" * 64)])
NOWHERE = ServerAddress("127.0.0.1:9", 0.2, 1 << 20)


class Watch(WatchFunction):
    """Asks servers of this process."""

    def __init__(self, storage: LoadingServer, search: LoadingServer) -> None:
        super().__init__("folder", "topic", NOWHERE, NOWHERE)
        self.servers = storage, search

    def open_storage(self) -> LoadingServer:
        return self.servers[0]

    def open_search(self) -> LoadingServer:
        return self.servers[1]


def started() -> tuple[Harness, LoadingServer, LoadingServer]:
    storage, search = LoadingServer(), LoadingServer()
    return Harness(Watch(storage, search)), storage, search


def file(content: bytes | None = None, name: str = "one.json", problem: str | None = None) -> Row:
    return Row(name, content, problem)


def counted(flink: Harness) -> dict[str, int]:
    names = ("manifests_seen_total", "manifests_open", "manifests_waiting")
    ends = ("live", "failed", "aborted", "refused", "unreadable")
    found = {name: flink.context.metric(name) for name in names}
    found |= {end: flink.context.metric(f"manifests_ended_total{{end={end}}}") for end in ends}
    return {name: number for name, number in found.items() if number}


def test_a_manifest_that_appears_is_loaded_by_timers_alone() -> None:
    flink, storage, search = started()
    flink.send(file(ONE.encoded()))
    assert (storage.begun, flink.timers("processing")) == ([], [flink.clock()])
    assert counted(flink) == {"manifests_seen_total": 1, "manifests_open": 1}
    flink.advance(10 * LOOK_MS)
    assert storage.begun == search.begun == [ONE.id]
    assert counted(flink) == {"manifests_seen_total": 1, "live": 1}
    assert (flink.timers("processing"), flink.main, flink.side) == ([], [], {})


@pytest.mark.parametrize("looks", range(8))
def test_a_restart_goes_on_from_the_checkpoint(looks: int) -> None:
    flink, storage, search = started()
    flink.send(file(ONE.encoded()))
    flink.advance(looks * LOOK_MS)
    again = flink.restart(Watch(storage, search))
    again.advance(10 * LOOK_MS)
    assert storage.begun == search.begun == [ONE.id]
    assert storage.report is not None
    assert storage.report.state is LoadState.LIVE
    assert again.timers("processing") == []
    assert counted(flink).get("live", 0) + counted(again).get("live", 0) == 1


def test_a_job_that_is_submitted_again_finds_all_done() -> None:
    flink, storage, search = started()
    flink.send(file(ONE.encoded()))
    flink.advance(10 * LOOK_MS)
    again = Harness(Watch(storage, search))
    again.send(file(ONE.encoded()))
    again.advance(10 * LOOK_MS)
    assert counted(again) == {"manifests_seen_total": 1, "live": 1}
    assert storage.begun == search.begun == [ONE.id]


def test_what_waits_is_said_once_and_looked_at_less_often(caplog: pytest.LogCaptureFixture) -> None:
    flink, storage, _ = started()
    storage.down = True
    with caplog.at_level(logging.INFO):
        flink.send(file(ONE.encoded()))
        flink.advance(20 * AWAY_MS)
        assert counted(flink) == {"manifests_seen_total": 1, "manifests_open": 1, "manifests_waiting": 1}
        assert flink.timers("processing")[0] - flink.clock() > LOOK_MS
        storage.down = False
        flink.advance(10 * AWAY_MS)
        storage.down = True
        flink.advance(10 * AWAY_MS)
    assert [record.message for record in caplog.records] == [
        "manifest one.json waits: down",
        "manifest one.json is live",
    ]
    assert counted(flink) == {"manifests_seen_total": 1, "live": 1}


def test_a_folder_that_does_not_answer_counts_as_waiting(caplog: pytest.LogCaptureFixture) -> None:
    flink, storage, search = started()
    flink.send(Row(".answers-1700000000001", None, None))
    assert counted(flink) == {}
    flink.send(Row(".away-1700000000002", None, "it cannot be listed"))
    assert [record.message for record in caplog.records] == [
        "the folder of manifests folder does not answer: it cannot be listed"
    ]
    assert counted(flink) == {"manifests_waiting": 1}
    again = flink.restart(Watch(storage, search))
    again.advance(AWAY_MS)
    assert counted(again) == {"manifests_waiting": 1}
    again.send(Row(".answers-1700000000004", None, None))
    again.send(Row(".away-1700000000003", None, "it cannot be listed"))  # comes late
    assert counted(again) == {}
    again.advance(AWAY_MS)
    assert again.timers("processing") == []
    assert (len(caplog.records), storage.begun) == (1, [])


def test_many_that_wait_are_said_once_each(caplog: pytest.LogCaptureFixture) -> None:
    class Waiting(LoadingServer):
        """Takes no delta yet."""

        def load(self, request: LoadRequest) -> LoadReport:
            raise UnavailableError("no first load is live yet")

    flink = Harness(Watch(Waiting(), LoadingServer()))
    names = [f"{number}.json" for number in range(2 * DELTAS_AT_ONCE + 1)]
    with caplog.at_level(logging.INFO):
        for number, name in enumerate(names):
            rows = ManifestFile(f"data/{number}.parquet", 3, 100, "0" * 64)
            flink.send(file(Manifest(Kind.DELTA, [rows], ONE.id).encoded(), name))
        flink.advance(20 * AWAY_MS)
    assert counted(flink)["manifests_waiting"] == len(names)
    assert sorted(record.message.split()[1] for record in caplog.records) == sorted(names)


def test_files_that_are_no_manifests_are_named_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    flink, storage, _ = started()
    flink.send(file(b"hello", "notes.json"))
    flink.send(file(None, "locked.json", "permission denied"))
    assert counted(flink) == {"manifests_seen_total": 2, "unreadable": 2}
    assert [record.message for record in caplog.records][1] == "manifest locked.json is unreadable: permission denied"
    assert "notes.json" in caplog.text
    assert flink.timers("processing") == []
    assert storage.begun == []


def test_a_refused_manifest_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    flink, storage, _ = started()
    storage.applied = True
    flink.send(file(ONE.encoded()))
    flink.advance(20 * LOOK_MS)
    assert [record.message for record in caplog.records] == ["manifest one.json is refused: something was applied"]
    assert counted(flink) == {"manifests_seen_total": 1, "refused": 1}


@pytest.mark.parametrize("kept", [b"[]", seal(b"{"), seal(b'[["one.json", "id", "other"]]'), seal(b"[7]")])
def test_damaged_state_fails_by_name(kept: bytes) -> None:
    flink, storage, search = started()
    flink.send(file(ONE.encoded()))
    (name,) = flink.backend.values
    flink.backend.values[name] = kept
    again = flink.restart(Watch(storage, search))
    with pytest.raises(StateDamagedError, match="the list of manifests is damaged"):
        again.advance(LOOK_MS)


def test_the_function_travels_and_connects_where_it_opens() -> None:
    function: WatchFunction = pickle.loads(pickle.dumps(WatchFunction("folder", "topic", NOWHERE, NOWHERE)))
    flink = Harness(function)
    flink.send(file(ONE.encoded()))
    flink.advance(1)
    assert counted(flink) == {"manifests_seen_total": 1, "manifests_open": 1, "manifests_waiting": 1}
    function.close()
