"""Gives a store that is not in use other score codes: all of them, or it stays as it was.

    1. a copy of the database is made beside it, in a folder that ends in `.new`; tables are linked, not copied
    2. in the copy, each embedding and each founding code is written anew; nothing else is
    3. the copy gets its name, and `store.json` is replaced: it names the copy and the new identity (`marker`)
    4. the old database is removed

The database in use stays locked meanwhile. A kill before the third step leaves the store as it was, and a kill after it
leaves an old database that nobody opens. The next conversion removes what was left.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from core.errors import MismatchError
from core.files import sync_folder
from storage import codec
from storage.errors import CorruptedError, LockedError
from storage.interfaces import StoreView
from storage.loading.kept import read_kept
from storage.new_codes import FoundingSource, Recode, new_embeddings, new_founding
from storage.rocks.database import AFTER_ALL, Database, KeyRange, Write
from storage.rocks.marker import next_database, read_marker, remove_databases, write_marker
from storage.rocks.options import RocksOptions
from storage.rocks.store import RocksStore

__all__ = ["CodeChange", "ConvertedCodes", "convert_codes", "stored_identity"]

_DRAFT = ".new"

_CLUSTERS_AT_ONCE = 1000
"""In one write."""


@dataclass(frozen=True, slots=True)
class CodeChange:
    """Which codes a store has, and which it gets."""

    before: str
    """The identity of the store that has the old codes."""
    after: str
    """The identity of the store that has the new codes."""
    bits: int
    """The leading bits of an old code, which tell how like two images are."""
    recode: Recode
    """Makes the new codes."""


@dataclass(frozen=True, slots=True)
class ConvertedCodes:
    """What a conversion wrote."""

    images: int
    """Images whose code was made anew; those without a code are not among them."""
    clusters: int
    """Clusters whose founding code was made anew."""
    from_members: int
    """Clusters whose founding code is now that of the member most like it: its own vectors are gone."""
    without: int
    """Clusters that have no founding code any more, since no member has one: nothing will join them."""


def stored_identity(folder: Path) -> str | None:
    """What the store in a folder was made for; None: there is no complete store.

    Raises:
        StorageError: The store has another format, or `store.json` is damaged.
    """
    marker = read_marker(folder)
    return None if marker is None else marker.identity


def convert_codes(
    folder: Path,
    change: CodeChange,
    on_progress: Callable[[int, int], None] | None = None,
    options: RocksOptions | None = None,
) -> ConvertedCodes | None:
    """Gives the store in a folder other score codes, and removes what an earlier conversion left.

    Args:
        folder: The folder of a store.
        change: The codes. If the store has the new identity already, nothing but leftovers is removed.
        on_progress: Called with the number of images and clusters that are done, and with that of all.
        options: The settings of RocksDB.

    Returns:
        What was written; None: the store has these codes already.

    Raises:
        LockedError: A server has the store open, or another conversion runs.
        IncompatibleError: The store has another identity or format.
        BadInputError: An image has no vectors. The store stays as it was.
        MismatchError: A first load is under way, whose codes are the old ones. The store stays as it was.
        DiskFullError: The disk is full. The store stays as it was.
        StorageError: The store is damaged.
    """
    options = options or RocksOptions()
    with _alone(folder):
        marker = read_marker(folder)
        if marker is None:
            raise CorruptedError(f"{folder} holds no complete store")
        converted = marker.identity == change.after
        with closing(RocksStore(folder, change.after if converted else change.before, options)) as store:
            _check_no_load(store)
            remove_databases(folder, {marker.database})
            if converted:
                return None
            name = next_database(marker.database)
            draft = folder / f"{name}{_DRAFT}"
            try:
                store.copy_database(draft)
                with (
                    closing(Database(draft, options, create=False)) as database,
                    store.snapshot() as view,
                ):
                    found = _convert(view, database, change, on_progress or _nobody)
                draft.rename(folder / name)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
            sync_folder(folder)
            write_marker(folder, change.after, name)
        remove_databases(folder, {name})
    return found


def _check_no_load(store: RocksStore) -> None:
    kept = None if store.first_load() else read_kept(store.load_folder)
    if kept is not None and kept.is_active:
        raise MismatchError(
            f"a first load of manifest {kept.request.manifest_id} is under way: start the server and let it become "
            "live, or abort it, then convert"
        )


def _convert(
    view: StoreView, database: Database, change: CodeChange, on_progress: Callable[[int, int], None]
) -> ConvertedCodes:
    state = view.state()
    total, done, images = state.images + state.clusters, 0, 0
    for batch in new_embeddings(view.embeddings(), change.recode):
        database.write(
            ("embeddings", codec.place_key(one.place), codec.encode_embedding(one)) for one in batch if one.score_code
        )
        images += sum(bool(one.score_code) for one in batch)
        done += len(batch)
        on_progress(done, total)

    def code_at(place: int) -> bytes:
        key = codec.place_key(place)
        value = database.get("embeddings", key)
        if value is None:
            raise CorruptedError(f"the new code of place {place} is missing")
        return codec.decode_embedding(key, value).score_code

    sources: Counter[FoundingSource] = Counter()
    writes: list[Write] = []
    for cluster in view.clusters():
        changed, source = new_founding(view, cluster, change.bits, code_at)
        sources[source] += 1
        writes.append(("clusters", codec.image_key(changed.head), codec.encode_cluster(changed)))
        if len(writes) == _CLUSTERS_AT_ONCE:
            database.write(writes)
            done += len(writes)
            writes = []
            on_progress(done, total)
    # The vectors of most of them are gone, so their codes cannot be made anew.
    database.write(writes, [KeyRange("ended", b"", AFTER_ALL)])
    on_progress(total, total)
    return ConvertedCodes(
        images=images,
        clusters=sources[FoundingSource.SAME] + sources[FoundingSource.MEMBER],
        from_members=sources[FoundingSource.MEMBER],
        without=sources[FoundingSource.NOTHING],
    )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other conversion of this store runs meanwhile."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(f"the store in {folder} is being converted by another process") from None
        yield
    finally:
        os.close(handle)


def _nobody(done: int, total: int) -> None:
    """Tells nobody."""
