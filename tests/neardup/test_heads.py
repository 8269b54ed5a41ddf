"""The heads of all images: after each record, and of a first load from the files of its manifest."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

from core.types import NO_HEAD, Cause, ImageId, Versions
from neardup.events import Assignment, LoadedManifest
from neardup.heads import apply_change, loaded_heads
from storage.records import FirstLoad, HistoryEntry
from storage.serving.assignments import load_message, message_of
from storage.testing.decisions import EPOCH

ROWS = [[("a", "a"), ("b", None)], [], [("b", "a"), ("ä/c", "ä/c"), ("a", "ä/c")]]
HEADS = [("a", "a"), ("b", "a"), ("ä/c", "ä/c"), ("a", "ä/c")]


def load_in(folder: Path, name: str) -> LoadedManifest:
    """The load of a manifest with `ROWS`; dictionaries and other columns are in its files too."""
    for number, rows in enumerate(ROWS):
        ids, heads = (
            pa.array([each for each, _ in rows], pa.string()),
            pa.array([each for _, each in rows], pa.string()),
        )
        columns = {"head": heads, "place": pa.array(range(len(rows))), "image_id": ids.dictionary_encode()}
        (folder / "data").mkdir(exist_ok=True)
        pq.write_table(pa.table(columns), folder / "data" / f"{number}.parquet", row_group_size=2)
    (folder / "manifests").mkdir()
    files = [{"path": f"data/{number}.parquet"} for number in range(len(ROWS))]
    (folder / "manifests" / "a.json").write_text(json.dumps({"files": files}), encoding="utf-8")
    return LoadedManifest(name, "a.json", "4f0c", 1, 5, 3, 2)


def test_images_come_in_the_order_of_their_rows(tmp_path: Path) -> None:
    assert list(loaded_heads(load_in(tmp_path, str(tmp_path)))) == HEADS


def test_another_store_is_given_with_the_folder_in_it(tmp_path: Path) -> None:
    (tmp_path / "bucket" / "old").mkdir(parents=True)
    load = load_in(tmp_path / "bucket" / "old", "s3://bucket/old")
    assert list(loaded_heads(load, SubTreeFileSystem(str(tmp_path), LocalFileSystem()))) == HEADS


@pytest.mark.parametrize("gone", ["manifests/a.json", "data/2.parquet"])
def test_a_file_that_is_gone_is_told(tmp_path: Path, gone: str) -> None:
    load = load_in(tmp_path, str(tmp_path))
    (tmp_path / gone).unlink()
    with pytest.raises(OSError, match=gone):
        list(loaded_heads(load))


def change(image_id: str, head: str) -> Assignment:
    entry = HistoryEntry(
        number=9,
        image_id=ImageId(image_id),
        old_head=None,
        new_head=ImageId(head),
        cause=Cause.MATCHED,
        score=None,
        matched=None,
        place=0,
        offset=0,
        version=1,
        decided_at_ms=0,
        created_at_ms=0,
        arrived_at_ms=0,
        versions=Versions(),
    )
    return Assignment.from_json(message_of(entry, EPOCH).value)


def test_records_are_applied_one_by_one(tmp_path: Path) -> None:
    load_in(tmp_path, str(tmp_path))
    load = FirstLoad("4f0c", str(tmp_path), "a.json", 5, 3, 2, 1_000, 2_000)
    began = Assignment.from_json(load_message(load, EPOCH).value)
    loaded = {"a": "ä/c", "b": "a", "ä/c": "ä/c"}
    heads: dict[str, str] = {}
    for record, expected in (
        (change("of a store before", "a"), {"of a store before": "a"}),
        (began, loaded),
        (change("b", "ä/c"), {**loaded, "b": "ä/c"}),
        (change("b", NO_HEAD), {"a": "ä/c", "ä/c": "ä/c"}),
        (change("forgotten:0", NO_HEAD), {"a": "ä/c", "ä/c": "ä/c"}),
    ):
        apply_change(heads, record)
        assert heads == expected
