"""What rows become: the same bytes as records would, and a name for what cannot be stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.errors import BadInputError
from core.types import Cause, ImageId, Trigger, Versions
from manifests.folder import LocalFolder
from manifests.rows import NumberedBatch, read_rows
from storage import codec
from storage.loading.rows import FOUNDING, LoadedRows, RowWriter
from storage.records import Edge, EmbeddingRecord, HistoryEntry, ImageRecord
from tests.support.loadable import SIGNAL, LoadableRow, made_codes, random_rows, write_manifest

AT_MS = 1_700_000_000_000


def batches(root: Path, rows: list[LoadableRow], *, codes: bool = True) -> list[NumberedBatch]:
    manifest = write_manifest(root, rows, codes=codes)
    return list(read_rows(LocalFolder(root), manifest, SIGNAL, root, 16))


def superseded(rows: list[LoadableRow]) -> list[int]:
    last = {row.image_id: number for number, row in enumerate(rows)}
    return [number for number, row in enumerate(rows) if last[row.image_id] != number]


def written(root: Path, rows: list[LoadableRow], *, codes: bool = True) -> LoadedRows:
    writer = RowWriter(AT_MS, made_codes, np.array(superseded(rows), np.int64))
    whole = LoadedRows()
    for numbered in batches(root, rows, codes=codes):
        part = writer.written(numbered, whole.numbers)
        whole.rows += part.rows
        whole.numbers += part.numbers
        for family, pairs in part.pairs.items():
            whole.pairs[family] += pairs
    return whole


@pytest.mark.parametrize("codes", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_they_are_what_the_codec_makes_of_records(tmp_path: Path, seed: int, codes: bool) -> None:
    rows = random_rows(seed, 70)
    found = written(tmp_path, rows, codes=codes)
    gone, number = set(superseded(rows)), 0
    wanted: dict[str, list[tuple[bytes, bytes]]] = {family: [] for family in found.pairs}
    for place, row in enumerate(rows):
        if row.head == row.image_id or (row.head is None and row.founding is not None):
            wanted[FOUNDING].append((codec.edge_key(row.image_id, place), row.founding or row.code))
        if place in gone:
            continue
        number += 1
        assert row.head is not None
        cause = row.cause or Cause.BOOTSTRAPPED
        image = ImageRecord(
            image_id=row.image_id,
            version=row.version,
            place=place,
            head=row.head,
            score=row.score,
            matched=row.matched,
            cause=cause,
            decided_at_ms=AT_MS,
            created_at_ms=row.created_at_ms,
            arrived_at_ms=AT_MS,
            versions=Versions("m1"),
            edge_sequence=number,
        )
        entry = HistoryEntry(
            number=number,
            image_id=row.image_id,
            old_head=None,
            new_head=row.head,
            cause=cause,
            score=row.score,
            matched=row.matched,
            place=place,
            offset=place,
            version=row.version,
            decided_at_ms=AT_MS,
            created_at_ms=row.created_at_ms,
            arrived_at_ms=AT_MS,
            versions=Versions("m1"),
            trigger=Trigger.MANIFEST,
        )
        search, score = (vector.tobytes() for vector in row.vectors)
        embedding = EmbeddingRecord(place, row.image_id, row.version, row.code, search, score)
        key = codec.image_key(row.image_id)
        wanted["images"].append((key, codec.encode_image(image)))
        wanted["edges"].append((codec.edge_key(row.head, number), key))
        wanted["history"].append((codec.encode_number(number), codec.encode_history(entry)))
        wanted["history_of"].append((codec.edge_key(row.image_id, number), b""))
        wanted["embeddings"].append((codec.place_key(place), codec.encode_embedding(embedding)))
        assert codec.decode_history(*wanted["history"][-1]) == entry
        assert codec.decode_edge(*wanted["edges"][-1]) == Edge(row.head, number, row.image_id)
    assert found.pairs == wanted
    assert (found.rows, found.numbers) == (len(rows), number)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (LoadableRow(ImageId("x" * 257), ImageId("a")), "row 1: column image_id is no id"),
        (LoadableRow(ImageId("b"), ImageId("x" * 257)), "row 1: column head is no id"),
        (LoadableRow(ImageId("b"), ImageId("a"), matched=ImageId("x" * 257)), "row 1: column matched is no id"),
    ],
)
def test_what_is_no_id_is_named(tmp_path: Path, row: LoadableRow, said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        written(tmp_path, [LoadableRow(ImageId("a"), ImageId("a")), row])


@pytest.mark.parametrize(("value", "said"), [(np.inf, "infinite"), (np.nan, "not a number"), (0.0, "are zero")])
def test_vectors_that_the_stream_would_not_take_are_named(tmp_path: Path, value: float, said: str) -> None:
    (numbered,) = batches(tmp_path, [LoadableRow(ImageId(each), ImageId("a")) for each in "abc"])
    search = numbered.batch.images.search.copy()
    search[2] = value
    images = replace(numbered.batch.images, search=search)
    bad = replace(numbered, batch=replace(numbered.batch, images=images))
    with pytest.raises(BadInputError, match=rf"part-000000\.parquet: row 2: column search .*{said}"):
        RowWriter(AT_MS, made_codes, np.zeros(0, np.int64)).written(bad, 0)
