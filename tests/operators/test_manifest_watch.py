"""What is asked for next of a folder of manifests: one load of each, whatever happens, and nothing raises."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from core.errors import MismatchError, RefusedError, UnavailableError
from core.first_loads import LoadReport, LoadRequest, LoadState
from manifests.manifest import Kind, Manifest, ManifestFile
from operators.manifest_watch import DELTAS_AT_ONCE, End, Ended, ManifestWatch
from tests.support.loading_server import LoadingServer


def manifest(name: str, previous: str | None = None, rows: int = 3) -> Manifest:
    file = ManifestFile(f"data/{name}.parquet", rows, 100, "0" * 64)
    return Manifest(Kind.SNAPSHOT if previous is None else Kind.DELTA, [file], previous)


ONE, TWO, THREE = (manifest(name) for name in ("one", "two", "three"))


class DeltaStorage(LoadingServer):
    """Takes deltas too, each after the one before it."""

    def __init__(self) -> None:
        super().__init__()
        self.previous: dict[str, str] = {}
        self.taken: dict[str, LoadReport] = {}
        self.ended: dict[str, LoadState] = {}
        self.asked: list[str] = []

    def load(self, request: LoadRequest) -> LoadReport:
        if request.manifest_id not in self.previous:
            return super().load(request)
        assert request.is_delta
        self._answer()
        self.asked.append(request.manifest_id)
        before = self.previous[request.manifest_id]
        if not self.is_live(before):
            raise UnavailableError(f"waits for the manifest {before}")
        self.taken[request.manifest_id] = LoadReport(request, LoadState.LOADING)
        return self.taken[request.manifest_id]

    def load_status(self, manifest_id: str = "") -> LoadReport | None:
        found = super().load_status()
        if manifest_id in self.ended:
            return LoadReport(LoadRequest("folder", "d.json", manifest_id, ""), self.ended[manifest_id], "why")
        if manifest_id in self.taken:
            report = self.taken[manifest_id]
            if report.request.folder:  # it goes on
                self.taken[manifest_id] = replace(report, state=LoadState.LIVE)
            return report
        return found if found is not None and manifest_id in ("", found.request.manifest_id) else None

    def is_live(self, manifest_id: str) -> bool:
        reports = (self.report, self.taken.get(manifest_id))
        return any(
            each is not None and each.state is LoadState.LIVE and each.request.manifest_id == manifest_id
            for each in reports
        )


def watched(
    storage: LoadingServer, search: LoadingServer, *named: tuple[str, Manifest], known: ManifestWatch | None = None
) -> ManifestWatch:
    watch = ManifestWatch("folder", "topic", storage, search, known.known if known else ())
    for name, each in named:
        assert watch.add(f"{name}.json", each.encoded()) is None
    return watch


def run(watch: ManifestWatch, looks: int = 30) -> list[Ended]:
    return [ended for _ in range(looks) for ended in watch.look()]


def test_a_snapshot_becomes_live_in_both_servers() -> None:
    storage, search = LoadingServer(), LoadingServer()
    watch = watched(storage, search, ("one", ONE))
    assert run(watch) == [Ended("one.json", End.LIVE)]
    assert storage.begun == search.begun == [ONE.id]
    assert storage.report is not None
    assert storage.report.request == LoadRequest("folder", "one.json", ONE.id, "topic")
    assert (watch.known, watch.waiting, watch.look()) == ([], {}, [])


@pytest.mark.parametrize("seed", range(200))
def test_one_load_whatever_dies_between_two_calls(seed: int) -> None:
    dice = random.Random(seed)
    storage, search = LoadingServer(dice), LoadingServer(dice)
    fails = dice.random() < 0.4
    if fails:
        dice.choice([storage, search]).fails_at = dice.choice([10, 20, 30])
    watch, ended = watched(storage, search, ("one", ONE)), []
    for _ in range(100):
        ended += watch.look()
        life = dice.random()
        if life < 0.1:  # from a checkpoint
            watch = watched(storage, search, known=watch)
        elif life < 0.2:  # from the folder, in a job that was submitted anew
            watch = watched(storage, search, ("one", ONE))
    assert {each.end for each in ended} == {End.FAILED if fails else End.LIVE}
    assert storage.begun == [ONE.id]
    assert search.begun == [ONE.id] or (fails and search.begun == [])


@pytest.mark.parametrize("end", [End.FAILED, End.ABORTED])
def test_what_has_ended_is_not_begun_again(end: End) -> None:
    storage, search = LoadingServer(), LoadingServer()
    watch = watched(storage, search, ("one", ONE))
    watch.look()
    if end is End.ABORTED:
        storage.abort_load(ONE.id)
    else:
        storage.fails_at, storage.why = 10, "row 7 is wrong"
    why = "row 7 is wrong" if end is End.FAILED else ""
    assert run(watch) == [Ended("one.json", end, why)]
    assert run(watched(storage, search, ("one", ONE))) == [Ended("one.json", end, why)]
    search.report = None
    assert run(watched(storage, search, ("one", ONE))) == [Ended("one.json", end, why)]
    assert (storage.begun, search.begun) == ([ONE.id], [ONE.id])


def test_a_changed_manifest_of_the_same_name_is_another_one() -> None:
    storage, search = LoadingServer(), LoadingServer()
    storage.fails_at = 10
    assert run(watched(storage, search, ("one", ONE)))[0].end is End.FAILED
    storage.fails_at = 100
    assert run(watched(storage, search, ("one", TWO))) == [Ended("one.json", End.LIVE)]


def test_snapshots_are_loaded_by_name_and_one_alone_becomes_live() -> None:
    storage, search = LoadingServer(), LoadingServer()
    watch = watched(storage, search, ("c", THREE), ("b", TWO), ("a", ONE))
    ended = run(watch)
    assert [(each.name, each.end) for each in ended] == [
        ("a.json", End.LIVE),
        ("b.json", End.REFUSED),
        ("c.json", End.REFUSED),
    ]
    assert "another load" in ended[1].why
    storage, search = LoadingServer(), LoadingServer()
    watch = watched(storage, search, ("b", TWO), ("a", ONE))
    watch.look()
    storage.abort_load(ONE.id)
    assert [(each.name, each.end) for each in run(watch)] == [("a.json", End.ABORTED), ("b.json", End.LIVE)]


@pytest.mark.parametrize("which", [0, 1])
def test_a_service_that_has_begun_refuses_once(which: int) -> None:
    servers = LoadingServer(), LoadingServer()
    servers[which].applied = True
    watch = watched(*servers, ("one", ONE))
    (ended,) = run(watch)
    assert (ended.end, ended.why) == (End.REFUSED, "something was applied")
    assert watch.known == []
    assert [each.report is None or each.report.state is LoadState.ABORTED for each in servers] == [True, True]


@pytest.mark.parametrize("end", [LoadState.LIVE, LoadState.ABORTED])
def test_the_load_of_a_person_goes_before(end: LoadState) -> None:
    storage, search = LoadingServer(), LoadingServer()
    theirs = LoadRequest("elsewhere", "x.json", "theirs", "topic")
    for each in (storage, search):
        each.load(theirs)
    watch = watched(storage, search, ("one", ONE))
    assert watch.look() == []
    assert watch.waiting == {"one.json": "another load"}
    for each in (storage, search):
        assert each.report is not None
        each.report = replace(each.report, state=end)
    assert [each.end for each in run(watch)] == [End.REFUSED if end is LoadState.LIVE else End.LIVE]


def test_a_load_that_waits_is_told_as_one_that_waits() -> None:
    storage, search = LoadingServer(), LoadingServer()
    watch = watched(storage, search, ("one", ONE))
    watch.look()
    assert watch.waiting == {}
    assert search.report is not None
    search.report = replace(search.report, state=LoadState.WAITING, detail="the disk is full")
    watch.look()
    assert watch.waiting == {"one.json": "the disk is full"}


@pytest.mark.parametrize("which", [0, 1])
def test_a_server_that_is_away_is_waited_for(which: int) -> None:
    servers = LoadingServer(), LoadingServer()
    servers[which].down = True
    watch = watched(*servers, ("one", ONE))
    assert run(watch) == []
    assert watch.waiting == {"one.json": "down"}
    servers[which].down = False
    assert run(watch) == [Ended("one.json", End.LIVE)]
    assert servers[0].begun == servers[1].begun == [ONE.id]


def test_deltas_come_after_the_snapshot_in_whatever_order_they_appear() -> None:
    delta, next_delta = manifest("d", ONE.id), manifest("e", manifest("d", ONE.id).id)
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        storage, search = DeltaStorage(), LoadingServer()
        storage.previous = {delta.id: ONE.id, next_delta.id: delta.id}
        found = [("one", ONE), ("a-next", next_delta), ("z-delta", delta)]
        watch = watched(storage, search, *(found[at] for at in order))
        assert run(watch) == [Ended(f"{name}.json", End.LIVE) for name in ("one", "z-delta", "a-next")]
        assert search.begun == [ONE.id]


def test_a_delta_whose_previous_is_not_there_waits() -> None:
    storage, search = DeltaStorage(), LoadingServer()
    delta = manifest("d", THREE.id)
    storage.previous = {delta.id: THREE.id}
    watch = watched(storage, search, ("d", delta))
    assert run(watch) == []
    assert watch.waiting == {"d.json": f"waits for the manifest {THREE.id}"}
    assert run(watched(storage, search, ("two", TWO), known=watch)) == [Ended("two.json", End.LIVE)]


@pytest.mark.parametrize("end", [LoadState.FAILED, LoadState.ABORTED])
def test_a_delta_that_has_ended_is_not_asked_for_again(end: LoadState) -> None:
    storage, search = DeltaStorage(), LoadingServer()
    delta = manifest("d", ONE.id)
    storage.ended = {delta.id: end}
    storage.previous = {delta.id: ONE.id}
    assert [each.end for each in run(watched(storage, search, ("d", delta)))] == [End(end)]
    assert storage.asked == []


@pytest.mark.parametrize("end", [LoadState.FAILED, LoadState.ABORTED])
def test_an_end_between_two_calls_is_not_undone(end: LoadState) -> None:
    class Racing(DeltaStorage):
        """Right after it has answered that a delta loads, the delta ends."""

        def load_status(self, manifest_id: str = "") -> LoadReport | None:
            found = super().load_status(manifest_id)
            if manifest_id in self.taken:
                self.ended[manifest_id] = end
            return found

    storage, search = Racing(), LoadingServer()
    delta = manifest("d", ONE.id)
    storage.previous = {delta.id: ONE.id}
    watch = watched(storage, search, ("one", ONE), ("d", delta))
    assert [each.end for each in run(watch)] == [End.LIVE, End(end)]
    assert storage.asked == [delta.id]


def test_a_delta_that_a_store_knows_from_the_order_alone_is_asked_for() -> None:
    storage, search = DeltaStorage(), LoadingServer()
    delta = manifest("d", ONE.id)
    storage.previous = {delta.id: ONE.id}
    storage.taken = {delta.id: LoadReport(LoadRequest("", "", delta.id, ""), LoadState.WAITING)}
    watch = watched(storage, search, ("one", ONE), ("d", delta))
    assert [each.end for each in run(watch)] == [End.LIVE, End.LIVE]
    assert storage.asked == [delta.id]


def test_many_deltas_take_turns() -> None:
    storage, search = DeltaStorage(), LoadingServer()
    deltas = [manifest(str(number), ONE.id) for number in range(2 * DELTAS_AT_ONCE + 1)]
    storage.previous = {each.id: THREE.id for each in deltas}
    watch = watched(storage, search, *((str(number), each) for number, each in enumerate(deltas)))
    watch.look()
    assert len(storage.asked) == DELTAS_AT_ONCE
    run(watch, 2)
    assert set(storage.asked) == {each.id for each in deltas}
    waits = {f"{number}.json": f"waits for the manifest {THREE.id}" for number in range(len(deltas))}
    for _ in range(5):  # also those that were not asked for just now
        assert watch.waiting == waits
        watch.look()
    storage.down = True
    watch.look()
    assert watch.waiting == dict.fromkeys(waits, "down")
    storage.down = False
    watch.look()
    assert watch.waiting == waits


def test_a_server_that_cannot_take_manifests_refuses() -> None:
    class Unable(LoadingServer):
        def load(self, request: LoadRequest) -> LoadReport:
            raise RefusedError("this kind of store cannot take a first load")

    (ended,) = run(watched(Unable(), LoadingServer(), ("one", ONE)))
    assert (ended.end, ended.why) == (End.REFUSED, "this kind of store cannot take a first load")


def test_a_refusal_is_no_end_while_nobody_can_say_why() -> None:
    class Dying(LoadingServer):
        def load(self, request: LoadRequest) -> LoadReport:
            self.down = True
            raise MismatchError("another load")

    storage = Dying()
    watch = watched(storage, LoadingServer(), ("one", ONE))
    assert run(watch, 3) == []
    assert watch.waiting == {"one.json": "down"}


def damaged() -> Sequence[tuple[bytes | None, str, End]]:
    whole = ONE.encoded()
    return [
        (None, "it cannot be read", End.UNREADABLE),
        (b"", "not JSON", End.UNREADABLE),
        (b"\xff\x00", "not JSON", End.UNREADABLE),
        (whole[: len(whole) // 2], "not JSON", End.UNREADABLE),
        (whole + whole, "not JSON", End.UNREADABLE),
        (whole.replace(b'"format": 1', b'"format": 2'), "format 2", End.UNREADABLE),
        (whole.replace(b'"rows": 3', b'"rows": 4'), "changed or cut", End.UNREADABLE),
        (b"[]", "not a JSON object", End.UNREADABLE),
        (manifest("empty", rows=0).encoded(), "no rows", End.REFUSED),
    ]


@pytest.mark.parametrize("case", damaged())
def test_a_file_that_is_no_manifest_is_named_and_ignored(case: tuple[bytes | None, str, End]) -> None:
    content, why, end = case
    storage, search = LoadingServer(), LoadingServer()
    watch = watched(storage, search, ("one", ONE))
    ended = watch.add("bad.json", content, "it cannot be read")
    assert ended is not None
    assert (ended.name, ended.end) == ("bad.json", end)
    assert why in ended.why
    assert run(watch) == [Ended("one.json", End.LIVE)]
