"""A first load on the server's thread: begun, watched, ended, made live; it waits and fails by name."""

from __future__ import annotations

import errno
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from core.errors import BadInputError, MismatchError, UnavailableError
from core.first_loads import LoadReport, LoadRequest, LoadState
from core.load_messages import load_fields, load_of, read_load_request, request_fields
from core.types import ImageId
from manifests.folder import LocalFolder
from manifests.manifest import Kind, Manifest
from storage.errors import DiskFullError
from storage.loading import run
from storage.loading.kept import KeptLoad, write_kept
from storage.loading.rows import Codes
from storage.loading.run import LoadSettings
from storage.memory import MemoryStore
from storage.rocks.loader import RocksLoadTarget
from storage.rocks.store import RocksStore
from storage.serving import first_loads
from storage.serving import storage_pb2 as pb
from storage.serving.first_loads import FirstLoads
from storage.serving.metrics import StorageMetrics
from storage.testing.decisions import A, B, founds, put
from tests.support.loadable import (
    NAME,
    LoadableRow,
    load_request,
    load_settings,
    made_codes,
    random_rows,
    write_manifest,
)
from tests.support.store_writer import SMALL


class Deployment:
    """A store, its loads, and the process that restarts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.swapped = 0
        self.settings: Callable[[], LoadSettings] = load_settings
        self.start()

    def start(self) -> None:
        """Opens the store, and goes on with what was begun."""
        self.store = RocksStore(self.folder / "store", "photos", SMALL)
        self.loads = FirstLoads(self.store, lambda: self.settings(), self.swap)
        self.loads.resume()

    def stop(self) -> None:
        """As a server stops."""
        self.loads.stop()
        self.store.close()

    def swap(self) -> None:
        self.swapped += 1

    def until(self, *states: LoadState) -> LoadReport:
        """Waits for one of these states."""
        end = time.monotonic() + 30
        while (report := self.loads.report()) is None or report.state not in states:
            assert time.monotonic() < end, report
            time.sleep(0.005)
        return report

    def written(self) -> list[str]:
        """The databases, and what belongs to a load."""
        store = self.folder / "store"
        return sorted(path.name for path in [*store.glob("db*"), *store.glob("load/*")])

    def write(self, rows: list[LoadableRow], *, codes: bool = True) -> LoadRequest:
        """A manifest, and what asks for it."""
        return load_request(self.folder / "old", write_manifest(self.folder / "old", rows, codes=codes))


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[Deployment]:
    found = Deployment(tmp_path)
    yield found
    found.stop()


@pytest.fixture
def gate(deployed: Deployment) -> Iterator[threading.Event]:
    """A load stands still in the middle of its rows until this is set."""
    passes = threading.Event()

    def codes(search: NDArray[np.float32], score: NDArray[np.float32]) -> Codes:
        assert passes.wait(30)
        return made_codes(search, score)

    deployed.settings = lambda: replace(load_settings(), make_codes=codes)
    yield passes
    passes.set()


def test_from_nothing_to_live(deployed: Deployment) -> None:
    assert deployed.loads.report() is None
    request = deployed.write(random_rows(1, 90))
    begun = deployed.loads.load(request)
    assert begun is not None
    assert begun.request == request
    ready = deployed.until(LoadState.READY)
    assert (ready.images, ready.rows_done) == (90, ready.rows_total)
    assert ready.started_ms <= ready.ended_ms
    assert deployed.store.state().images == 0
    assert deployed.loads.load(request) == ready
    live = deployed.loads.finish(request.manifest_id)
    assert live is not None
    assert live.state is LoadState.LIVE
    assert deployed.swapped == 1
    deployed.stop()
    deployed.start()
    again = deployed.loads.report()
    assert again == live
    assert deployed.store.state().images == 90
    assert [path.name for path in (deployed.folder / "store").glob("db*")] == ["db-000002"]
    assert not deployed.store.load_folder.exists()
    assert deployed.loads.load(request) == live
    assert deployed.loads.finish(request.manifest_id) == live
    with pytest.raises(MismatchError, match="is live"):
        deployed.loads.abort(request.manifest_id)
    with pytest.raises(MismatchError, match="the store began with manifest"):
        deployed.loads.load(LoadRequest("other", NAME, "5" * 32, "log"))


def test_the_stream_waits_with_the_share_that_is_done(deployed: Deployment, gate: threading.Event) -> None:
    request = deployed.write(random_rows(1, 90), codes=False)
    deployed.loads.load(request)
    with pytest.raises(UnavailableError, match="a first load is under way: 0 %"):
        put(deployed.store, founds(0, A))
    gate.set()
    deployed.until(LoadState.READY)
    with pytest.raises(UnavailableError, match="is ready, and waits to be made live"):
        put(deployed.store, founds(0, A))
    deployed.loads.abort(request.manifest_id)
    put(deployed.store, founds(0, A))


def test_one_load_at_a_time(deployed: Deployment, gate: threading.Event) -> None:
    request = deployed.write(random_rows(1, 90), codes=False)
    deployed.loads.load(request)
    other = LoadRequest("other", NAME, "5" * 32, "log")
    with pytest.raises(MismatchError, match=f"there is a first load of manifest {request.manifest_id}, not of 555"):
        deployed.loads.load(other)
    with pytest.raises(MismatchError, match="not of 555"):
        deployed.loads.abort(other.manifest_id)
    with pytest.raises(MismatchError, match="is loading, not ready"):
        deployed.loads.finish(request.manifest_id)


def test_an_aborted_load_leaves_nothing_and_may_begin_again(deployed: Deployment, gate: threading.Event) -> None:
    request = deployed.write(random_rows(1, 90), codes=False)
    with pytest.raises(BadInputError, match="there is no first load"):
        deployed.loads.abort(request.manifest_id)
    deployed.loads.load(request)
    threading.Timer(0.05, gate.set).start()
    aborted = deployed.loads.abort(request.manifest_id)
    assert aborted is not None
    assert aborted.state is LoadState.ABORTED
    assert deployed.written() == ["db", "load.json"]
    assert deployed.loads.abort(request.manifest_id) == aborted
    deployed.stop()
    deployed.start()
    after = deployed.loads.report()
    assert after is not None
    assert after.state is LoadState.ABORTED
    deployed.loads.load(request)
    assert deployed.until(LoadState.READY).images == 90


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[bool], None]:
    """A disk that refuses small files: as long as the content of a load is there, or always."""
    write = write_kept

    def fills(always: bool) -> None:
        def refuses(folder: Path, load: KeptLoad) -> None:
            if always or (tmp_path / "store" / "db-000002").exists():
                raise DiskFullError("No space left on device")
            write(folder, load)

        monkeypatch.setattr(first_loads, "write_kept", refuses)

    return fills


def test_an_abort_makes_room_on_a_full_disk(deployed: Deployment, full: Callable[[bool], None]) -> None:
    request = deployed.write(random_rows(1, 90))
    deployed.loads.load(request)
    deployed.until(LoadState.READY)
    full(False)
    aborted = deployed.loads.abort(request.manifest_id)
    assert aborted is not None
    assert aborted.state is LoadState.ABORTED
    assert deployed.written() == ["db", "load.json"]
    put(deployed.store, founds(0, A))


def test_a_kill_before_an_abort_is_kept_loads_again(
    deployed: Deployment, gate: threading.Event, full: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = deployed.write(random_rows(1, 90), codes=False)
    deployed.loads.load(request)
    end = time.monotonic() + 30
    while (report := deployed.loads.report()) is None or not report.images:
        assert time.monotonic() < end
        time.sleep(0.005)
    full(True)
    threading.Timer(0.05, gate.set).start()
    with pytest.raises(DiskFullError):
        deployed.loads.abort(request.manifest_id)
    assert deployed.written() == ["db", "load.json"]
    monkeypatch.undo()
    deployed.stop()
    deployed.start()
    assert deployed.until(LoadState.READY).images == 90


def test_it_goes_on_after_a_stop(deployed: Deployment, gate: threading.Event) -> None:
    request = deployed.write(random_rows(1, 90), codes=False)
    deployed.loads.load(request)
    threading.Timer(0.05, gate.set).start()
    deployed.stop()
    deployed.start()
    report = deployed.until(LoadState.READY)
    assert report.request == request
    deployed.stop()
    deployed.start()
    assert deployed.until(LoadState.READY).images == 90
    with pytest.raises(UnavailableError, match="waits to be made live"):
        put(deployed.store, founds(0, A))


@pytest.mark.parametrize("leaves", [lambda path: None, lambda path: path.mkdir()], ids=["nothing", "empty"])
@pytest.mark.parametrize("stopped", [True, False])
def test_one_whose_content_is_gone_loads_again(
    deployed: Deployment, leaves: Callable[[Path], None], stopped: bool
) -> None:
    request = deployed.write(random_rows(1, 90))
    deployed.loads.load(request)
    deployed.until(LoadState.READY)
    if stopped:
        deployed.stop()
    shutil.rmtree(deployed.folder / "store" / "db-000002")
    leaves(deployed.folder / "store" / "db-000002")
    if stopped:
        deployed.start()
    else:
        with pytest.raises(MismatchError, match="is loading, not ready"):
            deployed.loads.finish(request.manifest_id)
    assert deployed.until(LoadState.READY).images == 90
    live = deployed.loads.finish(request.manifest_id)
    assert live is not None
    assert live.images == 90


def test_leftovers_that_stay_do_not_keep_the_server_from_starting(
    deployed: Deployment, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    request = deployed.write(random_rows(1, 30))
    deployed.loads.load(request)
    deployed.until(LoadState.READY)
    deployed.loads.finish(request.manifest_id)
    (deployed.folder / "store" / "load" / "load.json").write_bytes(b"damaged")

    def refuses(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", refuses)
        deployed.stop()
        deployed.start()
    assert "cannot be removed" in caplog.text
    report = deployed.loads.report()
    assert report is not None
    assert report.state is LoadState.LIVE
    assert "load.json" in deployed.written()
    deployed.stop()
    deployed.start()
    assert deployed.written() == ["db-000002"]


def bad_version(folder: Path) -> None:
    (folder / "manifests" / NAME).write_bytes(Manifest(Kind.DELTA, (), "5" * 32).encoded())


def cut_file(folder: Path) -> None:
    file = next((folder / "data").iterdir())
    file.write_bytes(file.read_bytes()[:-1])


def no_manifest(folder: Path) -> None:
    (folder / "manifests" / NAME).unlink()


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        (bad_version, "has the id"),
        (cut_file, "it was changed after the manifest was written"),
        (no_manifest, "cannot read"),
    ],
)
def test_what_is_wrong_with_the_folder_is_named(
    deployed: Deployment, breaks: Callable[[Path], None], said: str
) -> None:
    request = deployed.write(random_rows(1, 30))
    breaks(deployed.folder / "old")
    deployed.loads.load(request)
    failed = deployed.until(LoadState.FAILED)
    assert said in failed.detail
    assert failed.ended_ms >= failed.started_ms
    deployed.loads.stop()  # it removes what it wrote
    assert deployed.written() == ["db", "load.json"]
    put(deployed.store, founds(0, A))  # what is live goes on


def test_a_folder_that_is_not_mounted_is_waited_for(deployed: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_loads, "_WAIT_FIRST_S", 0.01)
    request = deployed.write(random_rows(1, 30))
    (deployed.folder / "old").rename(deployed.folder / "elsewhere")
    deployed.loads.load(request)
    assert "is it mounted" in deployed.until(LoadState.WAITING).detail
    (deployed.folder / "elsewhere").rename(deployed.folder / "old")
    assert deployed.until(LoadState.READY).images == 30


def test_a_failed_load_may_be_asked_for_again(deployed: Deployment) -> None:
    rows = random_rows(1, 30)
    request = deployed.write(rows)
    cut_file(deployed.folder / "old")
    deployed.loads.load(request)
    deployed.until(LoadState.FAILED)
    assert deployed.write(rows) == request
    deployed.loads.load(request)
    assert deployed.until(LoadState.READY).images == 30


def test_a_failed_load_that_still_removes_what_it_wrote_does_not_touch_the_next(
    deployed: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = random_rows(1, 30)
    request = deployed.write(rows)
    cut_file(deployed.folder / "old")
    goes_on, failing = threading.Event(), list[threading.Thread]()
    remove = RocksStore.remove_leftovers

    def slowly(self: RocksStore, *, keep_target: bool) -> None:
        if threading.current_thread() is not threading.main_thread() and not failing:
            failing.append(threading.current_thread())
            assert goes_on.wait(30)
        remove(self, keep_target=keep_target)

    monkeypatch.setattr(RocksStore, "remove_leftovers", slowly)
    deployed.loads.load(request)
    deployed.until(LoadState.FAILED)
    deployed.write(rows)
    threading.Timer(0.2, goes_on.set).start()
    deployed.loads.load(request)
    deployed.until(LoadState.READY)
    failing[0].join()
    live = deployed.loads.finish(request.manifest_id)
    assert live is not None
    assert live.images == 30


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([LoadableRow(A, A), LoadableRow(B, ImageId("c"))], "row 1: names a head that has no row"),
        ([LoadableRow(B, A), LoadableRow(A, A)], "row 0: names a head whose first row is a later one"),
    ],
)
def test_rows_that_do_not_fit_together_are_named(deployed: Deployment, rows: list[LoadableRow], said: str) -> None:
    deployed.loads.load(deployed.write(rows))
    assert said in deployed.until(LoadState.FAILED).detail


def test_other_settings_are_named(deployed: Deployment) -> None:
    def other() -> LoadSettings:
        raise BadInputError("no centre of 'score'")

    deployed.settings = other
    deployed.loads.load(deployed.write(random_rows(1, 30)))
    assert "no centre" in deployed.until(LoadState.FAILED).detail


@pytest.mark.parametrize(
    "error",
    [
        UnavailableError("s3://old does not answer"),
        DiskFullError("no space for s3://old"),
        OSError(errno.ENOSPC, "No space left for s3://old"),
    ],
)
def test_it_waits_by_name_and_goes_on(deployed: Deployment, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_loads, "_WAIT_FIRST_S", 0.01)
    again = threading.Event()
    keep = RocksLoadTarget.keep

    def refuses(self: RocksLoadTarget, cursor: object) -> None:
        if not again.is_set():
            raise error
        keep(self, cursor)  # type: ignore[arg-type]

    monkeypatch.setattr(RocksLoadTarget, "keep", refuses)
    request = deployed.write(random_rows(1, 90))
    deployed.loads.load(request)
    waiting = deployed.until(LoadState.WAITING)
    assert "s3://old" in waiting.detail
    with pytest.raises(UnavailableError, match=r"and it waits: .*s3://old"):
        put(deployed.store, founds(0, A))
    again.set()
    assert deployed.until(LoadState.READY).images == 90


def test_the_pace_of_the_settings_is_kept(deployed: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "AT_ONCE", 10)
    deployed.settings = lambda: load_settings(rows_per_s=1.0)
    request = deployed.write(random_rows(1, 30))
    deployed.loads.load(request)
    end = time.monotonic() + 30
    while (report := deployed.loads.report()) is None or not report.rows_done:
        assert time.monotonic() < end
        time.sleep(0.005)
    assert 0 < report.rows_done < report.rows_total
    deployed.loads.abort(request.manifest_id)  # does not wait for the pace


def test_a_store_that_cannot_be_loaded_says_so() -> None:
    loads = FirstLoads(MemoryStore(), load_settings, lambda: None)
    loads.resume()
    assert loads.report() is None
    with pytest.raises(BadInputError, match="cannot take a first load"):
        loads.load(LoadRequest("old", NAME, "5" * 32, "log"))


def test_a_store_that_is_not_empty_stays_as_it_is(deployed: Deployment) -> None:
    put(deployed.store, founds(0, A))
    with pytest.raises(MismatchError, match="nothing was applied"):
        deployed.loads.load(deployed.write(random_rows(1, 30)))
    assert deployed.loads.report() is None
    put(deployed.store, founds(1, B))


def test_it_is_shown_as_metrics(deployed: Deployment) -> None:
    registry = CollectorRegistry()
    StorageMetrics(registry, deployed.store.state(), 0).watch_load(registry, deployed.loads.report)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"neardup_storage_load_{name}", labels)

    assert (value("rows"), value("seconds"), value("state", state="ready")) == (0.0, 0.0, 0.0)
    deployed.loads.load(deployed.write(random_rows(1, 30, again=0.0)))
    ready = deployed.until(LoadState.READY)
    assert (value("rows"), value("rows_total")) == (30.0, 30.0)
    assert value("seconds") == (ready.ended_ms - ready.started_ms) / 1000
    assert (value("state", state="ready"), value("state", state="loading")) == (1.0, 0.0)


def test_messages() -> None:
    request = LoadRequest("s3://old", "a.json", "4f", "log")
    assert read_load_request(pb.LoadRequest(**request_fields(request)), 1024) == request
    report = LoadReport(request, LoadState.WAITING, "s3 is away", 3, 10, 2.5, 4, 2, 7, 8)
    assert load_of(pb.LoadStatusResponse(**load_fields(report))) == report
    assert not pb.LoadStatusResponse(**load_fields(None)).manifest_id
    with pytest.raises(BadInputError, match="manifest_id has 1 to"):
        read_load_request(pb.LoadRequest(**request_fields(LoadRequest("s3://old", "a.json", "", "log"))), 1024)
    delta = replace(request, log_id="")
    assert delta.is_delta
    assert not request.is_delta
    assert read_load_request(pb.LoadRequest(**request_fields(delta)), 1024, deltas=True) == delta
    with pytest.raises(BadInputError, match="log_id has 1 to"):
        read_load_request(pb.LoadRequest(**request_fields(delta)), 1024)
    with pytest.raises(BadInputError, match="log_id has 1 to"):
        read_load_request(pb.LoadRequest(**request_fields(replace(delta, log_id="x" * 1025))), 1024, deltas=True)


def test_the_folder_that_is_asked_is_that_of_the_request(deployed: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def opened(uri: str) -> LocalFolder:
        asked.append(uri)
        return LocalFolder(Path(uri))

    monkeypatch.setattr(run, "open_folder", opened)
    request = deployed.write(random_rows(1, 30))
    deployed.loads.load(request)
    deployed.until(LoadState.READY)
    assert asked == [request.folder]
