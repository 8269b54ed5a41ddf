"""What a folder must be to be opened: unlocked, of this format and identity, and undamaged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from core.checked_json import write_checked
from core.errors import UnavailableError
from core.types import Cause, Move
from storage import codec
from storage.errors import CorruptedError, DiskFullError, IncompatibleError, LockedError, WriteError
from storage.rocks.database import Database, Write
from storage.rocks.marker import StoreMarker, check_marker, write_marker
from storage.rocks.options import RocksOptions
from storage.rocks.store import RocksStore
from storage.rocks.views import SnapshotView
from storage.testing.decisions import A, B, C, D, assert_holds, decided, fill, founds, put
from storage.testing.model import StoreModel, seeded_actions
from storage.verify import verify
from tests.support.damage import damages

QUICK = RocksOptions(sync=False)
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, StoreModel]]:
    """A folder with two stores of the same content: `closed`, and `killed` as a kill -9 would leave it."""
    folder, model = tmp_path_factory.mktemp("written"), StoreModel()
    store = RocksStore(folder / "closed", "photos", QUICK)
    fill(store, model, seeded_actions(1, 500, ids=100), batch=50)
    shutil.copytree(folder / "closed", folder / "killed")
    store.close()
    yield folder, model
    shutil.rmtree(folder)


@pytest.fixture
def closed(written: tuple[Path, StoreModel], tmp_path: Path) -> Path:
    return Path(shutil.copytree(written[0] / "closed", tmp_path / "closed"))


@pytest.fixture
def killed(written: tuple[Path, StoreModel], tmp_path: Path) -> Path:
    return Path(shutil.copytree(written[0] / "killed", tmp_path / "killed"))


def problems(folder: Path) -> int:
    """How many problems a check of the store finds."""
    store = RocksStore(folder, "photos", QUICK)
    try:
        with store.snapshot() as view:
            return [progress.problem_count for progress in verify(view)][-1]
    finally:
        store.close()


def flip(file: Path, at: int) -> None:
    """Turns every bit of one byte."""
    damaged = bytearray(file.read_bytes())
    damaged[at] ^= 0xFF
    file.write_bytes(damaged)


def log_of(folder: Path) -> Path:
    """The write-ahead log in use."""
    return max((folder / "db").glob("*.log"))


@pytest.mark.parametrize("kind", ["closed", "killed"])
def test_everything_is_there_again(written: tuple[Path, StoreModel], tmp_path: Path, kind: str) -> None:
    folder = Path(shutil.copytree(written[0] / kind, tmp_path / kind))
    store = RocksStore(folder, "photos", QUICK)
    assert_holds(store, written[1])
    store.close()


def test_one_process_at_a_time(closed: Path) -> None:
    hold = "import sys; from pathlib import Path; from storage.rocks.store import RocksStore; "
    hold += "store = RocksStore(Path(sys.argv[1]), 'photos'); print('open', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(closed)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(LockedError, match="one writer"):
            RocksStore(closed, "photos", QUICK)
    finally:
        holder.kill()
        holder.communicate()
    assert problems(closed) == 0


def test_not_twice_in_one_process(closed: Path) -> None:
    store = RocksStore(closed, "photos", QUICK)
    with pytest.raises(LockedError):
        RocksStore(closed, "photos", QUICK)
    store.close()
    assert problems(closed) == 0


def test_closing_ends_long_reads(closed: Path) -> None:
    store = RocksStore(closed, "photos", QUICK)
    with store.snapshot() as view:
        rows = view.images()
        next(rows)
        store.close()
        with pytest.raises(UnavailableError, match="read again"):
            next(rows)
    assert problems(closed) == 0


def test_a_reader_that_does_not_read_on_holds_up_no_recovery(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RocksStore(closed, "photos", QUICK)
    position = store.state().position
    with store.snapshot() as view, monkeypatch.context() as patch:
        images, embeddings, history = view.images(), view.embeddings(), view.history_from(0)
        rows = [next(images), next(embeddings), next(history)]
        assert rows

        def full(*_: object) -> None:
            raise DiskFullError("no space")

        patch.setattr(Database, "write", full)
        with pytest.raises(DiskFullError):
            store.set_published(store.published())
        patch.undo()
        store.set_published(store.published())  # the database is closed and opened again, at once
        for stalled in (images, embeddings, history):
            with pytest.raises(UnavailableError, match="read again"):
                next(stalled)
        with store.snapshot() as again:
            assert again.state().position == position
    store.close()
    assert problems(closed) == 0


def test_another_identity_is_refused_with_both(closed: Path) -> None:
    with pytest.raises(IncompatibleError, match=r"'photos'.*'texts'"):
        RocksStore(closed, "texts", QUICK)


def test_another_format_is_refused_with_both(closed: Path) -> None:
    (closed / "store.json").write_text(json.dumps({"format": 99, "identity": "photos"}))
    with pytest.raises(IncompatibleError, match=r"99.*1"):
        RocksStore(closed, "photos", QUICK)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": "x", "identity": "photos"}'])
def test_a_damaged_marker_is_refused(closed: Path, text: str) -> None:
    (closed / "store.json").write_text(text)
    with pytest.raises(CorruptedError, match=r"store\.json"):
        RocksStore(closed, "photos", QUICK)


def test_a_lost_marker_is_refused(closed: Path) -> None:
    (closed / "store.json").unlink()
    with pytest.raises(CorruptedError, match="missing"):
        RocksStore(closed, "photos", QUICK)


def test_a_crash_before_the_marker_leaves_a_new_store(tmp_path: Path) -> None:
    RocksStore(tmp_path / "store", "photos", QUICK).close()
    (tmp_path / "store" / "store.json").unlink()
    assert problems(tmp_path / "store") == 0
    assert check_marker(tmp_path / "store", "photos")


def test_a_marker_without_a_checksum_is_written_anew(closed: Path) -> None:
    marker = closed / "store.json"
    written = marker.read_bytes()
    marker.write_text('{"format": 1, "identity": "photos"}')
    assert problems(closed) == 0
    assert marker.read_bytes() == written


def test_a_marker_damaged_anywhere_is_refused_or_reads_the_same(tmp_path: Path) -> None:
    write_marker(tmp_path, "photos")
    for damaged in damages((tmp_path / "store.json").read_bytes()):
        (tmp_path / "store.json").write_bytes(damaged)
        try:
            assert check_marker(tmp_path, "photos")
        except (CorruptedError, IncompatibleError) as error:
            assert str(tmp_path / "store.json") in str(error)  # noqa: PT017


def unlink_each(pattern: str) -> Callable[[Path], None]:
    """Deletes the files of a database that match."""

    def act(folder: Path) -> None:
        files = list((folder / "db").glob(pattern))
        assert files
        for file in files:
            file.unlink()

    return act


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(unlink_each("CURRENT"), id="CURRENT gone"),
        pytest.param(unlink_each("MANIFEST-*"), id="manifest gone"),
        pytest.param(unlink_each("*.sst"), id="tables gone"),
        pytest.param(lambda folder: shutil.rmtree(folder / "db"), id="database gone"),
        pytest.param(
            lambda folder: [flip(file, 50) for file in (folder / "db").glob("MANIFEST-*")], id="manifest flip"
        ),
    ],
)
def test_a_damaged_database_is_never_replaced_by_an_empty_one(closed: Path, damage: Callable[[Path], None]) -> None:
    damage(closed)
    with pytest.raises(CorruptedError, match="restore a snapshot"):
        RocksStore(closed, "photos", QUICK)


def test_damage_inside_a_table_is_found(closed: Path) -> None:
    """In those of the moments and the state it is refused at once, in any other it shows when the store is checked."""
    tables = sorted((closed / "db").glob("*.sst"), key=lambda table: table.stat().st_size)
    for table in tables[:2]:
        copy = Path(shutil.copytree(closed, closed.with_name(table.stem)))
        flip(copy / "db" / table.name, 20)
        with pytest.raises(CorruptedError):
            RocksStore(copy, "photos", QUICK)
    for table in tables[2:]:
        flip(table, 100)
    assert problems(closed) >= len(tables) - 2


def test_a_torn_end_of_the_log_is_cut(killed: Path, written: tuple[Path, StoreModel]) -> None:
    """The last batch was not acknowledged; the one before it was."""
    log = log_of(killed)
    os.truncate(log, log.stat().st_size - 7)
    store = RocksStore(killed, "photos", QUICK)
    assert store.position().offset == 449
    store.close()
    assert problems(killed) == 0


def test_damage_in_the_middle_of_the_log_is_refused(killed: Path) -> None:
    log = log_of(killed)
    flip(log, log.stat().st_size // 2)
    with pytest.raises(CorruptedError):
        RocksStore(killed, "photos", QUICK)


def test_a_lost_log_of_a_new_store_is_refused(killed: Path) -> None:
    log_of(killed).unlink()
    with pytest.raises(CorruptedError, match="state"):
        RocksStore(killed, "photos", QUICK)


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WriteError, match=str(tmp_path)):
        RocksStore(tmp_path / "file" / "store", "photos", QUICK)


def test_an_unscored_image_of_the_first_format_stays_unscored_after_it_was_adopted(tmp_path: Path) -> None:
    """That format kept no flag; the image's last cause is `adopted`."""
    folder = tmp_path / "store"
    store = RocksStore(folder, "photos", QUICK)
    bad, good = Move(A, None, A, Cause.UNSCORED), Move(C, None, C, Cause.FOUNDED)
    adopted = [Move(each, each, B, Cause.ADOPTED, 0.95, D) for each in (A, C)]
    put(store, decided(0, A, bad), founds(1, B), decided(2, C, good))
    put(store, decided(3, D, Move(D, None, B, Cause.MATCHED, 0.9, B), *adopted))
    for each in (A, C):
        image = store.image(each)
        assert image is not None
        assert (image.cause, image.unscored) == (Cause.ADOPTED, each == A)
        value = codec.encode_image(replace(image, unscored=False))
        store._usable().write([("images", codec.image_key(each), value)])
    store.close()
    (folder / "store.json").write_text('{"format": 1, "identity": "photos"}')
    for _ in range(2):
        store = RocksStore(folder, "photos", QUICK)
        with store.snapshot() as view:
            assert {image.image_id: image.unscored for image in view.images()} == {
                A: True,
                B: False,
                C: False,
                D: False,
            }
        store.close()


