"""What a row of a manifest differs in, and what explains it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.types import Cause, ImageId, Membership, Tombstone, Trigger, Versions
from storage.records import EmbeddingRecord, ImageRecord
from storage.selecting import SelectedImage
from stream.bootstrap.row_differences import (
    Explained,
    LoadedCounts,
    ManifestRow,
    RowDifference,
    of_embeddings,
    of_head,
    of_membership,
    of_tombstone,
)

ROW = ManifestRow(7, "x", 2, "h")
LOADED = LoadedCounts(rows=120, images=100)
X, H, OTHER = ImageId("x"), ImageId("h"), ImageId("other")


@pytest.mark.parametrize(
    ("found", "loaded", "expected"),
    [
        (Membership(X, 2, 7, H), LOADED, None),
        (Membership(X, 2, 300, H), None, None),
        (None, LOADED, RowDifference("storage does not have it")),
        (Membership(X, 3, 300, OTHER), LOADED, RowDifference("", Explained.HIGHER_VERSION)),
        (Membership(X, 1, 7, H), LOADED, RowDifference("it has version 2, and storage has version 1")),
        (Membership(X, 2, 7, OTHER), LOADED, RowDifference("it names the head 'h', and storage has 'other'")),
        (Membership(X, 2, 6, H), LOADED, RowDifference("storage has it at place 6")),
        (Membership(X, 2, 8, H), LOADED, RowDifference("storage has it at place 8")),
        (Membership(X, 2, 119, H), LOADED, RowDifference("storage has it at place 119")),
        (Membership(X, 2, 120, H), LOADED, RowDifference("storage has it at place 120", Explained.PLACED_ANEW)),
    ],
)
def test_what_storage_knows(
    found: Membership | None, loaded: LoadedCounts | None, expected: RowDifference | None
) -> None:
    difference = of_membership(ROW, found, loaded)
    if expected is None:
        assert difference is None
        return
    assert difference is not None
    assert difference.explained is expected.explained
    assert expected.text in difference.text


def selected(sequence: int = 101, **fields: object) -> SelectedImage:
    image = ImageRecord(X, 2, 7, OTHER, 0.5, None, Cause.MATCHED, 1, 1, 1, Versions(), sequence)
    return SelectedImage(replace(image, **fields), True, trigger=Trigger.STREAM)  # type: ignore[arg-type]


def test_an_image_that_never_moved_since_the_load_has_no_excuse() -> None:
    assert of_head(ROW, selected(100), LOADED).explained is None
    assert "where nothing has moved it" in of_head(ROW, selected(100), LOADED).text
    assert of_head(ROW, selected(101), LOADED).explained is Explained.STREAM
    assert of_head(ROW, selected(100), None).explained is Explained.STREAM


@pytest.mark.parametrize(
    ("trigger", "expected"),
    [
        (Trigger.STREAM, Explained.STREAM),
        (Trigger.OVERRIDE, Explained.OVERRIDE),
        (Trigger.ROLLBACK, Explained.ROLLBACK),
        (Trigger.MANIFEST, Explained.MANIFEST),
        (None, Explained.MOVED),
    ],
)
def test_history_says_what_moved_it(trigger: Trigger | None, expected: Explained) -> None:
    assert of_head(ROW, replace(selected(), trigger=trigger), LOADED).explained is expected
    renamed = replace(selected(cause=Cause.RENAMED), trigger=trigger)
    assert of_head(ROW, renamed, LOADED).explained is Explained.HEAD_FORGOTTEN


def test_a_delete_of_an_earlier_version_explains_nothing() -> None:
    tombstone = Tombstone(X, 2, 300, 1, "me", "")
    assert of_tombstone(ROW, tombstone, forgotten=False).explained is Explained.DELETED
    assert of_tombstone(ROW, tombstone, forgotten=True).explained is Explained.FORGOTTEN
    assert of_tombstone(ROW, replace(tombstone, version=1), forgotten=True).explained is None


def test_embeddings_must_be_equal_byte_by_byte() -> None:
    stored = EmbeddingRecord(7, X, 2, b"code", b"search", b"score")
    same = replace(selected(), embedding=stored)
    for by_row in (True, False):
        assert of_embeddings(ROW, same, b"search", b"score", by_row=by_row) is None
        for search, score in ((b"Search", b"score"), (b"search", b"scorE")):
            wrong = of_embeddings(ROW, same, search, score, by_row=by_row)
            assert wrong == RowDifference("storage has other embeddings", None if by_row else Explained.KEPT)
        # However it came: what is not there was not kept.
        lost = of_embeddings(ROW, selected(), b"", b"", by_row=by_row)
        assert lost == RowDifference("storage has no embeddings")
        assert of_embeddings(ROW, selected(version=3), b"", b"", by_row=by_row) is None
