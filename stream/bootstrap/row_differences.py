"""What one row of a manifest says, beside what the service has of its image. Pure.

storage                               of a snapshot                      of a delta
a higher version                      explained                          explained
the same version, the row's head      right, at the row's place          right
the same version, another head        explained if it moved since        explained by what gave it its head
a lower version                       wrong                              wrong
a tombstone of the version            explained: deleted or forgotten    the same
nothing                               wrong                              wrong

An image has moved since a first load if it joined its cluster by a later change: the changes of the load are numbered
from 1 to the number of its images. A replay may give it another place, which comes after those of all rows. Rows that a
later row of the same image takes the place of say nothing.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from core.types import Cause, Membership, Tombstone, Trigger
from storage.selecting import SelectedImage

__all__ = [
    "Explained",
    "LoadedCounts",
    "ManifestRow",
    "RowDifference",
    "of_embeddings",
    "of_head",
    "of_membership",
    "of_tombstone",
]


class Explained(StrEnum):
    """Why a row may differ from what the service has."""

    HIGHER_VERSION = "another version of the image has come since"
    DELETED = "the image was deleted"
    FORGOTTEN = "the image was forgotten"
    STREAM = "the stream gave it another head"
    OVERRIDE = "an override gave it another head"
    ROLLBACK = "a rollback gave it another head"
    MANIFEST = "it joined the cluster where the head that its row names is now, or that overrides leave to it"
    HEAD_FORGOTTEN = "the head of its cluster was forgotten, and the cluster has another name"
    MOVED = "it was moved, and history does not say by what: it is swept, or a bulk move is under way"
    PLACED_ANEW = "a replay has given it a later place"
    KEPT = "the same version came otherwise than by the row, with other embeddings"


_BY_TRIGGER = {
    Trigger.STREAM: Explained.STREAM,
    Trigger.OVERRIDE: Explained.OVERRIDE,
    Trigger.ROLLBACK: Explained.ROLLBACK,
    Trigger.MANIFEST: Explained.MANIFEST,
    None: Explained.MOVED,
}


class ManifestRow(NamedTuple):
    """A row, the last one of its image."""

    row: int
    """Its number in the manifest."""
    image_id: str
    version: int
    head: str


class LoadedCounts(NamedTuple):
    """What a first load had."""

    rows: int
    """They have the places from 0 on."""
    images: int


class RowDifference(NamedTuple):
    """How a row differs from what the service has."""

    text: str
    explained: Explained | None = None
    """None: it should not."""


def of_membership(row: ManifestRow, found: Membership | None, loaded: LoadedCounts | None) -> RowDifference | None:
    """What storage knows of the image; None: all is as the row says. It may be explained once more is asked.

    Args:
        row: The row.
        found: What storage knows; None: no such image.
        loaded: The first load that the row is of; None: the row is of a delta.
    """
    if found is None:
        return RowDifference("storage does not have it")
    if found.version > row.version:
        text = f"it has version {row.version}, and storage has version {found.version}"
        return RowDifference(text, Explained.HIGHER_VERSION)
    if found.version < row.version:
        return RowDifference(f"it has version {row.version}, and storage has version {found.version}")
    if found.head != row.head:
        return RowDifference(f"it names the head {row.head!r}, and storage has {found.head!r}")
    if loaded is None or found.place == row.row:
        return None
    text = f"storage has it at place {found.place}"
    return RowDifference(text, Explained.PLACED_ANEW if found.place >= loaded.rows else None)


def of_head(row: ManifestRow, found: SelectedImage, loaded: LoadedCounts | None) -> RowDifference:
    """The same version has another head: why?

    Args:
        row: The row.
        found: With its trigger.
        loaded: As in `of_membership`.
    """
    image = found.image
    text = f"it names the head {row.head!r}, and storage has {image.head!r}"
    if loaded is not None and image.edge_sequence <= loaded.images:
        return RowDifference(f"{text}, where nothing has moved it")
    if image.cause is Cause.RENAMED:
        return RowDifference(text, Explained.HEAD_FORGOTTEN)
    return RowDifference(text, _BY_TRIGGER[found.trigger])


def of_tombstone(row: ManifestRow, found: Tombstone, forgotten: bool) -> RowDifference:
    """The image is gone."""
    if found.version < row.version:
        return RowDifference(f"storage does not have it, and deleted version {found.version} alone")
    text = f"deleted by the record at position {found.position}"
    return RowDifference(text, Explained.FORGOTTEN if forgotten else Explained.DELETED)


def of_embeddings(
    row: ManifestRow, found: SelectedImage, search: bytes, score: bytes, *, by_row: bool
) -> RowDifference | None:
    """What is wrong with stored embeddings.

    Args:
        row: The row.
        found: With its embeddings.
        search: Of the row.
        score: Of the row.
        by_row: Whether the image came by the row; else the same version had come before, and was kept.
    """
    if found.image.version != row.version:
        return None  # another one has come since
    stored = found.embedding
    if stored is None:
        return RowDifference("storage has no embeddings")
    if (stored.search_vector, stored.score_vector) == (search, score):
        return None
    return RowDifference("storage has other embeddings", None if by_row else Explained.KEPT)
