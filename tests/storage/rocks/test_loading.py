"""A store that began with a manifest is the one that the same decisions would have made, and goes on as any other."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from core.errors import BadInputError, MismatchError, UnavailableError
from core.overrides import JOB_KINDS, OverrideKind, RollbackRequest
from core.types import Cause, Decision, ImageId, LogPosition, Move, Outcome, Trigger, Versions
from manifests.manifest import Manifest
from storage.arrivals import earliest_arrival
from storage.errors import CorruptedError, DiskFullError
from storage.interfaces import StoreView
from storage.loading.run import run_load
from storage.memory import MemoryStore
from storage.past import PastUnknownError, head_at, members_at, number_at
from storage.records import FirstLoad
from storage.rocks import loader
from storage.rocks.marker import read_marker, write_marker
from storage.rocks.store import RocksStore
from storage.testing.decisions import decided, founds, ignored, joins, put
from storage.testing.overrides import say
from storage.unscored import unscored_after
from storage.verify import verify
from storage.written import written_at
from tests.support.loadable import (
    LOADED_LOG,
    STARTED_MS,
    InterruptedLoadError,
    LoadableRow,
    Patient,
    content_of,
    kept_load,
    load_settings,
    random_rows,
    write_manifest,
)
from tests.support.store_writer import SMALL

A, B, C, D = (ImageId(each) for each in "abcd")
FOUR = [
    LoadableRow(A, A, cause=Cause.FOUNDED),
    LoadableRow(B, A, cause=Cause.MATCHED, score=0.9, matched=A),
    LoadableRow(C, C),
    LoadableRow(D, C, version=4),
]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a hundred rows are many parts."""
    monkeypatch.setattr(loader, "PART_ROWS", 30)
    monkeypatch.setattr(loader, "CLUSTERS_AT_ONCE", 7)


def opened(folder: Path) -> RocksStore:
    return RocksStore(folder / "store", "photos", SMALL, now_ms=lambda: STARTED_MS + 100_000)


@contextmanager
def loaded(folder: Path, rows: list[LoadableRow], *, codes: bool = True) -> Iterator[RocksStore]:
    manifest = write_manifest(folder / "old", rows, codes=codes)
    with closing(opened(folder)) as store:
        watch = Patient(kept_load(folder / "old", manifest))
        run_load(watch.kept, store, load_settings(), watch)
        store.swap(LOADED_LOG)
    with closing(opened(folder)) as store:
        yield store


def decided_one_by_one(rows: list[LoadableRow]) -> MemoryStore:
    store = MemoryStore()
    last = {row.image_id: number for number, row in enumerate(rows)}
    for place, row in enumerate(rows):
        if last[row.image_id] != place:
            put(store, ignored(place, ImageId(""), Outcome.UNREADABLE))
            continue
        assert row.head is not None
        cause = Cause.FOUNDED if row.head == row.image_id else Cause.MATCHED
        search, score = (vector.tobytes() for vector in row.vectors)
        decision = decided(
            place,
            row.image_id,
            Move(row.image_id, None, row.head, cause, row.score, row.matched),
            version=row.version,
            score_code=row.code,
            search_vector=search,
            score_vector=score,
            versions=Versions("m1"),
            created_at_ms=row.created_at_ms,
            arrived_at_ms=STARTED_MS,
            decided_at_ms=STARTED_MS,
        )
        put(store, decision)
    return store


