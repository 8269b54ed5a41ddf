"""Other codes for a store: all of them or none, after a kill at any moment, and nothing else is changed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import BadInputError, MismatchError
from core.first_loads import LoadRequest, LoadState
from storage import codec
from storage.errors import CorruptedError, DiskFullError, IncompatibleError, LockedError
from storage.interfaces import StoreView
from storage.loading.kept import KeptLoad, write_kept
from storage.rocks.converting import convert_codes, stored_identity
from storage.rocks.database import Database
from storage.rocks.marker import read_marker
from storage.rocks.options import FAMILIES, META, RocksOptions
from storage.rocks.store import RocksStore
from storage.testing.decisions import assert_holds, fill
from storage.testing.model import StoreModel, seeded_actions
from tests.support.store_converter import AFTER, BEFORE, CHANGE, new_code

QUICK = RocksOptions(sync=False)
ROOT = Path(__file__).parents[3]

Rows = dict[str, dict[bytes, bytes]]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, StoreModel]]:
    """A store of seeded decisions: deletes, new versions and replays among them."""
    folder, model = tmp_path_factory.mktemp("coded") / "store", StoreModel()
    store = RocksStore(folder, BEFORE, QUICK)
    fill(store, model, seeded_actions(5, 600, ids=120), batch=50)
    store.set_published(7)
    store.close()
    yield folder, model
    shutil.rmtree(folder)


@pytest.fixture
def folder(written: tuple[Path, StoreModel], tmp_path: Path) -> Path:
    return Path(shutil.copytree(written[0], tmp_path / "store"))


def rows(folder: Path) -> Rows:
    """Every key and value of the database in use."""
    marker = read_marker(folder)
    assert marker is not None
    database = Database(folder / marker.database, QUICK, create=False)
    with closing(database):
        moment = database.moment()
        found: Rows = {}
        for family in (META, *FAMILIES):
            cursor = moment.cursors[family]
            cursor.seek_to_first()
            found[family] = {}
            while cursor.valid():
                found[family][cursor.key()] = cursor.value()
                cursor.next()
        del cursor, moment
    return found


def expected(before: Rows, view: StoreView) -> Rows:
    """The same rows with new codes: of each image, and of the member whose old code was the founding one."""
    after = {family: dict(content) for family, content in before.items()}
    after["ended"] = {}
    for record in view.embeddings():
        if record.score_code:
            changed = codec.encode_embedding(replace(record, score_code=new_code(record)))
            after["embeddings"][codec.place_key(record.place)] = changed
    for cluster in view.clusters():
        members = [view.image(edge.member) for edge in view.edges_of(cluster.head, 0)]
        records = [view.embedding(image.place) for image in members if image is not None]
        coded = [record for record in records if record is not None and record.score_code]
        same = [record for record in coded if record.score_code == cluster.founding_code]
        code = b""
        if cluster.founding_code and coded:
            code = new_code(
                (same or sorted(coded, key=lambda one: differing(one.score_code, cluster.founding_code)))[0]
            )
        after["clusters"][codec.image_key(cluster.head)] = codec.encode_cluster(replace(cluster, founding_code=code))
    return after


def differing(one: bytes, other: bytes) -> int:
    """Of the first 64 bits."""
    return sum(bin(left ^ right).count("1") for left, right in zip(one[:8], other[:8], strict=True))


def both(folder: Path) -> tuple[Rows, Rows]:
    """The rows with the old codes, and with the new ones."""
    before = rows(folder)
    with closing(RocksStore(folder, BEFORE, QUICK)) as store, store.snapshot() as view:
        return before, expected(before, view)


def databases(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def test_only_codes_change(folder: Path, written: tuple[Path, StoreModel]) -> None:
    before, after = both(folder)
    told: list[tuple[int, int]] = []
    found = convert_codes(folder, CHANGE, lambda done, total: told.append((done, total)), QUICK)
    assert rows(folder) == after
    assert before["embeddings"] != after["embeddings"]
    assert before["clusters"] != after["clusters"]
    assert databases(folder) == ["db-000002"]
    assert stored_identity(folder) == AFTER
    assert found is not None
    assert found.from_members > 0
    assert told[-1] == (told[-1][1], len(written[1].head) + len(written[1].members))
    with closing(RocksStore(folder, AFTER, QUICK)) as store:
        model = written[1].copy()
        with store.snapshot() as view:
            model.code = {cluster.head: cluster.founding_code for cluster in view.clusters()}
        assert_holds(store, model)
        fill(store, model, seeded_actions(6, 100, ids=120), batch=20)
        assert_holds(store, model)


def test_a_converted_store_converts_again(folder: Path) -> None:
    convert_codes(folder, CHANGE, None, QUICK)
    after = rows(folder)
    assert convert_codes(folder, CHANGE, None, QUICK) is None
    convert_codes(folder, replace(CHANGE, before=AFTER, after="third"), None, QUICK)
    assert databases(folder) == ["db-000003"]
    assert rows(folder)["embeddings"] == after["embeddings"]


@pytest.mark.parametrize("kill_at", ["start", "part 1", "part 20", "naming", "named"])
def test_a_kill_leaves_the_old_codes_or_the_new_ones(folder: Path, kill_at: str) -> None:
    old, new = both(folder)
    word, _, count = kill_at.partition(" ")
    process = start(folder)
    assert process.stdout is not None
    if word != "start":
        waits = int(count or 1)
        for line in process.stdout:
            waits -= line.strip() == word
            if not waits:
                break
    process.kill()
    process.communicate()
    identity = stored_identity(folder)
    assert identity in ((AFTER,) if kill_at == "named" else (BEFORE, AFTER))
    assert rows(folder) == (new if identity == AFTER else old)
    with closing(RocksStore(folder, str(identity), QUICK)) as store:
        assert store.published() == 7
    again = start(folder)
    said, _ = again.communicate()
    assert again.returncode == 0
    assert said.endswith("done\n")
    assert rows(folder) == new
    assert len(databases(folder)) == 1


def start(folder: Path) -> subprocess.Popen[str]:
    """A conversion in a process of its own."""
    words = [sys.executable, "-m", "tests.support.store_converter", str(folder)]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_a_full_disk_leaves_the_old_codes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = rows(folder)

    def full(*_: object) -> None:
        raise DiskFullError("no space")

    with monkeypatch.context() as patched:
        patched.setattr(Database, "write", full)
        with pytest.raises(DiskFullError):
            convert_codes(folder, CHANGE, None, QUICK)
    assert (rows(folder), databases(folder), stored_identity(folder)) == (before, ["db"], BEFORE)


def test_images_without_vectors_are_counted_and_refused(folder: Path) -> None:
    with closing(RocksStore(folder, BEFORE, QUICK)) as store:
        with store.snapshot() as view:
            coded = [record for record in view.embeddings() if record.score_code][3:5]
        bare = [replace(record, score_vector=b"") for record in coded]
        store._usable().write([("embeddings", codec.place_key(one.place), codec.encode_embedding(one)) for one in bare])
    before = rows(folder)
    with pytest.raises(BadInputError, match=f"no vectors: 2, the first one is .* at place {bare[0].place}"):
        convert_codes(folder, CHANGE, None, QUICK)
    assert (rows(folder), databases(folder), stored_identity(folder)) == (before, ["db"], BEFORE)


def test_a_store_that_is_open_is_refused(folder: Path) -> None:
    with closing(RocksStore(folder, BEFORE, QUICK)), pytest.raises(LockedError, match="one writer"):
        convert_codes(folder, CHANGE, None, QUICK)
    assert databases(folder) == ["db"]


def test_one_conversion_at_a_time_and_nobody_else_opens_the_store(folder: Path) -> None:
    tried: list[str] = []

    def try_others(done: int, total: int) -> None:
        with pytest.raises(LockedError, match="being converted by another process"):
            convert_codes(folder, CHANGE, None, QUICK)
        with pytest.raises(LockedError, match="one writer"):
            RocksStore(folder, BEFORE, QUICK)
        tried.append(str(stored_identity(folder)))

    convert_codes(folder, CHANGE, try_others, QUICK)
    assert set(tried) == {BEFORE}
    assert stored_identity(folder) == AFTER


def test_a_store_that_was_converted_while_it_was_opened_is_not_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It read `store.json` before the conversion ended, and opened the old database after."""
    marker = read_marker(folder)
    monkeypatch.setattr("storage.rocks.store.check_marker", lambda *_: marker)
    kept = Path(shutil.copytree(folder / "db", folder.parent / "kept"))
    convert_codes(folder, CHANGE, None, QUICK)
    kept.rename(folder / "db")
    with pytest.raises(LockedError, match="was converted while it was opened"):
        RocksStore(folder, BEFORE, QUICK)
    with pytest.raises(LockedError, match="was converted while it was opened"):  # the database is closed again
        RocksStore(folder, BEFORE, QUICK)