def test_a_store_that_was_renewed_is_no_new_store(tmp_path: Path) -> None:
    """It holds no record yet, but it follows a log."""
    store = RocksStore(tmp_path / "store", "photos", QUICK)
    store.renew("topic-one", 0)
    store.close()
    (tmp_path / "store" / "store.json").unlink()
    with pytest.raises(CorruptedError, match=r"store\.json is missing"):
        RocksStore(tmp_path / "store", "photos", QUICK)


def damaged(folder: Path, writes: Callable[[SnapshotView], list[Write]]) -> None:
    """Writes into a closed store what no store would write."""
    store = RocksStore(folder, "photos", QUICK)
    with store.snapshot() as view:
        assert isinstance(view, SnapshotView)
        found = writes(view)
    store.close()
    database = Database(folder / "db", QUICK, create=False)
    database.write(found)
    database.close()


def test_a_store_of_format_2_knows_the_history_of_each_image_once_it_was_opened(
    closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.rocks.store.INDEXED_AT_ONCE", 7)
    keys = [codec.edge_key(A, 1)]

    def none_by_image(view: SnapshotView) -> list[Write]:
        keys[:] = [codec.edge_key(entry.image_id, entry.number) for entry in view.history_from(0)]
        return [("history_of", key, None) for key in keys]

    damaged(closed, none_by_image)
    write_checked(closed / "store.json", 2, {"identity": "photos"})
    assert problems(closed) == 0
    marker = check_marker(closed, "photos")
    assert marker is not None
    assert marker.format == codec.FORMAT_VERSION
    store = RocksStore(closed, "photos", QUICK)
    with store.snapshot() as view:
        entries = list(view.history_from(0))
        assert len(entries) == len(keys) > 100
        assert list(view.history_of(entries[0].image_id)) == [
            entry for entry in entries if entry.image_id == entries[0].image_id
        ]
    store.close()


def test_a_store_of_format_3_names_its_database_once_it_was_opened(
    closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checked(closed / "store.json", 3, {"identity": "photos"})
    monkeypatch.setattr(RocksStore, "_index_history", None)  # its history is known by image already
    assert problems(closed) == 0
    assert check_marker(closed, "photos") == StoreMarker(codec.FORMAT_VERSION, "photos", "db")


@pytest.mark.parametrize("database", ["", "..", "db/..", "db-1", "db-000002.new"])
def test_a_marker_that_names_no_database_is_refused(closed: Path, database: str) -> None:
    write_checked(closed / "store.json", codec.FORMAT_VERSION, {"identity": "photos", "database": database})
    with pytest.raises(CorruptedError, match="names no database"):
        RocksStore(closed, "photos", QUICK)


def test_a_database_that_the_marker_names_and_that_is_gone_is_refused(closed: Path) -> None:
    write_checked(closed / "store.json", codec.FORMAT_VERSION, {"identity": "photos", "database": "db-000002"})
    with pytest.raises(CorruptedError, match="restore a snapshot"):
        RocksStore(closed, "photos", QUICK)


def test_an_entry_that_is_not_known_by_its_image_is_a_problem(closed: Path) -> None:
    def forgotten(view: SnapshotView) -> list[Write]:
        entry = next(view.history_from(6))
        return [("history_of", codec.edge_key(entry.image_id, entry.number), None)]

    damaged(closed, forgotten)
    assert problems(closed) == 1