def assert_equal(found: StoreView, wanted: StoreView, rows: list[LoadableRow]) -> None:
    cause_of = {row.image_id: row.cause or Cause.BOOTSTRAPPED for row in rows}
    founding = {row.image_id: row.founding for row in reversed(rows) if row.founding is not None}
    assert list(found.images()) == [replace(each, cause=cause_of[each.image_id]) for each in wanted.images()]
    assert list(found.clusters()) == [
        replace(each, founding_code=founding.get(each.head, each.founding_code)) for each in wanted.clusters()
    ]
    assert list(found.edges()) == list(wanted.edges())
    assert list(found.embeddings()) == list(wanted.embeddings())
    assert list(found.history_from(0)) == [
        replace(each, cause=cause_of[each.image_id], trigger=Trigger.MANIFEST) for each in wanted.history_from(0)
    ]
    for each in wanted.images():
        assert [entry.number for entry in found.history_of(each.image_id)] == [
            entry.number for entry in wanted.history_of(each.image_id)
        ]
    mine, theirs = found.state(), wanted.state()
    assert mine.position == LogPosition(LOADED_LOG, len(rows) - 1, 0, len(rows))
    assert (mine.images, mine.clusters, mine.history_number) == (theirs.images, theirs.clusters, theirs.history_number)
    assert mine.superseded == len(rows) - mine.images


def put_on(store: RocksStore, *decisions: Decision) -> None:
    state = store.state()
    store.apply(LOADED_LOG, decisions, state.position.offset, state.revision, JOB_KINDS)


def sound(store: RocksStore) -> bool:
    with store.snapshot() as view:
        return [progress.problems for progress in verify(view)][-1] == ()


