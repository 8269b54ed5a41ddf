"""Deltas on the server's thread, over a real store: accepted, checked, written, watched, ended; they wait by name."""

from __future__ import annotations

import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from core.errors import BadInputError, MismatchError, UnavailableError
from core.first_loads import LoadRequest, LoadState
from core.manifest_rows import RowResult
from core.overrides import JOB_KINDS
from core.types import ImageId
from manifests.folder import open_folder
from manifests.manifest import Manifest
from storage.errors import CorruptedError, StorageError, WriteError
from storage.loading.delta_report import DeltaReport
from storage.loading.deltas import Choice
from storage.loading.run import run_load
from storage.memory import MemoryStore
from storage.records import RowExample
from storage.rocks.store import RocksStore
from storage.serving import delta_feeder, delta_run
from storage.serving import storage_pb2 as pb
from storage.serving.assignments import Message
from storage.serving.delta_feeder import DeltaFeeder
from storage.serving.delta_messages import delta_of, deltas_message
from storage.serving.delta_run import FeederParts
from storage.serving.first_loads import FirstLoads
from storage.serving.loads import Loads, no_loads
from storage.serving.metrics import StorageMetrics
from tests.support.fake_topic import FakeSender, FakeTopic
from tests.support.loadable import (
    LOADED_LOG,
    LoadableRow,
    Patient,
    kept_load,
    load_settings,
    random_rows,
    write_manifest,
)
from tests.support.member_job import decide
from tests.support.moto_s3 import AWS
from tests.support.store_writer import SMALL

FIRST = 60
"""Rows of the first load."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in the way is tried again at once."""
    monkeypatch.setattr(delta_run, "WAIT_FIRST_S", 0.01)
    monkeypatch.setattr(delta_feeder, "LOOK_S", 0.05)


