"""Files and store as sources of a build: places ascend, the position is that of the last one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.errors import BadInputError, UnavailableError
from core.pseudonyms import Pseudonyms
from core.types import ImageId, LogPosition, Tombstone
from search.index.columns import Kind
from storage.embeddings import EmbeddingsPage
from stream.index_build.sources import Deletes, FileSource, PlacedImage, StoreSource, deletes_of
from stream.start_plan import Log
from tests.stream.index_build.order import TOPIC_ID, pages, record, some_order, stored

CHECKSUMS = {2: 22, 7: 77}


def write(path: Path, places: list[int] | None, **columns: Any) -> Path:
    rows = len(places) if places is not None else 2
    values: dict[str, Any] = {
        "image_id": pa.array([f"i{row}" for row in range(rows)], pa.string()),
        "search": pa.array(list(np.ones((rows, 4), np.float16)), pa.list_(pa.float16())),
        "score": pa.array(list(np.ones((rows, 3), np.float32)), pa.list_(pa.float32())),
        "place": None if places is None else pa.array(places, pa.int64()),
        **columns,
    }
    pq.write_table(pa.table({name: column for name, column in values.items() if column is not None}), path)
    return path


def source(*paths: Path) -> FileSource:
    return FileSource(paths, 4, 3, Log("joined", TOPIC_ID, 0, 8), CHECKSUMS.get)


def test_files_give_their_images_up_to_the_last_place(tmp_path: Path) -> None:
    files = source(write(tmp_path / "a.parquet", [0, 2]), write(tmp_path / "b.parquet", [3, 7]))
    assert files.images == 4
    assert files.position == LogPosition(TOPIC_ID, 7, 77)
    images = list(files)
    assert [(image.place, image.image_id, image.version) for image in images] == [
        (0, "i0", 1),
        (2, "i1", 1),
        (3, "i0", 1),
        (7, "i1", 1),
    ]
    assert (len(images[0].search_vector), len(images[0].score_vector)) == (8, 12)
    assert list(files) == images


def test_no_images_are_an_index_that_starts_at_the_beginning(tmp_path: Path) -> None:
    files = source(write(tmp_path / "a.parquet", []))
    assert (files.images, files.position, list(files)) == (0, LogPosition(), [])


def test_what_cannot_be_a_source_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no column place"):
        source(write(tmp_path / "a.parquet", None))
    with pytest.raises(BadInputError, match="column place must hold whole numbers, it holds string"):
        source(write(tmp_path / "a.parquet", None, place=pa.array(["x", "y"])))
    with pytest.raises(BadInputError, match="end at place 5, and joined has no record there"):
        source(write(tmp_path / "a.parquet", [0, 5]))
    with pytest.raises(BadInputError, match="place 2 of 'i1' follows place 7: sort by place"):
        list(source(write(tmp_path / "a.parquet", [7, 2])))
    with pytest.raises(BadInputError, match="follows place 2"):
        list(source(write(tmp_path / "a.parquet", [2]), write(tmp_path / "b.parquet", [2])))
    with pytest.raises(BadInputError, match="place is null"):
        list(source(write(tmp_path / "a.parquet", [2, 2], place=pa.array([2, None], pa.int64()))))


def test_the_store_gives_all_pages_once(tmp_path: Path) -> None:
    order = some_order(80, 1)
    store = StoreSource(pages(order, size=7))
    rows = stored(order)
    assert store.images == len(rows)
    assert store.position.offset == 79
    images = list(store)
    assert [(image.place, image.image_id, image.version) for image in images] == [
        (row.place, row.image_id, row.version) for row in rows
    ]
    assert [image.kind for image in images] == [Kind.SKIPPED if row.unscored else Kind.SEARCHABLE for row in rows]
    with pytest.raises(UnavailableError, match="sent no embeddings"):
        StoreSource(iter(()))


GONE = [Tombstone(ImageId(name), 7, position, 1) for name, position in (("x", 9), ("y", 1), ("z", 5))]


def told(images: Iterable[PlacedImage]) -> list[tuple[int, str, Kind]]:
    return [(image.place, image.image_id, image.kind) for image in images]


def test_files_come_with_the_deletes_that_storage_knows_up_to_their_last_place(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [0, 2, 7])
    files = FileSource([path], 4, 3, Log("joined", TOPIC_ID, 0, 8), CHECKSUMS.get, Deletes(GONE))
    expected = [
        (0, "i0", Kind.SEARCHABLE),
        (1, "y", Kind.REMOVED),
        (2, "i1", Kind.SEARCHABLE),
        (5, "z", Kind.REMOVED),
        (7, "i2", Kind.SEARCHABLE),
    ]
    assert told(files) == expected == told(files)


def test_the_store_gives_its_deletes_among_its_images(tmp_path: Path) -> None:
    some = list(pages([record("a", 1), b"gone", record("c", 1)], size=1))
    state = replace(some[0].state, position=LogPosition(TOPIC_ID, 9, 0))
    some = [EmbeddingsPage(state, (), tuple(GONE[:2])), EmbeddingsPage(state, (), tuple(GONE[2:])), *some]
    assert told(StoreSource(iter(some))) == [
        (0, "a", Kind.SEARCHABLE),
        (1, "y", Kind.REMOVED),
        (2, "c", Kind.SEARCHABLE),
        (5, "z", Kind.REMOVED),
        (9, "x", Kind.REMOVED),
    ]
    unread = iter(some)
    assert deletes_of(unread) == Deletes(GONE)
    assert next(unread) is some[3]  # it stopped at the first rows
    nothing = EmbeddingsPage(replace(state, images=0), ())
    assert [place for place, _, _ in told(StoreSource(iter([*some[:2], nothing])))] == [1, 5, 9]


def test_files_give_no_image_that_was_forgotten(tmp_path: Path) -> None:
    names = Pseudonyms.fresh()
    gone = [Tombstone(names.of(ImageId("i1")), 1, 5, 1)]
    files = FileSource(
        [write(tmp_path / "a.parquet", [0, 2, 7])],
        4,
        3,
        Log("joined", TOPIC_ID, 0, 8),
        CHECKSUMS.get,
        Deletes(gone, names),
    )
    assert told(files) == [
        (0, "i0", Kind.SEARCHABLE),
        (5, names.of(ImageId("i1")), Kind.REMOVED),
        (7, "i2", Kind.SEARCHABLE),
    ]
    assert files.pseudonyms == names
