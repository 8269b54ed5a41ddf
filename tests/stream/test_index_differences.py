"""What is said of one image, by what storage and the index have of it. The servers are in `test_index_comparison`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.pseudonyms import Pseudonyms
from core.types import Cause, ImageId, LogPosition, Lookup, Membership, Tombstone, Versions
from search.serving import search_pb2 as pb
from storage.records import EmbeddingRecord, ImageRecord
from storage.selecting import SelectedImage
from stream.index_differences import Difference, Remedy, of_delete, of_image, of_listed

CODE = b"code"
IMAGE = ImageRecord(ImageId("a"), 2, 5, ImageId("a"), None, None, Cause.FOUNDED, 0, 0, 0, Versions("", ""), 1)
STORED = SelectedImage(IMAGE, True, EmbeddingRecord(5, ImageId("a"), 2, CODE, b"", b""))
UNSCORED = SelectedImage(replace(IMAGE, unscored=True), True, STORED.embedding)
TOMBSTONE = Tombstone(ImageId("a"), 2, 5, 0)


def placed(version: int = 2, place: int = 5, image_id: str = "a", **fields: object) -> pb.StoredImage:
    return pb.StoredImage(image_id=image_id, image_version=version, place=place, **fields)  # type: ignore[arg-type]


FOUND = placed(score_code=CODE)
DELETED = placed(deleted=True, hidden=True)


@pytest.mark.parametrize(
    ("stored", "index", "said"),
    [
        (STORED, FOUND, None),
        (STORED, None, "the index does not have it"),
        (STORED, placed(hidden=True), "the index hides it"),
        (STORED, placed(score_code=b"other"), "its score code in the index is another one"),
        (STORED, placed(1), "the index has version 1 at place 5, storage has version 2 at place 5"),
        (STORED, placed(place=4), "the index has version 2 at place 4, storage has version 2 at place 5"),
        (UNSCORED, None, None),
        (UNSCORED, placed(hidden=True), None),
        (UNSCORED, placed(place=9, hidden=True), None),
        (UNSCORED, placed(3, 9, hidden=True), "the index has version 3 at place 9, storage has version 2 at place 5"),
        (UNSCORED, FOUND, "it was not scored, and the index finds it"),
    ],
)
def test_an_image_of_storage(stored: SelectedImage, index: pb.StoredImage | None, said: str | None) -> None:
    assert of_image(stored, index) == (None if said is None else Difference(said))


@pytest.mark.parametrize("stored", [STORED, UNSCORED])
def test_an_image_of_storage_that_the_index_deleted(stored: SelectedImage) -> None:
    said = "the index deleted version 3 at place 9, storage has version 2 at place 5"
    assert of_image(stored, placed(3, 9, deleted=True, hidden=True)) == Difference(said, Remedy.DELETE)


@pytest.mark.parametrize(
    ("index", "said"),
    [
        (DELETED, None),
        (None, "the index does not know that storage deleted version 2 at position 5"),
        (FOUND, "the index has version 2 at place 5, storage deleted version 2 at position 5"),
        (placed(1, 3, hidden=True), "the index has version 1 at place 3, storage deleted version 2 at position 5"),
        (placed(3, 5, deleted=True), "the index deleted version 3 at place 5, storage deleted version 2 at position 5"),
        (placed(2, 6, deleted=True), "the index deleted version 2 at place 6, storage deleted version 2 at position 5"),
    ],
)
def test_a_tombstone_of_storage(index: pb.StoredImage | None, said: str | None) -> None:
    assert of_delete(TOMBSTONE, index) == (None if said is None else Difference(said))


def storage(image: tuple[int, int] | None = None, tombstone: Tombstone | None = None, offset: int = 99) -> Lookup:
    """What storage says of the image: version and place, or a tombstone."""
    name = ImageId("a")
    return Lookup(
        LogPosition("log", offset, 0),
        0,
        {} if image is None else {name: Membership(name, *image, name)},
        tombstones={} if tombstone is None else {name: tombstone},
    )


@pytest.mark.parametrize(
    ("listed", "says", "told"),
    [
        (FOUND, storage((2, 5)), None),
        (FOUND, storage((3, 8)), Difference("the index has version 2 at place 5, storage has version 3 at place 8")),
        (FOUND, storage(), Difference("the index has version 2 at place 5, storage does not know it", Remedy.SEND)),
        (
            placed(2, 4),
            storage(tombstone=TOMBSTONE),
            Difference("the index has version 2 at place 4, storage deleted version 2 at position 5"),
        ),
        (DELETED, storage(tombstone=TOMBSTONE), None),
        (
            placed(2, 7, deleted=True),
            storage(tombstone=TOMBSTONE),
            Difference("the index deleted version 2 at place 7, storage deleted version 2 at position 5"),
        ),
        (
            DELETED,
            storage((3, 8)),
            Difference("the index deleted version 2 at place 5, storage has version 3 at place 8", Remedy.DELETE),
        ),
        (
            DELETED,
            storage(),
            Difference("the index deleted version 2 at place 5, storage does not know it", Remedy.DELETE),
        ),
    ],
)
def test_what_the_index_holds(listed: pb.StoredImage, says: Lookup, told: Difference | None) -> None:
    assert of_listed(listed, says) == told


@pytest.mark.parametrize("says", [storage(offset=4), storage((1, 2), offset=4)])
def test_what_storage_has_not_come_to_is_on_its_way(says: Lookup) -> None:
    assert of_listed(FOUND, says) is None
    assert of_listed(DELETED, says) is None


def test_an_erased_delete_cannot_be_named_but_an_image_can() -> None:
    name = Pseudonyms.fresh().of(ImageId("a"))
    assert of_listed(placed(image_id=name, deleted=True), storage()) is None
    assert of_listed(placed(image_id=name), storage()) is not None