@settings(max_examples=12, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(seed=st.integers(0, 2**32), count=st.integers(1, 120), codes=st.booleans())
def test_it_equals_the_same_decisions(seed: int, count: int, codes: bool) -> None:
    rows = random_rows(seed, count)
    with tempfile.TemporaryDirectory() as folder, loaded(Path(folder), rows, codes=codes) as store:
        with store.snapshot() as found, decided_one_by_one(rows).snapshot() as wanted:
            assert_equal(found, wanted, rows)
            assert list(found.seconds_from(0)) == [(STARTED_MS // 1000, found.state().history_number)]
        assert sound(store)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_interrupted_goes_on_and_ends_with_the_same_bytes(tmp_path: Path, seed: int) -> None:
    rows = random_rows(seed, 150)
    manifest = write_manifest(tmp_path / "old", rows)
    kept = kept_load(tmp_path / "old", manifest)
    contents = []
    for folder, steps in ((tmp_path / "whole", 10**9), (tmp_path / "parts", 5)):
        with closing(RocksStore(folder, "photos", SMALL)) as store:
            watch, interrupted = Patient(kept, steps), 0
            while True:
                try:
                    run_load(watch.kept, store, load_settings(), watch)
                except InterruptedLoadError:
                    interrupted += 1
                    watch = Patient(watch.kept, steps + 2 * interrupted)
                else:
                    break
            store.swap(LOADED_LOG)
        contents.append(content_of(folder))
    assert interrupted > 3
    assert contents[0] == contents[1]


def test_the_first_code_of_a_head_founds_its_cluster(tmp_path: Path) -> None:
    first, member = LoadableRow(A, None, 1, founding=b"abc"), LoadableRow(B, A)
    with loaded(tmp_path, [first, member, LoadableRow(A, A, 2, founding=b"xyz")]) as store:
        cluster = store.cluster(A)
        assert cluster is not None
        assert (cluster.founding_code, cluster.count) == (b"abc", 2)
        assert sound(store)


def test_a_head_that_was_in_another_cluster_founds_with_its_later_code(tmp_path: Path) -> None:
    rows = [LoadableRow(B, B), LoadableRow(A, B, 1, founding=b"abc"), LoadableRow(A, A, 2, founding=b"xyz")]
    with loaded(tmp_path, rows) as store:
        cluster = store.cluster(A)
        assert cluster is not None
        assert cluster.founding_code == b"xyz"


def test_the_stream_goes_on_after_it(tmp_path: Path) -> None:
    with loaded(tmp_path, FOUR) as store:
        put_on(store, joins(4, ImageId("e"), A), founds(5, ImageId("f")), joins(6, B, A, A, version=2))
        assert store.position() == LogPosition(LOADED_LOG, 6, 1006, 4)
        assert store.members(A, 10).items == (A, B, "e")
        assert sound(store)
        with store.snapshot() as view:
            assert [entry.trigger for entry in view.history_from(0)] == [Trigger.MANIFEST] * 4 + [Trigger.STREAM] * 3
            assert earliest_arrival(view, 3) == 24
            assert unscored_after(view, -1).complete
            with pytest.raises(PastUnknownError, match="position 3 is a row of the first load"):
                written_at(view, A, 3)
            assert written_at(view, ImageId("e"), 4).first_number == 5


def test_the_past_begins_with_it(tmp_path: Path) -> None:
    with loaded(tmp_path, FOUR) as store, store.snapshot() as view:
        assert number_at(view, STARTED_MS - 1000) == 0
        number = number_at(view, STARTED_MS)
        assert number == 4
        assert head_at(view, B, 0) is None
        assert head_at(view, B, number) == A
        assert members_at(view, C, number) == [C, D]
        assert [entry.number for entry in view.changes(D, 5).items] == [4]
        assert view.members(A, 1).next_token is not None


def test_nothing_is_rolled_back_before_its_end(tmp_path: Path) -> None:
    with loaded(tmp_path, FOUR) as store:
        put_on(store, joins(4, ImageId("e"), A), founds(5, ImageId("f")))
        for asked in (RollbackRequest(to_change=3), RollbackRequest(to_ms=STARTED_MS - 1000)):
            with pytest.raises(BadInputError, match="nothing goes back before its end: choose change 4"):
                say(store, OverrideKind.ROLLBACK, rollback=asked)
        put_on(store, joins(6, ImageId("f"), A, ImageId("f"), version=2))
        say(store, OverrideKind.ROLLBACK, rollback=RollbackRequest(to_change=4))
        with store.snapshot() as view:
            assert head_at(view, ImageId("e"), view.state().history_number) == "e"
            assert head_at(view, B, view.state().history_number) == A
        assert sound(store)


def test_a_store_to_which_something_was_applied_is_refused(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as store:
        store.check_untouched()
        put(store, ignored(0, ImageId(""), Outcome.UNREADABLE))
        for refuses in (store.check_untouched, lambda: store.hold(lambda: "held"), lambda: store.swap(LOADED_LOG)):
            with pytest.raises(MismatchError, match="nothing was applied, and this one has 1 records of the order"):
                refuses()
        put(store, founds(1, A))
        with pytest.raises(MismatchError, match="1 images, 1 history entries, 2 records of the order"):
            store.check_untouched()


def test_what_waits_while_it_is_held(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as store:
        store.hold(lambda: "a first load is under way: 35 %")
        for waits in (
            lambda: put(store, founds(0, A)),
            lambda: put(store, kinds=JOB_KINDS),
            lambda: say(store, OverrideKind.FORBID, A, target=B),
            lambda: store.renew("other", 0),
        ):
            with pytest.raises(UnavailableError, match="35 %"):
                waits()
        store.hold(None)
        put(store, founds(0, A))


def test_what_was_required_stays_so_and_overrides_are_applied_again(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "old", FOUR)
    with closing(opened(tmp_path)) as store:
        put(store, kinds=JOB_KINDS)
        say(store, OverrideKind.FORBID, A, target=B)
        load_into(store, tmp_path, manifest)
        store.require_kinds(["delete"])
        before = store.state()
        store.swap(LOADED_LOG)
    with closing(opened(tmp_path)) as store:
        state = store.state()
        assert state.required == before.required
        assert state.kinds == before.kinds
        assert state.revision > before.revision
        assert state.overrides == 1
        image = store.image(B)
        assert image is not None
        assert image.head == B  # it was forbidden to be with a
        assert sound(store)


def load_into(store: RocksStore, folder: Path, manifest: Manifest) -> FirstLoad:
    watch = Patient(kept_load(folder / "old", manifest))
    return run_load(watch.kept, store, load_settings(), watch)


def test_the_swap_is_one_replaced_file(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "old", FOUR)
    with closing(opened(tmp_path)) as store:
        left_by_a_kill = store.load_folder / "spool" / "identities-1" / "rows-0"
        left_by_a_kill.parent.mkdir(parents=True)
        left_by_a_kill.touch()
        load = load_into(store, tmp_path, manifest)
        assert not left_by_a_kill.exists()
        assert store.state().images == 0
        assert store.first_load() is None
    with closing(opened(tmp_path)) as store:  # a kill before it
        assert store.state().images == 0
        store.swap(LOADED_LOG)
        with pytest.raises(UnavailableError, match="closed"):
            store.state()
    with closing(opened(tmp_path)) as store:
        assert store.state().images == 4
        assert store.first_load() == load
        assert store.epoch() is None
        store.remove_leftovers(keep_target=False)
    assert sorted(path.name for path in (tmp_path / "store").iterdir() if path.name.startswith("db")) == ["db-000002"]
    marker = read_marker(tmp_path / "store")
    assert marker is not None
    assert marker.database == "db-000002"


def test_a_swap_that_is_written_but_not_synced_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    manifest = write_manifest(tmp_path / "old", FOUR)
    with closing(opened(tmp_path)) as store:
        load_into(store, tmp_path, manifest)
        monkeypatch.setattr("core.files.sync_folder", refuses)
        store.swap(LOADED_LOG)
        with pytest.raises(UnavailableError, match="closed"):
            store.state()
        monkeypatch.undo()
        store.remove_leftovers(keep_target=False)  # as an abort does that comes too late
    with closing(opened(tmp_path)) as store:
        assert store.state().images == 4


def test_a_swap_that_is_not_written_leaves_the_store_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    manifest = write_manifest(tmp_path / "old", FOUR)
    with closing(opened(tmp_path)) as store:
        load_into(store, tmp_path, manifest)
        monkeypatch.setattr("storage.rocks.loading_store.write_marker", refuses)
        with pytest.raises(DiskFullError):
            store.swap(LOADED_LOG)
        assert store.state().images == 0
        monkeypatch.undo()
        store.swap(LOADED_LOG)


def test_what_the_marker_names_is_never_removed(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "old", FOUR)
    with closing(opened(tmp_path)) as store:
        load_into(store, tmp_path, manifest)
        write_marker(tmp_path / "store", "photos", "db-000002")
        store.remove_leftovers(keep_target=False)
        assert (tmp_path / "store" / "db-000002").is_dir()
        (tmp_path / "store" / "store.json").write_bytes(b"damaged")
        with pytest.raises(CorruptedError):
            store.remove_leftovers(keep_target=False)
        assert (tmp_path / "store" / "db-000002").is_dir()


def test_what_a_kill_leaves_of_a_removal_is_removed(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as store:
        for name in ("db-000002", "db-000002.gone"):
            (tmp_path / "store" / name / "deep").mkdir(parents=True)
        store.remove_leftovers(keep_target=False)
    assert [path.name for path in (tmp_path / "store").glob("db*")] == ["db"]


def test_a_missing_image_is_found_before_anybody_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = write_manifest(tmp_path / "old", random_rows(1, 50))
    add = loader.RocksLoadTarget.add

    def lossy(self: loader.RocksLoadTarget, rows: loader.LoadedRows) -> None:
        rows.pairs["images"].pop()
        add(self, rows)

    monkeypatch.setattr(loader.RocksLoadTarget, "add", lossy)
    with (
        closing(opened(tmp_path)) as store,
        pytest.raises(CorruptedError, match="50 records of images should be there, and 4"),
    ):
        load_into(store, tmp_path, manifest)


def test_a_wrong_record_is_found_in_the_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = write_manifest(tmp_path / "old", random_rows(1, 50))
    add = loader.RocksLoadTarget.add

    def wrong(self: loader.RocksLoadTarget, rows: loader.LoadedRows) -> None:
        edges = rows.pairs["edges"]
        edges[0] = edges[0][0], edges[1][1]
        add(self, rows)

    monkeypatch.setattr(loader.RocksLoadTarget, "add", wrong)
    with closing(opened(tmp_path)) as store, pytest.raises(CorruptedError, match="not listed under its head"):
        load_into(store, tmp_path, manifest)
