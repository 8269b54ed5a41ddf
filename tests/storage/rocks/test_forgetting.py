"""Nothing of a forgotten image is left in any file of a store: neither its id nor its vectors."""

from __future__ import annotations

import threading
from contextlib import closing, suppress
from pathlib import Path

import pytest

from core.errors import UnavailableError
from core.manifest_rows import MemberRow, RowResult
from core.types import Cause, DeadLetterRecord, ImageId, Move
from storage.erasing import Eraser
from storage.records import Touched
from storage.rocks import store as rocks_store
from storage.rocks.options import FAMILIES, META
from storage.rocks.scrubbing import MOST_RANGES, key_ranges
from storage.rocks.store import RocksStore
from storage.testing.decisions import decided, forgets, founds, joins, put
from storage.testing.forgetting import assert_erased, erase_all

SECRET = ImageId("the-image-nobody-may-know")
VECTORS = {"search_vector": b"a-search-vector-to-forget", "score_vector": b"a-score-vector-to-forget"}
CODE = b"a-founding-code-to-forget"
TRACES = (SECRET.encode(), *VECTORS.values(), CODE)


def files_with(folder: Path, *traces: bytes) -> dict[str, list[bytes]]:
    """The files below a folder that hold any of these bytes."""
    found: dict[str, bytes] = {}
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):  # RocksDB removes tables that it has replaced a little later
            if file.is_file():
                found[str(file)] = file.read_bytes()
    hits = {name: [each for each in traces if each in content] for name, content in found.items()}
    return {name: each for name, each in hits.items() if each}


def name(number: int) -> ImageId:
    """An id of another image."""
    return ImageId(f"image-{number:06}")


def filled(folder: Path, others: int = 200) -> RocksStore:
    """A store in which the image heads a cluster, was decided twice, is matched by others, and was deleted since."""
    store = RocksStore(folder)
    letter = DeadLetterRecord(SECRET.encode(), b"rejected: " + VECTORS["search_vector"])
    own = {**VECTORS, "score_code": CODE}
    put(store, founds(0, name(0)), decided(1, SECRET, Move(SECRET, None, SECRET, Cause.UNSCORED), dead_letter=letter))
    row = MemberRow("0f" * 16, 0, RowResult.ELSEWHERE_HEAD_GONE)  # an example of its manifest
    put(store, founds(2, SECRET, old=SECRET, version=2, member=row, **own))
    put(store, *[joins(3 + at, name(1 + at), SECRET) for at in range(others)])
    put(store, decided(3 + others, SECRET, Move(SECRET, SECRET, SECRET, Cause.KEPT), version=3, **own))
    put(store, founds(4 + others, name(3), old=SECRET, version=2))
    put(store, forgets(5 + others, SECRET, SECRET, version=3))
    return store


@pytest.mark.parametrize("others", [3, 200])
def test_no_file_holds_it_once_it_is_erased(tmp_path: Path, others: int) -> None:
    with closing(filled(tmp_path, others)) as store:
        assert files_with(tmp_path, SECRET.encode())
        erase_all(store)
        assert files_with(tmp_path, *TRACES) == {}
        assert_erased(store, SECRET)
        assert store.members(name(1), 999).items[0] == name(1)
    assert files_with(tmp_path, *TRACES) == {}
    with closing(RocksStore(tmp_path)) as store:
        [progress] = store.deltas()
        assert (progress.counts, progress.examples) == ({RowResult.ELSEWHERE_HEAD_GONE: 1}, ())
        assert store.look_up([SECRET]).tombstones[SECRET].version == 3
        assert_erased(store, SECRET)
    assert files_with(tmp_path, *TRACES) == {}


@pytest.mark.parametrize("steps", range(9))
def test_erasing_goes_on_after_a_restart(tmp_path: Path, steps: int) -> None:
    store = filled(tmp_path, 30)
    eraser = Eraser(store, waits_for_publisher=False, records_at_once=20)
    for _ in range(steps):
        eraser.step()
    store.close()
    with closing(RocksStore(tmp_path)) as store:
        erase_all(store, 20)
        assert_erased(store, SECRET)
        assert files_with(tmp_path, *TRACES) == {}


def test_others_stay_in_place_and_stay_readable(tmp_path: Path) -> None:
    with closing(filled(tmp_path)) as store:
        with store.snapshot() as view:
            before = [(image.image_id, image.head, image.version) for image in view.images()]
        erase_all(store, 7)
        with store.snapshot() as view:
            assert [(image.image_id, image.head, image.version) for image in view.images()] == before


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for readers."""
    monkeypatch.setattr(rocks_store, "SCRUB_WAIT_S", 0.0)


@pytest.mark.usefixtures("short_patience")
def test_erasing_waits_for_readers_of_old_records_and_then_ends_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(filled(tmp_path, 3)) as store:
        with store.snapshot() as view:
            with pytest.raises(UnavailableError, match="1 long reads"):
                erase_all(store)
            assert view.image(name(1)) is not None
            monkeypatch.setattr(rocks_store, "SCRUB_PATIENCE_S", 0.0)
            erase_all(store)
            with pytest.raises(UnavailableError):
                view.image(name(1))
        assert files_with(tmp_path, *TRACES) == {}


def test_the_stream_writes_while_tables_are_compacted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(filled(tmp_path, 3)) as store:
        compacting, written = threading.Event(), threading.Event()
        real = rocks_store.Database.flush

        def flush(database: rocks_store.Database) -> None:
            compacting.set()
            assert written.wait(30)
            real(database)

        monkeypatch.setattr(rocks_store.Database, "flush", flush)
        thread = threading.Thread(target=erase_all, args=(store,))
        thread.start()
        assert compacting.wait(30)
        put(store, founds(9, ImageId("another")))
        written.set()
        thread.join(30)
        assert store.image(ImageId("another")) is not None
        assert files_with(tmp_path, *TRACES) == {}


def test_a_closed_store_compacts_nothing(tmp_path: Path) -> None:
    store = filled(tmp_path, 3)
    store.close()
    with pytest.raises(UnavailableError):
        store.scrub(None)


def test_many_keys_of_a_family_are_few_ranges() -> None:
    images = {name(number) for number in range(10 * MOST_RANGES)}
    ranges = [each for each in key_ranges(Touched(images=images)) if each.family == "images"]
    assert len(ranges) == MOST_RANGES
    for image in images:
        assert sum(each.start <= image.encode() < each.end for each in ranges) == 1


def test_without_a_list_every_family_with_ids_is_compacted() -> None:
    assert {each.family for each in key_ranges(None)} == {*FAMILIES, META} - {"moments"}


def test_history_that_was_swept_before_is_gone_from_the_files_too(tmp_path: Path) -> None:
    with closing(filled(tmp_path, 30)) as store:
        store.set_published(store.state().history_number)
        assert store.sweep_history(20, 100) == 19
        erase_all(store)
        assert_erased(store, SECRET)
        assert files_with(tmp_path, *TRACES) == {}
        assert store.state().history_first == 20