class Deployment:
    """A store that began with a manifest, its deltas, an order, and the job that decides what lies there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "old"
        self.rows = random_rows(1, FIRST, again=0)
        self.first = write_manifest(self.root, self.rows)
        self.topic = FakeTopic()
        self.delay_ms = 0
        self.open()
        kept = kept_load(self.root, self.first)
        run_load(kept, self.store, load_settings(), Patient(kept))
        self.store.swap(LOADED_LOG)
        self.open()
        state = self.store.state()
        self.store.apply(LOADED_LOG, [], state.position.offset, state.revision, JOB_KINDS)  # as a job does that starts
        self.base = state.position.offset + 1
        self.start()

    def open(self) -> None:
        self.store = RocksStore(self.folder / "store", "photos", SMALL)

    def start(self) -> None:
        """The feeder, as a server starts it."""
        parts = FeederParts(load_settings, self.topic.open, lambda: self.delay_ms, self.folder / "spool")
        self.feeder = DeltaFeeder(self.store, parts)
        self.feeder.start()

    def stop(self) -> None:
        """As a server stops."""
        self.feeder.stop()
        self.store.close()

    def write(self, name: str, rows: Sequence[LoadableRow], previous: Manifest | None = None) -> LoadRequest:
        """A delta, and what asks for it."""
        self.manifest = write_manifest(self.root, rows, name=name, previous=(previous or self.first).id)
        return LoadRequest(str(self.root), name, self.manifest.id, "")

    def apply(self, most: int = 10**9) -> int:
        """The job decides what lies in the order, at most so many records; returns how many."""
        state = self.store.state()
        done = state.position.offset + 1 - self.base
        fresh = self.topic.records[done : done + most]
        if fresh:
            decisions = decide([each.value for each in fresh], state.position.offset + 1, self.known)
            self.store.apply(LOADED_LOG, decisions, state.position.offset, state.revision, JOB_KINDS)
        return len(fresh)

    def known(self, image_id: ImageId) -> tuple[int, ImageId] | None:
        image = self.store.image(image_id)
        return None if image is None else (image.version, image.head)

    def until(self, request: LoadRequest, *states: LoadState, most: int = 10**9) -> DeltaReport:
        """The job works, until a delta is in one of these states."""
        return self.until_it(request, lambda report: report.load.state in states, most)

    def until_it(self, request: LoadRequest, holds: Callable[[DeltaReport], bool], most: int = 10**9) -> DeltaReport:
        end = time.monotonic() + 60
        while (report := self.feeder.report(request.manifest_id)) is None or not holds(report):
            assert time.monotonic() < end, report
            if not self.apply(most):
                time.sleep(0.005)
        return report


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[Deployment]:
    found = Deployment(tmp_path)
    yield found
    found.stop()


def fresh_rows(deployed: Deployment, count: int, seed: int = 2) -> list[LoadableRow]:
    """New images, some of them in clusters of the first load, one in none."""
    heads = [row.image_id for row in deployed.rows if row.head == row.image_id]
    rows = [replace(row, image_id=ImageId(f"new-{seed}-{row.image_id}")) for row in random_rows(seed, count, again=0)]
    named = {row.head for row in rows}
    assert named
    return [
        replace(row, head=row.image_id if row.image_id.endswith(str(row.head)) else heads[number % len(heads)])
        for number, row in enumerate(rows)
    ]


def heads(deployed: Deployment, rows: Sequence[LoadableRow]) -> dict[ImageId, ImageId | None]:
    found = {row.image_id: deployed.store.image(row.image_id) for row in rows}
    return {image_id: image.head if image else None for image_id, image in found.items()}


def test_from_asked_to_live(deployed: Deployment) -> None:
    rows = fresh_rows(deployed, 150)
    gone = replace(rows[9], image_id=ImageId("lost"), head=ImageId("nobody"))
    again = replace(deployed.rows[0], cause=None)
    request = deployed.write("new.json", [again, *rows, gone])
    begun = deployed.feeder.load(request)
    assert (begun.load.request, begun.load.state) == (request, LoadState.LOADING)
    live = deployed.until(request, LoadState.LIVE, most=7)
    assert (live.load.rows_done, live.load.rows_total) == (152, 152)
    founded = sum(row.head == row.image_id for row in rows)
    assert live.counts == {
        RowResult.JOINED: 150 - founded,
        RowResult.FOUNDED: founded,
        RowResult.ELSEWHERE_HEAD_GONE: 1,
        RowResult.KEPT: 1,
    }
    assert live.examples == (
        RowExample(0, again.image_id, RowResult.KEPT),
        RowExample(151, gone.image_id, RowResult.ELSEWHERE_HEAD_GONE),
    )
    assert heads(deployed, rows) == {row.image_id: row.head for row in rows}
    assert len(deployed.topic.records) == 152
    assert deployed.feeder.load(request) == live
    assert deployed.feeder.reports() == [live]
    with pytest.raises(MismatchError, match="all of its rows have entered"):
        deployed.feeder.abort(request.manifest_id)
    assert {header for each in deployed.topic.records for header in each.headers} == set(delta_run.HEADERS)


def test_a_chain_goes_in_its_order_whatever_was_asked_first(deployed: Deployment) -> None:
    one = deployed.write("one.json", fresh_rows(deployed, 20, 5))
    two = deployed.write("two.json", fresh_rows(deployed, 20, 6), deployed.manifest)
    three = deployed.write("three.json", fresh_rows(deployed, 20, 7), deployed.manifest)
    deployed.feeder.load(three)
    waits = deployed.until(three, LoadState.WAITING)
    assert waits.load.detail == f"waits for the manifest {two.manifest_id}"
    deployed.feeder.load(two)
    deployed.feeder.load(one)
    for request in (three, two, one):
        deployed.until(request, LoadState.LIVE)
    rows = [each.number for each in deployed.topic.records]
    assert rows == [*range(20), *range(20), *range(20)]
    assert b"new-5" in deployed.topic.records[0].key
    assert b"new-7" in deployed.topic.records[-1].key


def test_others_wait_for_the_one_that_is_under_way(deployed: Deployment) -> None:
    one = deployed.write("one.json", fresh_rows(deployed, 20, 5))
    other = deployed.write("other.json", fresh_rows(deployed, 20, 6))
    deployed.feeder.load(one)
    while not deployed.topic.records:
        time.sleep(0.005)
    deployed.feeder.load(other)
    deployed.until(one, LoadState.LIVE)
    deployed.until(other, LoadState.LIVE)
    assert b"new-6" in deployed.topic.records[20].key


def test_a_restart_repeats_and_counts_nothing_twice(deployed: Deployment) -> None:
    rows = fresh_rows(deployed, 200)
    request = deployed.write("new.json", rows)
    deployed.feeder.load(request)
    for done in (30, 90, 160):
        deployed.until_it(request, lambda report, done=done: report.load.rows_done >= done, most=3)  # type: ignore[misc]
        deployed.stop()
        deployed.open()
        deployed.start()
    live = deployed.until(request, LoadState.LIVE)
    assert len(deployed.topic.records) > 200  # some were written twice
    assert sum(live.counts.values()) == 200
    assert set(live.counts) == {RowResult.JOINED, RowResult.FOUNDED}
    assert heads(deployed, rows) == {row.image_id: row.head for row in rows}


def test_it_waits_by_name_while_kafka_and_the_folder_are_away(deployed: Deployment) -> None:
    rows = fresh_rows(deployed, 60)
    request = deployed.write("new.json", rows)
    deployed.topic.down = True
    deployed.root.rename(deployed.folder / "away")
    deployed.feeder.load(request)
    waits = deployed.until(request, LoadState.WAITING)
    assert "is it mounted?" in waits.load.detail
    (deployed.folder / "away").rename(deployed.root)
    waits = deployed.until_it(request, lambda report: report.load.detail == "nobody there")
    assert (waits.load.state, waits.load.rows_done) == (LoadState.WAITING, 0)
    deployed.topic.failures = iter([0, 3, 1])
    deployed.topic.down = False
    live = deployed.until(request, LoadState.LIVE)
    assert sum(live.counts.values()) == 60
    assert heads(deployed, rows) == {row.image_id: row.head for row in rows}


def test_it_waits_for_a_job_that_knows_such_records(tmp_path: Path, deployed: Deployment) -> None:
    state = deployed.store.state()
    deployed.store.apply(LOADED_LOG, [], state.position.offset, state.revision, ("image", "delete"))
    request = deployed.write("new.json", fresh_rows(deployed, 10))
    deployed.feeder.load(request)
    waits = deployed.until(request, LoadState.WAITING)
    assert "member" in waits.load.detail
    assert deployed.topic.records == []
    state = deployed.store.state()
    deployed.store.apply(LOADED_LOG, [], state.position.offset, state.revision, JOB_KINDS)
    deployed.until(request, LoadState.LIVE)


def test_what_is_wrong_fails_by_name_and_may_be_asked_for_again(deployed: Deployment) -> None:
    rows = fresh_rows(deployed, 100)
    request = deployed.write("new.json", rows)
    file = deployed.root / "data" / "new-000040.parquet"
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    deployed.feeder.load(request)
    failed = deployed.until(request, LoadState.FAILED)
    assert "new-000040.parquet has" in failed.load.detail
    assert failed.load.detail.endswith("; no row has entered")
    assert failed.load.ended_ms >= failed.load.started_ms
    assert deployed.topic.records == []
    aborted = deployed.feeder.abort(request.manifest_id)
    assert (aborted.load.state, aborted.load.detail) == (LoadState.ABORTED, failed.load.detail)
    assert deployed.feeder.abort(request.manifest_id) == aborted
    file.write_bytes(content)
    again = deployed.feeder.load(request)
    assert (again.load.state, again.load.detail) == (LoadState.LOADING, "")
    assert deployed.until(request, LoadState.LIVE).load.started_ms == failed.load.started_ms


def test_an_aborted_delta_keeps_what_entered_and_may_go_on(deployed: Deployment) -> None:
    rows = fresh_rows(deployed, 120)
    request = deployed.write("new.json", rows)
    deployed.feeder.load(request)
    deployed.until_it(request, lambda report: report.load.rows_done >= 40, most=5)
    deployed.feeder.abort(request.manifest_id)
    written = len(deployed.topic.records)
    while deployed.apply():
        pass
    aborted = deployed.feeder.report(request.manifest_id)
    assert aborted is not None
    assert aborted.load.state is LoadState.ABORTED
    assert aborted.load.detail == f"{aborted.load.rows_done} of its rows have entered, and stay"
    assert aborted.load.rows_done == written == len(deployed.topic.records) < 120
    deployed.stop()
    deployed.open()
    deployed.start()
    assert deployed.feeder.report(request.manifest_id) == aborted
    deployed.feeder.load(request)
    live = deployed.until(request, LoadState.LIVE)
    assert sum(live.counts.values()) == len(deployed.topic.records) == 120  # nothing was written twice


def test_an_abort_ends_the_check(deployed: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Event()

    def endless(task: object, tell: object, stopped: threading.Event) -> None:
        begun.set()
        assert stopped.wait(30)
        raise delta_run.WorkStopped

    monkeypatch.setattr(delta_run, "check_apart", endless)
    request = deployed.write("new.json", fresh_rows(deployed, 10))
    deployed.feeder.load(request)
    assert begun.wait(30)
    assert deployed.feeder.abort(request.manifest_id).load.state is LoadState.ABORTED
    assert deployed.topic.records == []


def test_a_delta_without_rows_is_live_and_others_follow_it(deployed: Deployment) -> None:
    empty = deployed.write("empty.json", [])
    after = deployed.write("after.json", fresh_rows(deployed, 5), deployed.manifest)
    deployed.feeder.load(empty)
    deployed.feeder.load(after)
    deployed.until(after, LoadState.LIVE)
    assert deployed.until(empty, LoadState.LIVE).load.rows_total == 0


def test_a_store_that_began_with_nothing_takes_no_delta(tmp_path: Path) -> None:
    parts = FeederParts(load_settings, FakeTopic().open, lambda: 0, tmp_path)
    request = LoadRequest("/old", "new.json", "1" * 32, "")
    feeder = DeltaFeeder(MemoryStore(), parts)
    with pytest.raises(UnavailableError, match="no first load is live yet"):
        feeder.load(request)
    with pytest.raises(BadInputError, match="there is no delta"):
        feeder.abort("1" * 32)
    with pytest.raises(BadInputError, match="was not told which images may be loaded"):
        no_loads(MemoryStore()).load(request)


def test_a_server_without_an_order_says_that_it_can_write_nothing(deployed: Deployment) -> None:
    request = deployed.write("new.json", fresh_rows(deployed, 5))
    deployed.topic.down = True
    deployed.feeder.load(request)
    deployed.feeder.stop()
    feeder = DeltaFeeder(deployed.store, FeederParts(load_settings, None, lambda: 0, deployed.folder / "spool"))
    feeder.start()
    report = feeder.report(request.manifest_id)
    assert report is not None
    assert (report.load.state, "where the order is" in report.load.detail) == (LoadState.WAITING, True)
    feeder.stop()
    deployed.topic.down = False
    deployed.start()
    deployed.until(request, LoadState.LIVE)


def test_what_cannot_be_looked_at_is_looked_at_again(deployed: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [UnavailableError("the store opens again"), ValueError("nobody foresaw it")]

    def choose(*asked: object) -> Choice:
        if left:
            raise left.pop()
        return chooses(*asked)  # type: ignore[arg-type]

    chooses = delta_feeder.choose
    monkeypatch.setattr(delta_feeder, "choose", choose)
    request = deployed.write("new.json", fresh_rows(deployed, 5))
    deployed.feeder.load(request)
    deployed.until(request, LoadState.LIVE)
    assert not left


@pytest.mark.parametrize(
    "error", [UnavailableError("the store is being reopened"), WriteError("no space"), StorageError("Shutdown")]
)
def test_a_store_that_cannot_be_read_for_a_while_is_waited_for(
    deployed: Deployment, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    rows = fresh_rows(deployed, 100)
    request = deployed.write("new.json", rows)
    deployed.feeder.load(request)
    deployed.until_it(request, lambda report: report.load.rows_done >= 30, most=5)
    asked = threading.Semaphore(0)

    def down() -> None:
        asked.release()
        raise error

    with monkeypatch.context() as away:
        away.setattr(deployed.store, "snapshot", down)
        for _ in range(6):
            assert asked.acquire(timeout=20)
    live = deployed.until(request, LoadState.LIVE)
    assert sum(live.counts.values()) == 100
    assert heads(deployed, rows) == {row.image_id: row.head for row in rows}


def test_rows_go_in_parts_that_are_one_batch_each(deployed: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    request = deployed.write("new.json", fresh_rows(deployed, 100))
    parts: list[list[int]] = []
    send = FakeSender.send

    def noted(sender: FakeSender, messages: Sequence[Message], stopping: Callable[[], bool]) -> Sequence[int]:
        parts.append([each.size for each in messages])
        return send(sender, messages, stopping)

    monkeypatch.setattr(FakeSender, "send", noted)
    monkeypatch.setattr(delta_run, "PART_BYTES", 1_000)
    deployed.topic.failures = iter([None, None, None, 0, None, 1])
    deployed.feeder.load(request)
    live = deployed.until(request, LoadState.LIVE)
    assert sum(live.counts.values()) == 100
    assert max(len(each) for each in parts) > 1
    assert max(sum(each) for each in parts) <= 1_000
    seen = -1
    for row in deployed.topic.numbers:  # no row goes before one that may be missing
        assert row <= seen + 1
        seen = max(seen, row)


def test_a_damaged_store_fails_a_delta(deployed: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    request = deployed.write("new.json", fresh_rows(deployed, 10))
    left = [CorruptedError("a block is damaged")]

    def require(kinds: object) -> None:
        raise left.pop()

    monkeypatch.setattr(deployed.store, "require_kinds", require)
    deployed.feeder.load(request)
    assert "a block is damaged" in deployed.until(request, LoadState.FAILED).load.detail


def test_calls_find_the_load_that_they_are_about(deployed: Deployment) -> None:
    request = deployed.write("new.json", fresh_rows(deployed, 5))
    loads = Loads(FirstLoads(deployed.store, load_settings, lambda: None), deployed.feeder)
    begun = loads.load(request)
    assert begun is not None
    assert begun.request == request
    live = deployed.until(request, LoadState.LIVE)
    assert loads.report(request.manifest_id) == live.load
    first = loads.report()
    assert first is not None
    assert first.request.manifest_id == deployed.first.id
    assert loads.report(deployed.first.id) == first
    assert loads.report("5" * 32) is None
    assert loads.deltas() == loads.deltas(request.manifest_id) == [live]
    assert loads.deltas("5" * 32) == []
    with pytest.raises(MismatchError, match="is live"):
        loads.abort(request.manifest_id)
    with pytest.raises(MismatchError, match="is live"):
        loads.abort(deployed.first.id)
    with pytest.raises(MismatchError, match="is live"):
        loads.finish(request.manifest_id)


def test_a_report_travels(deployed: Deployment) -> None:
    rows = fresh_rows(deployed, 5)
    request = deployed.write("new.json", [*rows, replace(rows[0], image_id=ImageId("lost"), head=ImageId("nobody"))])
    deployed.feeder.load(request)
    live = deployed.until(request, LoadState.LIVE)
    (sent,) = pb.DeltasResponse.FromString(deltas_message([live]).SerializeToString()).deltas
    assert delta_of(sent) == replace(live, examples=list(live.examples))


def test_a_delta_in_s3(deployed: Deployment, moto_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**AWS, "AWS_ENDPOINT_URL": moto_url}.items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{uuid.uuid4().hex}"
    assert httpx.put(f"{moto_url}/{bucket}").status_code == 200
    rows = fresh_rows(deployed, 100)
    request = replace(deployed.write("new.json", rows), folder=f"s3://{bucket}/old")
    folder = open_folder(request.folder)
    for path in ("manifests/new.json", *(each.path for each in deployed.manifest.files)):
        with folder.put(path) as draft:
            draft.write_bytes((deployed.root / path).read_bytes())
    shutil.rmtree(deployed.root)
    deployed.feeder.load(request)
    live = deployed.until(request, LoadState.LIVE)
    assert sum(live.counts.values()) == 100
    assert heads(deployed, rows) == {row.image_id: row.head for row in rows}
    deployed.feeder.stop()
    assert not (deployed.folder / "spool").exists()


def test_metrics_tell_states_and_rows(deployed: Deployment) -> None:
    registry = CollectorRegistry()
    metrics = StorageMetrics(registry, deployed.store.state(), 0)
    metrics.watch_deltas(registry, deployed.feeder.states, deployed.feeder.rows_left)
    request = deployed.write("new.json", fresh_rows(deployed, 30))
    deployed.topic.down = True
    deployed.feeder.load(request)
    deployed.until_it(request, lambda report: report.load.detail == "nobody there")

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"neardup_storage_{name}", labels)

    assert value("deltas", state="waiting") == 1
    assert value("delta_rows_left") == 30
    deployed.topic.down = False
    deployed.until(request, LoadState.LIVE)
    end = time.monotonic() + 30
    while value("deltas", state="live") != 1:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert value("delta_rows_left") == 0
