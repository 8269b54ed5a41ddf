"""The states of the first load: begun, resumed, waiting, failed, aborted, adopted; each survives a kill."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from core.apart import WorkStopped
from core.checked_json import write_checked
from core.errors import BadInputError, MismatchError, UnavailableError
from core.first_loads import LoadReport, LoadRequest, LoadState
from core.types import LogPosition
from search.index.errors import IndexDamagedError, IndexLockedError
from search.index.folder import IndexFolder
from search.index.generations import IndexGenerations
from search.index.manifest import Manifest, read_manifest, write_manifest
from search.loading import loads as loads_module
from search.loading.kept_load import KeptLoad, read_kept, write_kept
from search.loading.load_task import LoadTask, Progress
from search.loading.loads import Loads
from tests.search.index.test_housekeeping import until
from tests.search.loading.manifest_of import CODE, SIGNAL, TERMS, settings

REQUEST = LoadRequest("/root", "first.json", "a" * 32, "topic")
OTHER = replace(REQUEST, manifest_id="b" * 32)
IDENTITY = settings().identity

Attempt = Callable[[LoadTask, Callable[[Progress], None], threading.Event], int]


@dataclass
class World:
    """A folder of generations, and what the next processes that load do."""

    folder: Path
    attempts: list[Attempt]
    position: LogPosition = field(default_factory=lambda: LogPosition("topic", 3, 0, 0))

    def open(self) -> Loads:
        def task(request: LoadRequest) -> LoadTask:
            return LoadTask(request, self.folder, settings(), SIGNAL, TERMS, CODE)

        opened = self.generations.serving(IDENTITY).name
        return Loads(self.generations, opened, IDENTITY, task, lambda: self.position, retry_s=0.01, clock=lambda: 5.0)

    def attempt(self, task: LoadTask, tell: Callable[[Progress], None], stopped: threading.Event) -> int:
        return self.attempts.pop(0)(task, tell, stopped)

    @property
    def generations(self) -> IndexGenerations:
        return IndexGenerations(self.folder)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(tmp_path / "index", [])
    world.generations.serving(IDENTITY)
    monkeypatch.setattr(loads_module, "load_apart", world.attempt)
    yield world
    assert world.attempts == []


def built(task: LoadTask, tell: Callable[[Progress], None], _: threading.Event) -> int:
    with IndexGenerations(task.index).loading() as folder:
        IndexFolder(folder, IDENTITY).close()
        write_manifest(folder, Manifest(position=LogPosition(task.request.log_id, 6, 0, 7)))
    tell(Progress(7, 7, verifying=True))
    return 6


def hanging(task: LoadTask, tell: Callable[[Progress], None], stopped: threading.Event) -> int:
    with IndexGenerations(task.index).loading() as folder:
        folder.mkdir(exist_ok=True)
    tell(Progress(3, 7))
    stopped.wait()
    raise WorkStopped


def raising(error: Exception) -> Attempt:
    def attempt(*_: Any) -> int:
        raise error

    return attempt


def state_of(loads: Loads) -> LoadState | None:
    return None if loads.report is None else loads.report.state


def reached(loads: Loads, state: LoadState) -> LoadReport:
    until(lambda: state_of(loads) is state)
    assert loads.report is not None
    return loads.report


def reached_row(loads: Loads, row: int) -> None:
    until(lambda: loads.report is not None and loads.report.rows_done == row)


def adopted(world: World) -> None:
    """A load, adopted by a server that has ended since."""
    world.attempts = [built]
    loads = world.open()
    loads.begin(REQUEST)
    reached(loads, LoadState.READY)
    loads.adopt(REQUEST.manifest_id, "topic", 7)


def test_a_load_becomes_ready_and_serves_once_it_is_adopted(world: World) -> None:
    world.attempts = [built]
    loads = world.open()
    assert (loads.report, loads.live) == (None, "")
    assert loads.begin(REQUEST) == LoadReport(REQUEST, LoadState.LOADING, started_ms=5000)
    status = reached(loads, LoadState.READY)
    assert status == LoadReport(REQUEST, LoadState.READY, "", 7, 7, 0.0, 6, 0, 5000, 5000)
    assert loads.begin(REQUEST) == status
    assert world.generations.serving(IDENTITY).name == "gen-000001"
    assert loads.live == ""
    with pytest.raises(MismatchError, match=r"has 7 rows, but the log topic, .* begins at 8"):
        loads.adopt(REQUEST.manifest_id, "topic", 8)
    with pytest.raises(BadInputError, match=r"there is no load of the manifest bbb.*the last is of aaa"):
        loads.adopt(OTHER.manifest_id, "topic", 7)
    pending = replace(status, detail="adopted: the server starts again")
    for _ in range(2):
        assert loads.adopt(REQUEST.manifest_id, "topic", 7) == loads.begin(REQUEST) == loads.report == pending
    assert loads.live == ""  # the old generation still answers
    again = world.open()
    for one in (loads, again):
        with pytest.raises(MismatchError, match="is live and cannot be aborted"):
            one.abort(REQUEST.manifest_id)
        with pytest.raises(MismatchError, match=r"is live, so that of .* cannot begin"):
            one.begin(OTHER)
    live = replace(status, state=LoadState.LIVE)
    assert again.adopt(REQUEST.manifest_id, "topic", 7) == again.begin(REQUEST) == again.report == live
    assert again.live == REQUEST.manifest_id
    assert world.generations.serving(IDENTITY).name == "gen-000002"


def test_a_load_that_is_live_stays_so_when_the_log_is_renewed(world: World) -> None:
    adopted(world)
    loads = world.open()
    assert loads.begin(replace(REQUEST, log_id="renewed")).state is LoadState.LIVE
    assert loads.adopt(REQUEST.manifest_id, "renewed", 70).state is LoadState.LIVE


def test_a_load_whose_index_was_replaced_is_forgotten(world: World) -> None:
    adopted(world)
    with world.generations.building() as folder:
        IndexFolder(folder, IDENTITY).close()
        world.generations.adopt(folder, IDENTITY)
    loads = world.open()
    assert (loads.report, loads.live) == (None, "")
    world.position = LogPosition("topic", 9, 0, 7)
    with pytest.raises(MismatchError, match="would lose what follows"):
        loads.begin(REQUEST)


@pytest.mark.parametrize("ready", [False, True])
def test_a_load_goes_before_another_log(world: World, ready: bool) -> None:
    released = threading.Event()

    def blocked(*given: Any) -> int:
        assert released.wait(60)
        return built(*given)

    world.attempts = [blocked]
    loads = world.open()
    loads.begin(REQUEST)
    if ready:
        released.set()
        reached(loads, LoadState.READY)
    told = loads.begin(replace(REQUEST, log_id="another"))
    assert (told.request.log_id, told.state) == ("another", LoadState.READY if ready else LoadState.LOADING)
    released.set()
    reached(loads, LoadState.READY)
    assert loads.adopt(REQUEST.manifest_id, "third", 7).request.log_id == "third"
    manifest = read_manifest(world.folder / "gen-000002")
    assert manifest is not None
    assert manifest.position == LogPosition("third", 6, 0, 7)


def test_what_is_in_the_way_is_waited_out(world: World) -> None:
    released = threading.Event()

    def blocked(*_: Any) -> int:
        assert released.wait(60)
        raise OSError(28, "No space left on device")

    world.attempts = [raising(UnavailableError("the folder does not answer")), blocked, built]
    loads = world.open()
    loads.begin(REQUEST)
    assert reached(loads, LoadState.WAITING).detail == "the folder does not answer"
    released.set()
    assert reached(loads, LoadState.READY).detail == ""


def test_a_load_that_fails_leaves_nothing_and_can_be_asked_for_again(world: World) -> None:
    world.attempts = [raising(BadInputError("part-1.parquet: row 3: search[0] is not a number")), built]
    loads = world.open()
    loads.begin(REQUEST)
    status = reached(loads, LoadState.FAILED)
    assert (status.detail, status.ended_ms) == ("part-1.parquet: row 3: search[0] is not a number", 5000)
    with pytest.raises(MismatchError, match="is failed, and must be ready first"):
        loads.adopt(REQUEST.manifest_id, "topic", 7)
    assert loads.abort(REQUEST.manifest_id).state is LoadState.FAILED
    loads.close()
    again = world.open()
    assert again.report == status
    assert world.generations.load() is None
    assert again.begin(REQUEST).state is LoadState.LOADING
    reached(again, LoadState.READY)


def test_a_load_goes_on_at_the_next_start(world: World) -> None:
    world.attempts = [hanging, hanging, built]
    loads = world.open()
    loads.begin(REQUEST)
    for _ in range(2):
        reached_row(loads, 3)
        with pytest.raises(MismatchError, match=r"is loading, so that of .* cannot begin"):
            loads.begin(OTHER)
        loads.close()
        assert world.generations.load() is not None
        loads = world.open()
    reached(loads, LoadState.READY)


def test_an_aborted_load_leaves_nothing(world: World) -> None:
    world.attempts = [hanging, built, hanging]
    loads = world.open()
    with pytest.raises(BadInputError, match=r"no load of the manifest .*: none was asked for"):
        loads.abort(REQUEST.manifest_id)
    loads.begin(REQUEST)
    until(lambda: world.generations.load() is not None)
    for _ in range(2):
        assert loads.abort(REQUEST.manifest_id).state is LoadState.ABORTED
        assert world.generations.load() is None
    loads.begin(REQUEST)
    reached(loads, LoadState.READY)
    assert loads.abort(REQUEST.manifest_id).state is LoadState.ABORTED
    loads.begin(OTHER)
    assert loads.report is not None
    assert loads.report.request == OTHER
    loads.close()


def test_leftovers_of_an_abort_that_was_killed_are_removed(world: World) -> None:
    world.attempts = [built]
    loads = world.open()
    loads.begin(REQUEST)
    reached(loads, LoadState.READY)
    folder = world.generations.load()
    loads.abort(REQUEST.manifest_id)
    assert folder is not None
    folder.mkdir()
    (world.folder / "load.files").mkdir()
    world.open()
    assert not folder.exists()
    assert not (world.folder / "load.files").exists()


@pytest.mark.parametrize("switched", [False, True])
def test_an_adoption_that_was_killed_can_be_repeated(world: World, switched: bool) -> None:
    world.attempts = [built]
    loads = world.open()
    loads.begin(REQUEST)
    ready = reached(loads, LoadState.READY)
    folder = world.generations.load()
    assert folder is not None
    if switched:
        world.generations.adopt(folder, IDENTITY)
    else:
        folder.rename(folder.with_suffix(""))
        with pytest.raises(IndexLockedError, match=r"under way in .*gen-000002"), world.generations.building():
            pass
    again = world.open()
    assert again.report == replace(
        ready, **({"state": LoadState.LIVE} if switched else {"detail": "adopted: the server starts again"})
    )
    again.adopt(REQUEST.manifest_id, "topic", 7)
    assert state_of(world.open()) is LoadState.LIVE
    with world.generations.building():
        pass
    assert world.generations.serving(IDENTITY).name == "gen-000002"
    assert (world.folder / "gen-000001").is_dir()  # a way back


def test_a_load_goes_on_if_its_end_cannot_be_noted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.attempts = [hanging, hanging]
    loads = world.open()
    loads.begin(REQUEST)
    reached_row(loads, 3)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(loads_module, "write_kept", full)
        with pytest.raises(UnavailableError, match="No space left"):
            loads.abort(REQUEST.manifest_id)
    until(lambda: world.attempts == [])
    assert state_of(loads) is LoadState.LOADING
    assert loads.abort(REQUEST.manifest_id).state is LoadState.ABORTED


@pytest.fixture
def filled_by_load(world: World, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """While it is set, the disk is full of what the load built."""
    full = threading.Event()

    def write(*args: Any) -> None:
        if full.is_set() and world.generations.load() is not None:
            raise OSError(28, "No space left on device")
        write_kept(*args)

    monkeypatch.setattr(loads_module, "write_kept", write)
    return full


@pytest.mark.parametrize("attempt", [built, hanging])
def test_what_filled_the_disk_goes_before_the_abort_is_noted(
    world: World, filled_by_load: threading.Event, attempt: Attempt
) -> None:
    world.attempts = [attempt]
    loads = world.open()
    loads.begin(REQUEST)
    if attempt is built:
        reached(loads, LoadState.READY)
    else:
        reached_row(loads, 3)
    filled_by_load.set()
    assert loads.abort(REQUEST.manifest_id).state is LoadState.ABORTED
    assert state_of(world.open()) is LoadState.ABORTED
    assert world.generations.load() is None


def test_what_filled_the_disk_goes_before_a_failure_is_noted(world: World, filled_by_load: threading.Event) -> None:
    def fails_on_a_full_disk(task: LoadTask, *_: Any) -> int:
        with IndexGenerations(task.index).loading() as folder:
            folder.mkdir()
        filled_by_load.set()
        raise BadInputError("a wrong row")

    world.attempts = [fails_on_a_full_disk]
    loads = world.open()
    loads.begin(REQUEST)
    assert reached(loads, LoadState.FAILED).detail == "a wrong row"
    until(lambda: world.generations.load() is None)
    loads.close()


def test_a_ready_load_that_was_removed_is_not_ready(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.attempts = [built]
    loads = world.open()
    loads.begin(REQUEST)
    reached(loads, LoadState.READY)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(loads_module, "write_kept", full)
        with pytest.raises(UnavailableError, match="No space left"):
            loads.abort(REQUEST.manifest_id)
    assert [state_of(each) for each in (loads, world.open())] == [LoadState.FAILED] * 2


def test_what_nobody_foresaw_is_a_failure(world: World) -> None:
    world.attempts = [raising(ValueError("a bug"))]
    loads = world.open()
    loads.begin(REQUEST)
    assert reached(loads, LoadState.FAILED).detail == "a bug"


def test_a_finished_index_that_is_lost_is_loaded_again(world: World) -> None:
    world.attempts = [built, built]
    loads = world.open()
    loads.begin(REQUEST)
    reached(loads, LoadState.READY)
    world.generations.drop_load()
    again = world.open()
    assert reached(again, LoadState.FAILED).detail == "its index, gen-000002, is missing"
    again.begin(REQUEST)
    reached(again, LoadState.READY)


def test_a_start_on_a_full_disk_knows_what_is_live(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.attempts = [built]
    loads = world.open()
    loads.begin(REQUEST)
    reached(loads, LoadState.READY)
    folder = world.generations.load()
    assert folder is not None
    world.generations.adopt(folder, IDENTITY)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(loads_module, "write_kept", full)
        assert world.open().live == REQUEST.manifest_id
    assert world.open().live == REQUEST.manifest_id


def test_an_index_that_goes_on_from_a_load_is_never_replaced(world: World) -> None:
    world.attempts = [built]
    loads = world.open()
    loads.begin(REQUEST)
    reached(loads, LoadState.READY)
    world.position = LogPosition("topic", 9, 0, 7)
    with pytest.raises(MismatchError, match="follows the log topic already, which begins at 7, up to the position 9"):
        loads.adopt(REQUEST.manifest_id, "topic", 7)
    (world.folder / "load.json").unlink()
    with pytest.raises(MismatchError, match="would lose what follows"):
        world.open().begin(REQUEST)


def test_what_is_known_of_a_load_is_kept(world: World) -> None:
    file = world.folder / "load.json"
    assert read_kept(file) is None
    report = LoadReport(REQUEST, LoadState.WAITING, "for space", 3, 7, 12.5, 6, 0, 5000, 6000)
    write_kept(file, KeptLoad(report, "gen-000002"))
    assert read_kept(file) == KeptLoad(replace(report, state=LoadState.LOADING, rows_per_s=0.0), "gen-000002")


def test_what_is_known_of_a_load_is_checked(world: World) -> None:
    file = world.folder / "load.json"
    file.write_text("{}")
    with pytest.raises(IndexDamagedError, match=r"load\.json is damaged .*: delete it"):
        read_kept(file)
    write_checked(file, 2, {})
    with pytest.raises(MismatchError, match="has format 2, this program reads format 1"):
        read_kept(file)


def test_a_full_disk_is_told_and_waited_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    full = threading.Event()
    full.set()

    def write(*args: Any) -> None:
        if full.is_set():
            raise OSError(28, "No space left on device")
        write_kept(*args)

    monkeypatch.setattr(loads_module, "write_kept", write)
    loads = world.open()
    with pytest.raises(UnavailableError, match=r"cannot write .*load\.json.*No space left"):
        loads.begin(REQUEST)
    assert loads.report is None
    full.clear()

    def fails_on_a_full_disk(*_: Any) -> int:
        full.set()
        raise BadInputError("a wrong row")

    world.attempts = [fails_on_a_full_disk]
    loads.begin(REQUEST)
    assert "No space left" in reached(loads, LoadState.WAITING).detail
    full.clear()
    assert reached(loads, LoadState.FAILED).detail == "a wrong row"