def test_another_store_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(IncompatibleError):
        convert_codes(folder, replace(CHANGE, before="texts"), None, QUICK)
    (tmp_path / "empty").mkdir()
    assert stored_identity(tmp_path / "empty") is None
    with pytest.raises(CorruptedError, match="no complete store"):
        convert_codes(tmp_path / "empty", CHANGE, None, QUICK)


def test_the_old_database_is_opened_by_no_earlier_release(folder: Path) -> None:
    """Format 3 knew one database only; it would open the old codes, or none, under the new identity."""
    convert_codes(folder, CHANGE, None, QUICK)
    marker = read_marker(folder)
    assert marker is not None
    assert (marker.format, marker.database) == (codec.FORMAT_VERSION, "db-000002")
    assert codec.FORMAT_VERSION > 3


def test_a_long_cluster_is_looked_at_in_its_oldest_members_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.new_codes.MEMBERS", 0)
    found = convert_codes(folder, CHANGE, None, QUICK)
    assert found is not None
    assert (found.clusters, found.from_members) == (0, 0)
    assert found.without > 0


@pytest.mark.parametrize("state", [LoadState.LOADING, LoadState.READY])
def test_a_first_load_that_is_under_way_is_not_removed(folder: Path, state: LoadState) -> None:
    kept = KeptLoad(LoadRequest("old", "a.json", "4f", "log"), 7, state)
    write_kept(folder / "load", kept)
    (folder / "db-000002").mkdir()
    with pytest.raises(MismatchError, match="a first load of manifest 4f is under way"):
        convert_codes(folder, CHANGE, options=QUICK)
    assert (folder / "db-000002").is_dir()
    write_kept(folder / "load", replace(kept, state=LoadState.ABORTED))
    assert convert_codes(folder, CHANGE, options=QUICK) is not None
