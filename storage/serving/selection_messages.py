"""Conversion between selections of a store and the messages of `storage.proto`."""

from __future__ import annotations

from core.types import Cause, ImageId, Trigger, Versions
from storage.records import EmbeddingRecord, ImageRecord
from storage.selecting import ImageSelection, SelectedImage, SelectedPage
from storage.serving import storage_pb2 as pb

__all__ = [
    "read_selection",
    "selected_of",
    "selected_page_message",
    "selected_page_of",
    "selection_message",
    "verdict_message",
]


def selection_message(selection: ImageSelection) -> pb.SelectRequest:
    """A selection as a message."""
    return pb.SelectRequest(
        head=selection.head,
        since_ms=selection.since_ms,
        until_ms=selection.until_ms,
        causes=sorted(selection.causes),
    )


def read_selection(message: pb.SelectRequest) -> ImageSelection:
    """A selection from its message.

    Raises:
        BadInputError: The time ends before it begins.
        ValueError: There is no such cause.
    """
    return ImageSelection(
        head=ImageId(message.head) if message.HasField("head") else None,
        since_ms=message.since_ms if message.HasField("since_ms") else None,
        until_ms=message.until_ms if message.HasField("until_ms") else None,
        causes=frozenset(map(Cause, message.causes)),
    )


def verdict_message(selected: SelectedImage) -> pb.StoredVerdict:
    """The last verdict on an image as a message."""
    image, embedding = selected.image, selected.embedding
    return pb.StoredVerdict(
        image_id=image.image_id,
        version=image.version,
        place=image.place,
        head=image.head,
        cause=image.cause,
        score=image.score,
        matched=image.matched,
        model_version=image.versions.model,
        index_version=image.versions.index,
        decided_at_ms=image.decided_at_ms,
        created_at_ms=image.created_at_ms,
        arrived_at_ms=image.arrived_at_ms,
        truncated=image.truncated,
        unscored=image.unscored,
        replayable=selected.replayable,
        score_code=b"" if embedding is None else embedding.score_code,
        search_vector=b"" if embedding is None else embedding.search_vector,
        score_vector=b"" if embedding is None else embedding.score_vector,
        edge_sequence=image.edge_sequence,
        trigger=selected.trigger or "",
    )


def selected_of(message: pb.StoredVerdict) -> SelectedImage:
    """The last verdict on an image from its message."""
    image = ImageRecord(
        image_id=ImageId(message.image_id),
        version=message.version,
        place=message.place,
        head=ImageId(message.head),
        score=message.score if message.HasField("score") else None,
        matched=ImageId(message.matched) if message.HasField("matched") else None,
        cause=Cause(message.cause),
        decided_at_ms=message.decided_at_ms,
        created_at_ms=message.created_at_ms,
        arrived_at_ms=message.arrived_at_ms,
        versions=Versions(message.model_version, message.index_version),
        edge_sequence=message.edge_sequence,
        truncated=message.truncated,
        unscored=message.unscored,
    )
    vectors = message.score_code, message.search_vector, message.score_vector
    embedding = EmbeddingRecord(image.place, image.image_id, image.version, *vectors) if any(vectors) else None
    return SelectedImage(image, message.replayable, embedding, Trigger(message.trigger) if message.trigger else None)


def selected_page_message(page: SelectedPage) -> pb.SelectResponse:
    """A page of a selection as a message."""
    images = [verdict_message(each) for each in page.images]
    return pb.SelectResponse(images=images, looked_at=page.looked_at, total=page.total)


def selected_page_of(message: pb.SelectResponse) -> SelectedPage:
    """A page of a selection from its message."""
    return SelectedPage(tuple(map(selected_of, message.images)), message.looked_at, message.total)
